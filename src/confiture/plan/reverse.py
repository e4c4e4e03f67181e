"""The reverse plan: for each source table, the SELECT over its target that a rollback applies. No I/O.

Renames and casts are reversed automatically. Other transforms need ``reverse:`` (docs/invariants.md, I-10.1 and
I-10.7). A source column without a value in the target keeps the value that it has.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from confiture.catalog_model import Catalog, Column, Table
from confiture.plan.conversions import image_problem
from confiture.plan.model import KeyColumn, Plan, SequencePlan, TablePlan
from confiture.plan.planner import numbered
from confiture.plan.projection import Projected, canon, is_binary, wire_type
from confiture.types import TableRef, double_quoted, quoted


def with_reverse(plan: Plan, source: Catalog, target: Catalog) -> Plan:
    """The plan with the reverse plan of each table, or with the reason why a table cannot be reversed."""
    feeds = Counter(t.source for t in plan.tables)
    barred = {**_keys_of_omitted(set(feeds), source), **_published(source)}
    tables = []
    reversed_tables = []
    for table in plan.tables:
        old, new = source.by_ref[table.source], target.by_ref[table.target]
        values = _values(table, old)
        problem = _problem(table, old, new, values, feeds[table.source]) or barred.get(table.source)
        back = _reversed(table, old, values) if problem is None else None
        problem = back.key_problem_if_wide if back is not None else problem
        tables.append(replace(table, rollback_problem=problem))
        if back is not None and problem is None:
            reversed_tables.append(back)
    whole = len(reversed_tables) == len(tables)
    sequences = _sequences(plan, source) if whole else ()
    reverse = tuple(reversed_tables) if whole else ()
    return replace(plan, tables=tuple(tables), reverse=reverse, reverse_sequences=sequences)


def _keys_of_omitted(planned: set[TableRef], source: Catalog) -> dict[TableRef, str]:
    """Source tables with a foreign key from or to a table that the plan omits, each with the problem.

    Such a key may reject rows of a reverse pass, because the rows of the omitted table do not follow the target.
    """
    found: dict[TableRef, str] = {}
    for table in source.tables:
        for key in table.foreign_keys:
            if table.ref in planned and key.references not in planned:
                found[table.ref] = f"foreign key {quoted(key.name)} references {key.references}, which is omitted"
            elif table.ref not in planned and key.references in planned:
                found[key.references] = (
                    f"foreign key {quoted(key.name)} of {table.ref}, which is omitted, references it"
                )
    return found


def _published(source: Catalog) -> dict[TableRef, str]:
    """Source tables from which the server rejects the deletes of a reverse pass, each with the problem.

    The application, whose deletes are rejected too, may only insert into such a table.
    """
    return {
        table: f"{table} is published by {quoted(p.name)} of the source without a replica identity, so that the server"
        f" rejects deletes: ALTER TABLE {table} REPLICA IDENTITY FULL permits them"
        for p in source.publications
        for table in p.tables
    }


def _values(table: TablePlan, source: Table) -> dict[str, Projected]:
    """The column that gives each source column its value. A plain rename takes precedence over ``reverse:``."""
    found: dict[str, Projected] = {}
    for p in table.columns:
        if p.reverse_column is not None:
            found.setdefault(p.reverse_column, p)
    for p in table.columns:
        if p.source is not None and (found.get(p.source) is None or found[p.source].source is None):
            found[p.source] = p
    generated = {c.name for c in source.columns if c.generated}
    return {name: p for name, p in found.items() if name not in generated}


def _problem(table: TablePlan, source: Table, target: Table, values: dict[str, Projected], feeds: int) -> str | None:
    if not table.key:
        return "the table has no key"
    if feeds > 1:
        return f"{table.source} is split into several tables, none of which has the whole row"
    if table.arbiter is None:
        return f"{table.target} has no unique index on the key"
    if target.inherits or target.inherited_from:
        return f"{table.target} is part of an inheritance tree that is not partitioning"
    known = set(values)
    for p in table.columns:
        if p.source is None and p.reverse_column is None and not set(p.reads) <= known:
            return f"column {quoted(p.target)} is transformed without `reverse:`"
    for k in table.key:
        if values.get(k.source) is None or values[k.source].target != k.target:
            return f"the key column {quoted(k.target)} cannot be reversed"
        problem = _key_problem(source.known_column(k.source), target.known_column(k.target))
        if problem is not None:
            return f"the key column {quoted(k.target)} {problem}"
    for column in source.columns:
        if column.name not in known and _must_be_given(column):
            return f"source column {quoted(column.name)} is NOT NULL, and no column gives it a value"
    return None


def _key_problem(old: Column, new: Column) -> str | None:
    """Why the target's key is not a key of the source: keys written after the cutover must differ there too."""
    return image_problem(new, old) if new.null_free else "may be NULL in the target"


def _must_be_given(column: Column) -> bool:
    return column.not_null and not (column.has_default or column.identity or column.generated)


def _reversed(table: TablePlan, source: Table, values: dict[str, Projected]) -> TablePlan:
    columns = tuple(_column(table, c, values[c.name]) for c in source.columns if c.name in values)
    key = tuple(KeyColumn(k.target, k.target_type, k.source, k.source_type) for k in table.key)
    return replace(
        table,
        target=table.source,
        source=table.target,
        only=table.target_only,
        target_only=table.only,
        view="b" + table.view[1:],
        columns=columns,
        kept=tuple(c.name for c in source.columns if c.name not in values and not c.generated),
        where=None,
        key=key,
        format="binary" if all(c.binary for c in columns) else "text",
    )


def _column(table: TablePlan, column: Column, p: Projected) -> Projected:
    wire, cast_in = wire_type(column)
    renamed = p.source == column.name
    expression = f"{double_quoted(table.target.name)}.{double_quoted(p.target)}" if renamed else str(p.reverse)
    made = Projected(column.name, expression, None, wire, cast_in, canon(column), is_binary(column))
    return replace(made, source=p.target if renamed else None, reads=(p.target,))


def _sequences(plan: Plan, source: Catalog) -> tuple[SequencePlan, ...]:
    """Each source sequence continues from the target's value, or after the largest value of its columns."""
    fed: dict[TableRef, list[TableRef]] = {}
    for planned in plan.sequences:
        for ref in planned.sources:
            fed.setdefault(ref, []).append(planned.target)
    tables = {t.source for t in plan.tables}
    found = []
    for sequence in source.sequences:
        origins = tuple(fed.get(sequence.ref, ()))
        filled = [] if origins else [f for f in sequence.columns if f.table in tables]
        columns = tuple(dict.fromkeys((f.table, f.column) for f in numbered(source, filled)))
        if origins or columns:
            found.append(SequencePlan(sequence.ref, origins, columns))
    return tuple(found)
