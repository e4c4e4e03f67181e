"""Whether the masked values fit their columns, evaluated by the source over some rows before any is copied.

The types decide most of it when a rule is assigned. What remains are the checks of domains and tables, and SQL
expressions. A value is never part of a message, because an SQL expression may give a clear one.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from confiture.catalog_model import Catalog, Column, Table
from confiture.errors import Refused
from confiture.masking.families import room
from confiture.masking.model import Kind, Mask, Masks
from confiture.plan.projection import raw, wire_type
from confiture.postgres.connection import only_row
from confiture.postgres.retry import retryable
from confiture.postgres.session import Transaction
from confiture.sql import load, template
from confiture.types import TableRef, quoted

#: Rows whose masked values are tried.
ROWS = 200


def misfits(
    from_source: Transaction, from_target: Transaction, source: Catalog, target: Catalog, masks: Masks
) -> tuple[str, ...]:
    """The masks whose values do not fit their columns, one sentence for each.

    :param from_source: a transaction of the source that has the settings of the key; it may be read-only.
    :param from_target: a transaction of the target.
    """
    masked = [mask for mask in masks.masks if mask.is_masked]
    found = [problem for mask in masked if (problem := _of_column(from_source, source, target, mask)) is not None]
    for table in source.tables:
        of_table = {mask.column: mask for mask in masked if mask.table == table.ref}
        into = target.by_ref.get(table.ref)
        if of_table and into is not None:
            found += _of_checks(from_source, from_target, table, into, of_table)
    return tuple(found)


def refused(misfits: tuple[str, ...]) -> Refused:
    """The error that lists them."""
    fix = "give these columns other rules, or SQL expressions whose values fit"
    return Refused("Masked values do not fit their columns", why="\n".join(misfits), fix=fix)


def _of_column(tx: Transaction, source: Catalog, target: Catalog, mask: Mask) -> str | None:
    table, column = source.by_ref[mask.table], target.by_ref[mask.table].known_column(mask.column)
    before = table.known_column(mask.column)
    named = f"{mask.table}.{quoted(mask.column)}: {mask.rule.kind}"
    try:
        with tx.pg.transaction():
            longest, emptied, _ = only_row(tx.pg.execute(_column_query(table, before, column, mask)))
            raise psycopg.Rollback()
    except (psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation) as error:
        return f"{named} gives values that {column.formatted} rejects: {error.diag.constraint_name or 'NOT NULL'}"
    except psycopg.Error as error:
        if retryable(error):
            raise
        return f"{named} gives values that cannot be stored as {column.formatted} ({error.diag.sqlstate})"
    limit = room(column).length
    if limit is not None and longest is not None and longest > limit:
        return f"{named} gives values of {longest} characters, and {column.formatted} has {limit}"
    if emptied and column.not_null and mask.rule.kind is Kind.SQL:
        return f"{named} gives NULL, and the column is NOT NULL"
    return None


def _column_query(table: Table, before: Column, column: Column, mask: Mask) -> sql.Composed:
    wire, _ = wire_type(column)
    # The source has the type if its own column has it. Another type exists in the target only.
    typed = before.formatted if before.formatted == column.formatted else wire
    value = sql.SQL("s.value")
    has_length = room(column).length is not None
    return template("masking_fit.sql", "column").format(
        length=sql.SQL("pg_catalog.length({}::pg_catalog.text)").format(value)
        if has_length
        else sql.SQL("NULL::integer"),
        cast=sql.SQL("{}::{}").format(value, raw(typed)),
        expression=raw(mask.expression),
        wire=raw(wire),
        column=sql.Identifier(mask.column),
        table=_source(table),
        rows=sql.Literal(ROWS),
    )


def _of_checks(
    from_source: Transaction, from_target: Transaction, table: Table, into: Table, masks: dict[str, Mask]
) -> Iterator[str]:
    for _, _, name, condition, columns in from_target.pg.execute(
        load("masking_fit.sql")["checks"], {"tables": [into.oid]}
    ).fetchall():
        changed = [column for column in columns if column in masks]
        if not changed or any(table.column(column) is None for column in columns):
            continue
        query = template("masking_fit.sql", "check").format(
            condition=raw(condition),
            columns=sql.SQL(", ").join(_value(table, into, masks, column) for column in columns),
            table=_source(table),
            rows=sql.Literal(ROWS),
            alias=sql.Identifier(table.ref.name),
        )
        try:
            with from_source.pg.transaction():
                (violations,) = only_row(from_source.pg.execute(query))
                raise psycopg.Rollback()
        except psycopg.Error as error:
            if retryable(error):
                raise
            continue  # reported for the column, or the source lacks a function of the constraint
        if violations:
            yield f"{_names(table.ref, changed)}: the masked values violate the constraint {quoted(name)}"


def _value(table: Table, into: Table, masks: dict[str, Mask], name: str) -> sql.Composable:
    mask = masks.get(name)
    if mask is None:
        return sql.Identifier(name)
    wire, _ = wire_type(into.known_column(name))
    return sql.SQL("(\n{}\n)::{} AS {}").format(raw(mask.expression), raw(wire), sql.Identifier(name))


def _source(table: Table) -> sql.Composable:
    return sql.SQL("ONLY " if table.only else "") + table.ref.identifier


def _names(ref: TableRef, columns: list[str]) -> str:
    return ", ".join(f"{ref}.{quoted(column)}" for column in columns)
