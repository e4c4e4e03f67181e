"""The columns without a rule that look personal, by their name or by a sample of their contents.

A column that a foreign key refers from is not judged, as its values are those of the column that it refers to. Neither
is a generated column, whose value the target computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from confiture.catalog_model import Catalog, Column, Table
from confiture.errors import Refused
from confiture.masking.assignment import Assignment
from confiture.masking.contents import sampled
from confiture.masking.families import Family, family
from confiture.masking.model import Kind, MaskFile, Masks, Rule, Suspicion
from confiture.masking.personal_names import personal
from confiture.postgres.session import Transaction
from confiture.types import TableRef, counted, quoted, short_names
from confiture.yaml_nodes import as_written

#: Rules that a suggestion falls back to.
_LAST = (Rule(Kind.CONSTANT, value="{}"), Rule(Kind.NULL), Rule(Kind.KEEP))


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
    suspicions: list[Suspicion] = []
    unsampled: list[TableRef] = []
    for table in fits.tables.values():
        columns = [column for column in table.columns if _is_judged(fits, table, column, masks)]
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
    places = {(t.ref, c.name): (t.ref, n) for t in fits.tables.values() for n, c in enumerate(t.columns)}
    return Detection(tuple(sorted(suspicions, key=lambda s: places[s.table, s.column])), tuple(unsampled))


def _is_judged(fits: Assignment, table: Table, column: Column, masks: Masks) -> bool:
    target = fits.target.by_ref[table.ref].column(column.name)
    if target is None or target.generated or column.generated:
        return False
    referring = any(column.name in key.columns for key in table.foreign_keys)
    return not referring and (table.ref, column.name) not in masks.by_column


def _suggested(fits: Assignment, table: Table, column: Column, rules: Sequence[Rule]) -> Rule:
    """The first rule that the column can have."""
    documents = family(column) in (Family.JSON, Family.OTHER)
    candidates = (*_LAST[:2], *rules) if documents else (*rules, Rule(Kind.HASH), Rule(Kind.UUID))
    return next((rule for rule in (*candidates, *_LAST) if fits.accepts(table, column, rule)), _LAST[-1])


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
