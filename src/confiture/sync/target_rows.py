"""The rows of the target that refer to others: those without a parent, and their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import psycopg
from psycopg import sql

from confiture.compare.constraints import parent_exists, rows_of
from confiture.journal.model import DeferredForeignKey
from confiture.postgres.connection import only_row
from confiture.postgres.retry import retry
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.sql import load, template
from confiture.sync.reference import Values, array, is_match_full, rows_from
from confiture.types import TableRef

_SQL = "references.sql"


def printed(names: Sequence[str], prefix: str = "") -> sql.Composed:
    """Columns as text, separated by commas."""
    column = sql.SQL(prefix + "{}::pg_catalog.text")
    return sql.SQL(", ").join(column.format(sql.Identifier(name)) for name in names)


def wanted(values: Sequence[Values], number: int) -> sql.Composed:
    """Values as a relation of ``number`` columns of type text, for a FROM clause."""
    return rows_from(array([v[n] for v in values], "pg_catalog.text") for n in range(number))


def _filled(key: DeferredForeignKey, operator: str = " AND ") -> sql.Composed:
    return sql.SQL(operator).join(sql.SQL("c.{} IS NOT NULL").format(sql.Identifier(c)) for c in key.columns)


def search(tx: Transaction, key: DeferredForeignKey, rows: sql.Composable) -> sql.Composed:
    """A query of the values of a foreign key without a parent among some rows.

    :param rows: a relation with the columns of the key.
    """
    return template(_SQL, "missing").format(
        values=printed(key.columns, "c."), rows=rows, filled=_filled(key), parent=parent_exists(tx, key)
    )


def missing_of(tx: Transaction, key: DeferredForeignKey, rows: sql.Composable) -> list[Values]:
    """The values of a foreign key without a parent among some rows, as in :func:`search`."""
    return tx.pg.execute(search(tx, key, rows)).fetchall()


def missing(context: Context, key: DeferredForeignKey, size: int) -> Iterator[list[Values]]:
    """The values of a foreign key without a parent, ``size`` at a time.

    The whole table is searched once, when the first values are asked for. When the session was lost with the result,
    it is searched again, so that values may be repeated.
    """
    retry(partial(_open, context, key))
    while True:
        try:
            values = retry(partial(_next, context, size))
        except psycopg.errors.InvalidCursorName:
            retry(partial(_open, context, key))
            continue
        if not values:
            return
        yield values


def _open(context: Context, key: DeferredForeignKey) -> None:
    with context.target.transaction(read_only=True) as tx:
        if only_row(tx.pg.execute(load(_SQL)["is_open"]))[0]:
            tx.pg.execute("CLOSE confiture_missing")
        tx.pg.execute(template(_SQL, "open").format(missing=search(tx, key, rows_of(tx, key.table))))


def _next(context: Context, size: int) -> list[Values]:
    with context.target.transaction(read_only=True) as tx:
        return tx.pg.execute(template(_SQL, "next").format(number=sql.Literal(size))).fetchall()


def still_missing(tx: Transaction, key: DeferredForeignKey, values: Sequence[Values]) -> Sequence[Values]:
    """Those of some values that have no parent now; all of them where the text of a value cannot be compared."""
    if key.period or any(".any" in o.right_type or ".record" in o.right_type for o in key.operators or ()):
        return values
    columns = sql.SQL(", ").join(map(sql.Identifier, key.columns))
    relation = sql.SQL("{} AS c({})").format(wanted(values, len(key.columns)), columns)
    query = template(_SQL, "still_missing").format(
        values=printed(key.columns, "c."), wanted=relation, parent=parent_exists(tx, key)
    )
    return tx.pg.execute(query).fetchall()


def remove_orphans(
    tx: Transaction, key: DeferredForeignKey, values: Sequence[Values], rows: sql.Composable, identity: Sequence[str]
) -> list[Values]:
    """Remove the rows whose foreign key has one of some values and no parent.

    :param rows: the table, or a relation with its columns.
    :param identity: columns that identify a row; may be empty.
    :returns: their values of the removed rows.
    """
    query = template(_SQL, "orphans").format(
        rows=rows,
        key=sql.SQL("({})").format(printed(key.columns, "c.")),
        wanted=sql.SQL("* FROM {}").format(wanted(values, len(key.columns))),
        parent=parent_exists(tx, key),
        identity=printed(identity, "c.") if identity else sql.SQL("''"),
    )
    return tx.pg.execute(query).fetchall()


def count(tx: Transaction, key: DeferredForeignKey) -> tuple[int, int]:
    """The rows of a foreign key whose values are not NULL, and the rows that violate it."""
    parts = {"rows": rows_of(tx, key.table), "filled": _filled(key)}
    rows = _number(tx, template(_SQL, "count").format(**parts))
    violations = _number(tx, template(_SQL, "violations").format(**parts, parent=parent_exists(tx, key)))
    if is_match_full(key):
        violations += _number(tx, template(_SQL, "partly_null").format(**parts, any=_filled(key, " OR ")))
    return rows, violations


def _number(tx: Transaction, query: sql.Composed) -> int:
    return int(only_row(tx.pg.execute(query))[0])


def roots(context: Context) -> dict[TableRef, TableRef]:
    """Of each partition of the target, the table that it is part of."""
    with context.target.transaction(read_only=True) as tx:
        rows = tx.pg.execute(load(_SQL)["roots"]).fetchall()
    return {TableRef(schema, name): TableRef(root_schema, root) for schema, name, root_schema, root in rows}
