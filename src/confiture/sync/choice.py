"""The options ``--tables``, ``--where`` and ``--sample``: which rows are chosen, with every fault at once. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confiture.catalog_model import Catalog, Table
from confiture.errors import Fault
from confiture.types import TableRef, did_you_mean, quoted

#: A table whose estimated number of rows is less is not sampled: such tables are mostly lists that others refer to.
SAMPLED_FROM = 100

_NAME = r"(?:[^\W\d][\w$]*|\"(?:[^\"]|\"\")+\")"
_TABLE = re.compile(rf"\s*(?:({_NAME})\s*\.\s*)?({_NAME})\s*")
_FORM = "write TABLE=CONDITION, such as --where \"customer=country = 'CH'\""
_FOLD = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class Choice:
    """The rows that the operator has chosen; those that they refer to come in addition.

    :ivar tables: None for all tables.
    :ivar conditions: SQL over the source row, by table.
    :ivar percent: of the rows of each table without a condition, more than 0; None for all rows.
    :ivar seed: another seed samples other rows.
    """

    tables: frozenset[TableRef] | None = None
    conditions: Mapping[TableRef, str] = field(default_factory=dict)
    percent: float | None = None
    seed: int = 0


def choice(
    source: Catalog,
    *,
    tables: Sequence[str] = (),
    where: Sequence[str] = (),
    percent: float | None = None,
    seed: int = 0,
) -> tuple[Choice, tuple[Fault, ...]]:
    """The choice, and the faults of the options; the choice is valid only without them.

    :param tables: names of tables, with or without their schema, written as in SQL; empty for all tables.
    :param where: each of the form ``TABLE=CONDITION``. The first ``=`` outside of double quotes ends the name.
    """
    faults: list[Fault] = []
    named = {ref for name in tables if (ref := _table(source, "--tables", name, faults)) is not None}
    conditions: dict[TableRef, str] = {}
    for text in where:
        ref, condition = _condition(source, text, faults)
        if ref is None:
            continue
        if ref in conditions:
            _fault(faults, f"--where names {ref} twice", "combine the two conditions with AND")
        elif tables and ref not in named:
            _fault(faults, f"--where names {ref}, which --tables does not name", "add it to --tables")
        conditions[ref] = condition
    if percent is not None and not 0 < percent <= 100:
        _fault(faults, f"--sample {percent:g} is not more than 0 and at most 100 (percent)")
    return Choice(frozenset(named) if tables else None, conditions, percent, seed), tuple(faults)


def _fault(faults: list[Fault], message: str, hint: str = "") -> None:
    faults.append(Fault("", 1, 1, message, hint))


def _condition(source: Catalog, text: str, faults: list[Fault]) -> tuple[TableRef | None, str]:
    quoted_part = re.match(r"(?:[^\"=]|\"(?:[^\"]|\"\")*\")*", text)
    name = quoted_part[0] if quoted_part else ""
    if text[len(name) : len(name) + 1] != "=":
        _fault(faults, f"--where {text!r} has no condition", _FORM)
        return None, ""
    condition = text[len(name) + 1 :].strip()
    if not condition:
        _fault(faults, f"--where {text!r} has no condition", _FORM)
    elif "\0" in condition:
        _fault(faults, f"--where {text!r} contains a null character")
    return _table(source, "--where", name, faults), condition


def _table(source: Catalog, option: str, text: str, faults: list[Fault]) -> TableRef | None:
    found = _TABLE.fullmatch(text)
    if found is None:
        _fault(faults, f"{option}: {text!r} is not the name of a table", _FORM if option == "--where" else "")
        return None
    schema, name = (None if part is None else _unquoted(part) for part in found.groups())
    assert name is not None
    hits = _hits(source.tables, schema, name)
    if len(hits) == 1:
        return hits[0].ref
    if hits:
        schemas = ", ".join(quoted(t.ref.schema) for t in hits)
        _fault(faults, f"{option}: table {quoted(name)} is in several schemas: {schemas}", "write schema.table")
        return None
    hint = did_you_mean(name, (t.ref.name for t in source.tables), quoted)
    _fault(faults, f"{option}: the source has no table {text.strip()}", hint or (_FORM if option == "--where" else ""))
    return None


def _hits(tables: Sequence[Table], schema: str | None, name: str) -> list[Table]:
    hits = [t for t in tables if t.ref.name == name and schema in (None, t.ref.schema)]
    return [t for t in hits if t.ref.schema == "public"] or hits if schema is None else hits


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.translate(_FOLD)
