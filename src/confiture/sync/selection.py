"""The rows of each table that a sync copies, as a condition over the source row. No I/O.

A table with ``--where`` has its condition. A table without one that refers to such a table, directly or through others,
has the rows whose parents are chosen. ``--sample`` chooses rows by a hash of their key. All other rows come only if a
chosen row refers to them (:mod:`confiture.sync.references`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from confiture.catalog_model import Catalog, ForeignKey, Table
from confiture.errors import Fault, FaultyInput
from confiture.sync.choice import SAMPLED_FROM, Choice
from confiture.sync.reference_graph import components
from confiture.types import TableRef, double_quoted, quoted

#: The most subselects of one condition: beyond these the server's planner needs seconds for each chunk.
SUBSELECTS_MOST = 200
#: The name of a parent's chosen rows in a condition of a child.
_PARENT = "confiture_parent"
#: A hash below a share of this number chooses a row: the percentage has four decimals.
_BUCKETS = 1_000_000

NONE: Final = "false"


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of one table that are chosen.

    :ivar where: SQL over the source row; None for all rows, :data:`NONE` for no row.
    :ivar reason: of the choice, for people.
    :ivar reads: the tables above that the condition reads, unless the operator wrote it.
    """

    where: str | None
    reason: str
    reads: tuple[TableRef, ...] = ()


@dataclass(frozen=True, slots=True)
class _Restriction:
    """A condition from ``--where``, its own or inherited; with the number of its subselects, and their tables."""

    where: str
    size: int
    own: bool = False
    reads: frozenset[TableRef] = frozenset()


def selections(source: Catalog, target: Catalog, choice: Choice) -> Mapping[TableRef, Selection]:
    """The selection of each table of the source. The foreign keys are those that hold in the target.

    :raises FaultyInput: when the condition of a table would have too many subselects.
    """
    restricted = _restrictions(source, _keys(source, target), choice)
    _refuse_large(restricted)
    return {t.ref: _selection(t, restricted.get(t.ref), choice) for t in source.tables}


def _selection(table: Table, restriction: _Restriction | None, choice: Choice) -> Selection:
    if choice.tables is not None and table.ref not in choice.tables:
        return Selection(NONE, "rows that others refer to")
    if restriction is not None and restriction.own:
        return Selection(restriction.where, "by its condition")
    where = None if restriction is None else restriction.where
    reason = "all rows" if where is None else "rows whose parents are chosen"
    reads = () if restriction is None else tuple(sorted(restriction.reads))
    if choice.percent is None or choice.percent == 100:
        return Selection(where, reason, reads)
    if table.estimated_rows < SAMPLED_FROM:
        return Selection(where, f"{reason}, not sampled because it is small", reads)
    sampled = sample(table, choice.percent, choice.seed)
    part = f"{choice.percent:g} % of the {'rows' if where is None else reason}"
    return Selection(sampled if where is None else f"{sampled} AND (\n{where}\n)", part, reads)


def sample(table: Table, percent: float, seed: int) -> str:
    """A condition that chooses rows by a hash of their key: the same rows each time, however the table is read.

    Tables that share their keys, one to one, share the choice. A table without a key is sampled by all its columns, so
    that equal rows are chosen together.
    """
    names = next((i.columns for i in table.indexes if i.is_key and _null_free(table, i.columns)), ())
    row = ", ".join(f"{_qualified(table.ref, c)}" for c in names) or f"{double_quoted(table.ref.name)}.*"
    hashed = f'pg_catalog.hashtextextended(ROW({row})::pg_catalog.text COLLATE pg_catalog."C", {seed:d})'
    return f"({hashed} & 9223372036854775807) % {_BUCKETS} < {round(percent * _BUCKETS / 100)}"


def _null_free(table: Table, names: Sequence[str]) -> bool:
    return all(table.known_column(c).null_free for c in names)


def _restrictions(source: Catalog, keys: Sequence[ForeignKey], choice: Choice) -> dict[TableRef, _Restriction]:
    """The restriction of each table that has one, parents first.

    The keys of a table with a condition of its own do not restrict it, so a cycle through such a table is none here. A
    key within a cycle restricts no table.
    """
    known = [k for k in keys if k.table not in choice.conditions]
    edges = {(k.table, k.references) for k in known}
    found = {ref: _Restriction(text, 1, own=True) for ref, text in choice.conditions.items()}
    for component in reversed(components(source.by_ref, edges)):
        for ref in component - found.keys():
            above = [k for k in known if k.table == ref and k.references not in component and k.references in found]
            if above:
                clauses = dict.fromkeys(_clause(source.by_ref[ref], source, k, found[k.references]) for k in above)
                size = sum(1 + found[k.references].size for k in above)
                reads = frozenset(k.references for k in above).union(*(found[k.references].reads for k in above))
                found[ref] = _Restriction("\nAND ".join(clauses), size, reads=reads)
    return found


def _keys(source: Catalog, target: Catalog) -> list[ForeignKey]:
    """The foreign keys of the target whose columns the source has too, with its operators where it has the key too.

    A key of one partition says nothing about the rows of the others, and is none of these.
    """
    of_source = {_ends(key): key for table in source.tables for key in table.foreign_keys}
    found = [of_source.get(_ends(key), key) for table in target.tables for key in table.foreign_keys]
    return [
        key for key in found if _has(source, key.table, key.columns) and _has(source, key.references, key.ref_columns)
    ]


def _ends(key: ForeignKey) -> tuple[object, ...]:
    return (key.table, key.columns, key.references, key.ref_columns)


def _has(source: Catalog, ref: TableRef, names: Sequence[str]) -> bool:
    table = source.by_ref.get(ref)
    return table is not None and all(table.column(name) is not None for name in names)


def _clause(child: Table, source: Catalog, key: ForeignKey, parent: _Restriction) -> str:
    """The condition that the parent of a child's row is chosen, or that the row has none."""
    above = source.by_ref[key.references]
    # The parent's rows have a scope of their own, so that each name in its condition is one of its columns first.
    rows = f"(SELECT * FROM {'ONLY ' if above.only else ''}{_table(above.ref)} WHERE (\n{parent.where}\n))"
    tests = " AND ".join(
        f"{_PARENT}.{double_quoted(r)} {by.operator} {_qualified(child.ref, c)}"
        for c, r, by in zip(key.columns, key.ref_columns, key.operators, strict=True)
    )
    exists = f"EXISTS (SELECT FROM {rows} AS {_PARENT} WHERE {tests})"
    nullable = [c for c in key.columns if not child.known_column(c).null_free]
    return " OR ".join([*(f"{_qualified(child.ref, c)} IS NULL" for c in nullable), exists]).join("()")


def _table(ref: TableRef) -> str:
    return f"{double_quoted(ref.schema)}.{double_quoted(ref.name)}"


def _qualified(ref: TableRef, column: str) -> str:
    return f"{double_quoted(ref.name)}.{double_quoted(column)}"


def _refuse_large(restricted: Mapping[TableRef, _Restriction]) -> None:
    large = sorted(ref for ref, r in restricted.items() if r.size > SUBSELECTS_MOST)
    if large:
        raise FaultyInput(
            "the foreign keys lead to the tables with conditions on too many ways",
            [Fault("", 1, 1, f"{ref} is reached on more than {SUBSELECTS_MOST} ways") for ref in large],
            fix=f'give the first of them a condition of its own: --where "{quoted(large[0].name)}=CONDITION"',
        )
