"""The columns without a rule that look personal, by their name or by a sample of their contents.

A column whose values are those of a column that is judged is not judged itself: a validated foreign key refers from it.
Neither is a column that the target computes. One that only the source computes is copied and judged like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from confiture.catalog_model import Catalog, Column, Table
from confiture.errors import Refused
from confiture.masking.assignment import Assignment
from confiture.masking.contents import sampled
from confiture.masking.families import Family, family
from confiture.masking.groups import Place
from confiture.masking.model import Kind, MaskFile, Masks, Rule, Suspicion
from confiture.masking.personal_names import personal
from confiture.postgres.session import Transaction
from confiture.types import TableRef, counted, quoted, short_names
from confiture.yaml_nodes import as_written

#: The empty values of types that hold texts and have no rule of their own.
_EMPTY = {"hstore": "", "tsvector": "", "xml": "<empty/>"}


@dataclass(frozen=True, slots=True)
class Detection:
    """The columns without a rule that look personal, and the tables whose contents could not be sampled."""

    suspicions: tuple[Suspicion, ...]
    unsampled: tuple[TableRef, ...]


def detect(tx: Transaction, source: Catalog, target: Catalog, masks: Masks) -> Detection:
    """Find the columns that look personal and have no rule.

    :param tx: a transaction of the source; it may be read-only.
    :param masks: of the columns that have a rule.
    """
    fits = Assignment(source, target, MaskFile())
    referred = _referred(fits)
    suspicions: list[Suspicion] = []
    unsampled: list[TableRef] = []
    for table in fits.tables.values():
        columns = [column for column in table.columns if _is_judged(fits, referred, table, column, masks)]
        by_name = {c.name: shown for c in columns if (shown := personal(table, c)) is not None}
        for column in columns:
            if column.name in by_name:
                shown = by_name[column.name]
                rule = _suggested(fits, table, column, shown.rules)
                suspicions.append(Suspicion(table.ref, column.name, f"by its name {shown.label}", rule))
        found = sampled(tx, table, [column for column in columns if column.name not in by_name])
        if found is None:
            unsampled.append(table.ref)
        for each in found or ():
            rule = _suggested(fits, table, each.column, each.check.rules)
            suspicions.append(Suspicion(table.ref, each.column.name, each.why, rule))
        suspicions += _derived(fits, table, columns, masks, suspicions)
    places = {(t.ref, c.name): (t.ref, n) for t in fits.tables.values() for n, c in enumerate(t.columns)}
    return Detection(tuple(sorted(suspicions, key=lambda s: places[s.table, s.column])), tuple(unsampled))


def _is_judged(
    fits: Assignment, referred: Mapping[Place, Collection[Place]], table: Table, column: Column, masks: Masks
) -> bool:
    target = fits.target.by_ref[table.ref].column(column.name)
    if target is None or target.generated:
        return False
    place = (table.ref, column.name)
    return place not in masks.by_column and not _leads_to_end(place, referred)


def _referred(fits: Assignment) -> Mapping[Place, Collection[Place]]:
    """The columns of the sync that each column refers to by a foreign key that holds for every row."""
    found: defaultdict[Place, set[Place]] = defaultdict(set)
    for table in fits.tables.values():
        for key in table.foreign_keys:
            parent = fits.tables.get(key.references)
            if parent is None or not key.validated:
                continue
            into = fits.target.by_ref[parent.ref]
            for name, referenced in zip(key.columns, key.ref_columns, strict=True):
                if into.column(referenced) is not None and (parent.ref, referenced) != (table.ref, name):
                    found[table.ref, name].add((parent.ref, referenced))
    return found


def _leads_to_end(place: Place, referred: Mapping[Place, Collection[Place]]) -> bool:
    """Whether foreign keys lead from the column to one that refers to no other. Those of a cycle may lead to none."""
    seen, waiting = {place}, [place]
    while waiting:
        for each in referred.get(waiting.pop(), ()):
            if not referred.get(each):
                return True
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    return False


def _derived(
    fits: Assignment, table: Table, columns: Sequence[Column], masks: Masks, found: Sequence[Suspicion]
) -> Iterator[Suspicion]:
    """The columns with the words of personal ones of their table: of type tsvector, or computed by the source."""
    known = {suspicion.column for suspicion in found if suspicion.table == table.ref}
    if not known and not any(mask.is_masked for mask in masks.of(table.ref).values()):
        return
    for column in columns:
        is_search = column.base_name == "tsvector" and column.base_builtin
        if column.name not in known and (is_search or column.generated):
            why = (
                "by its type the words of personal columns"
                if is_search
                else "computed by the source from other columns"
            )
            yield Suspicion(table.ref, column.name, why, _suggested(fits, table, column, ()))


def _suggested(fits: Assignment, table: Table, column: Column, rules: Sequence[Rule]) -> Rule:
    """The first rule that the column can have."""
    empty = _empty(column)
    documents = (Rule(Kind.CONSTANT, value=empty), Rule(Kind.NULL)) if empty is not None else ()
    candidates = (*documents, *rules, Rule(Kind.HASH), Rule(Kind.UUID), Rule(Kind.NULL))
    return next((rule for rule in candidates if fits.accepts(table, column, rule)), Rule(Kind.KEEP))


def _empty(column: Column) -> str | None:
    """The empty value of a document, an array or another type that holds texts; None for other types."""
    is_array = column.base_name.startswith("_")
    return "{}" if family(column) is Family.JSON or is_array else _EMPTY.get(column.base_name)


def suggestion(suspicions: Sequence[Suspicion], file: MaskFile) -> str:
    """The entries for the mask file, to be pasted.

    :param file: a table that it has already is named in a comment, because a table has one entry.
    """
    names = short_names({suspicion.table for suspicion in suspicions})
    return "\n".join(_entries(suspicions, names, file))


def _entries(suspicions: Sequence[Suspicion], names: dict[TableRef, str], file: MaskFile) -> Iterator[str]:
    lines = {(entry.table.schema, entry.table.name): entry.table.at.line for entry in file.tables}
    last: TableRef | None = None
    for suspicion in suspicions:
        ref = suspicion.table
        if ref != last:
            line = lines.get((ref.schema, ref.name)) or lines.get((None, ref.name))
            yield f"{_table(ref, names)}:" + (f"  # add to its entry in line {line}" if line is not None else "")
            last = ref
        yield f"  {as_written(suspicion.column)}: {written(suspicion.rule)}"


def _table(ref: TableRef, names: dict[TableRef, str]) -> str:
    if names[ref] == quoted(ref.name):
        return as_written(ref.name)
    text: str = yaml.safe_dump(str(ref), allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def written(rule: Rule) -> str:
    """A rule as the mask file has it."""
    options = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name in ("length", "value", "percent", "days", "by", "part", "domain")
        if (value := getattr(rule, name)) is not None
    }
    if not options and rule.kind is not Kind.NULL:
        return str(rule.kind)
    if rule.kind is Kind.NULL:
        return "null"
    entry = {"rule": str(rule.kind), **options}
    text: str = yaml.safe_dump(entry, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n")


def refusal(suspicions: Sequence[Suspicion], file: MaskFile, path: str) -> Refused:
    """The error that lists all columns, with entries for the mask file.

    :param path: the mask file, or the place where one belongs.
    """
    names = short_names({suspicion.table for suspicion in suspicions})
    columns = [(f"{names[s.table]}.{quoted(s.column)}", s.why) for s in suspicions]
    width = max(len(name) for name, _ in columns)
    is_one = len(suspicions) == 1
    return Refused(
        f"{counted(len(suspicions), 'column')} without a rule {'looks' if is_one else 'look'} personal",
        why="\n".join(f"{name:{width}}  {why}" for name, why in columns),
        fix=f"add to {path}, without the indentation, or pass --allow-unmasked TABLE.COLUMN:\n"
        f"{suggestion(suspicions, file)}",
    )


def refusal_of_unsampled(unsampled: Sequence[TableRef]) -> Refused:
    """The error that lists the tables whose contents could not be looked at."""
    names = short_names(set(unsampled))
    return Refused(
        f"{counted(len(unsampled), 'table')} could not be sampled for personal values",
        why="\n".join(f"{names[ref]}: its rows could not be read in time" for ref in unsampled),
        fix="run the command again when no session locks them, or give each of their columns a rule, such as keep",
    )
