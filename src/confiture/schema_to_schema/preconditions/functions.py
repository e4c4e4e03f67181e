"""Requirement for functions of the target: what a run evaluates there works with the search_path of its sessions.

The expressions of indexes, constraints, generated columns, defaults, domains, partition keys and statistics objects are
evaluated for rows of the source, as the plan's SELECT returns them, and for one row of typical values (I-9.9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial

import psycopg
from psycopg import sql

from confiture.catalog_model import Catalog
from confiture.config import Database
from confiture.errors import Refused
from confiture.plan import search_path
from confiture.plan.model import Plan, TablePlan
from confiture.plan.projection import Projected, raw, view_select
from confiture.plan.search_path import Relying
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import yielding
from confiture.sql import load
from confiture.types import TableRef, quoted

#: Bytes of a value that is read to evaluate an expression; a larger one is taken to be NULL.
_VALUE_BYTES = 8192

_Row = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class _Object:
    """An object whose expressions call functions that may rely on search_path.

    :ivar table: the table, or the materialized view; ``root`` is the OID of the partitioned table that it is part of.
    :ivar column: the column that the expressions are of; None if there is none.
    """

    kind: str
    name: str
    table: TableRef
    root: int
    column: str | None
    functions: tuple[int, ...]
    expressions: tuple[str, ...]

    def __str__(self) -> str:
        if self.kind == "materialized view":
            return f"{self.kind} {self.table}"
        return f"{self.kind} {quoted(self.name)} of {self.table}"


def check(source: Database, tx: Transaction, plan: Plan, target: Catalog, path: Sequence[str]) -> None:
    """:param tx: in the target as it is built; nothing that is done here remains.

    :param path: the search_path with which the target's DDL is executed.
    :raises Refused: naming each function that fails, with an object that calls it and the statement that fixes it.
    """
    found: dict[str, str] = {}
    tables = {target.by_ref[t.target].oid: t for t in plan.tables}
    rows = cache(partial(_rows, source))
    for item in _objects(tx):
        if _evaluated(item, tables):
            given = rows(tables[item.root]) if item.root in tables else ()
            for relying in _relying(tx, item, given, path):
                found.setdefault(
                    relying.function or str(item), f"{item}: {relying}; in the target's DDL: {relying.fix}"
                )
    forward = {t.target: t for t in plan.tables}
    for table, column in ((t, p) for t in plan.reverse for p in t.columns if p.source is None):
        what = f"`reverse:` of {table.target}.{quoted(column.target)}"
        for row in _with_typical(tx, table.source, rows(forward[table.source])):
            reversing = _reversing(tx, column, row, path)
            if reversing is not None:
                found.setdefault(
                    reversing.function or what, f"{what}: {reversing}; in the target's DDL: {reversing.fix}"
                )
    if found:
        raise Refused("the plan is refused", why="\n".join(found.values()), fix="nothing was changed")


def _objects(tx: Transaction) -> list[_Object]:
    return [
        _Object(kind, name, TableRef(schema, table), root, column, tuple(functions), tuple(expressions))
        for kind, name, schema, table, root, column, functions, expressions in tx.pg.execute(
            load("search_path.sql")["relying"]
        ).fetchall()
    ]


def _evaluated(item: _Object, tables: Mapping[int, TablePlan]) -> bool:
    """Whether the run evaluates the object's expressions: a default only where the plan gives no value."""
    if item.kind == "materialized view":
        return True
    table = tables.get(item.root)
    return table is not None and (item.kind != "default of column" or item.column in table.kept)


def _relying(tx: Transaction, item: _Object, rows: Sequence[_Row], path: Sequence[str]) -> Iterator[Relying]:
    yield from search_path.in_bodies(tx, item.functions, path)
    for query in _queries(tx, item, rows):
        found = search_path.relying(tx, query, path, compared=True)
        if found is not None:
            yield found
            return


def _queries(tx: Transaction, item: _Object, rows: Sequence[_Row]) -> Iterator[sql.Composed]:
    if item.kind == "materialized view":
        yield from search_path.calls(tx, item.functions)
        return
    for row in _with_typical(tx, item.table, rows):
        for expression in item.expressions:
            yield sql.SQL("SELECT pg_catalog.count(({})) FROM {}").format(sql.SQL(expression), row)


def _with_typical(tx: Transaction, table: TableRef, rows: Sequence[_Row]) -> list[sql.Composed]:
    """FROM items that stand for the table, each with one of the rows; the last has typical values."""
    types: dict[str, str] = dict(tx.pg.execute(load("search_path.sql")["columns"], asdict(table)).fetchall())
    values = search_path.typical(tx, list(types.values()))
    return [search_path.of_row(table, types, r) for r in (*rows, {name: values.get(t) for name, t in types.items()})]


def _reversing(tx: Transaction, column: Projected, row: sql.Composed, path: Sequence[str]) -> Relying | None:
    """Evaluate a ``reverse:``; its names are resolved in the environment's search_path, those in functions are not."""
    view = sql.Identifier("pg_temp", "confiture_reverse")
    names = sql.SQL(", ").join(map(sql.Identifier, path))
    with suppress(psycopg.DataError, psycopg.ProgrammingError), tx.pg.transaction(force_rollback=True):
        tx.pg.execute(sql.SQL("SET LOCAL search_path = {}").format(names))
        query = sql.SQL("CREATE TEMP VIEW {} AS SELECT (\n{}\n)::{} AS value FROM {}")
        tx.pg.execute(query.format(view, raw(column.expression), raw(column.wire), row))
        tx.pg.execute("SET LOCAL search_path = pg_catalog")
        return search_path.relying(
            tx, sql.SQL("SELECT pg_catalog.count(value) FROM {}").format(view), path, compared=True
        )
    return None


def _rows(source: Database, planned: TablePlan) -> tuple[_Row, ...]:
    """The first rows of the source as the plan's SELECT returns them, as text."""
    names = [p.target for p in planned.columns]
    values = [
        sql.SQL("CASE WHEN pg_column_size({0}) <= {1} THEN {0}::text END").format(
            sql.Identifier(name), sql.Literal(_VALUE_BYTES)
        )
        for name in names
    ]
    view = view_select(planned.source, planned.only, (), planned.columns, None)
    query = sql.SQL("SELECT ARRAY[{}]::text[] FROM pg_temp.confiture_rows LIMIT {}").format(
        sql.SQL(", ").join(values), sql.Literal(search_path.ROWS)
    )

    def read() -> tuple[_Row, ...]:
        with (
            Session(source, "rows", user_sql=True) as session,
            yielding(session),
            session.rehearsal() as tx,
        ):
            tx.pg.execute(sql.SQL("CREATE TEMP VIEW confiture_rows AS {}").format(view))
            tx.pg.execute("SET LOCAL search_path = pg_catalog")
            return tuple(dict(zip(names, row, strict=True)) for (row,) in tx.pg.execute(query).fetchall())

    try:
        return retry(read)
    except psycopg.DataError:
        return ()  # a value that cannot be converted is reported with its row by the copy
