"""Functions that find their objects in the search_path of the session, which is pg_catalog while rows are moved.

The server stores the body of a function as text and resolves its names when it runs the function. So an expression is
evaluated with the search_path of Confiture's sessions, for rows that the run moves (docs/invariants.md, I-9.9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture.postgres.failure import UNDEFINED, relies_on_search_path
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import TableRef, quoted

#: Rows of a table that an expression is evaluated for.
ROWS = 20

_NAMED = load("search_path.sql")


@dataclass(frozen=True, slots=True)
class Relying:
    """A function, or where it is None an expression, that fails with the search_path of Confiture's sessions.

    :ivar function: its name with its argument types, schema-qualified.
    :ivar message: the server's error.
    :ivar path: a search_path with which it works.
    """

    function: str | None
    message: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        what = f"function {self.function} relies on search_path" if self.function else "it relies on search_path"
        return f"{what}, which is pg_catalog in confiture's sessions: {self.message}"

    @property
    def fix(self) -> str:
        """The statement, or the change, that makes it work."""
        if self.function is None:
            return f"write the name with its schema; it is found with search_path = {self._path}"
        return f"ALTER FUNCTION {self.function} SET search_path = {self._path}"

    @property
    def _path(self) -> str:
        return ", ".join(map(quoted, self.path))


def relying(
    tx: Transaction,
    query: sql.SQL | sql.Composed,
    path: Sequence[str],
    *,
    compared: bool = False,
    function: str | None = None,
) -> Relying | None:
    """Execute the query without keeping a change; what in it relies on search_path, None if nothing does.

    Other errors of the query are no concern of this function.

    :param path: the environment's search_path.
    :param compared: report only what works with the other search_path. The functions are then executed with that one,
        in which another role may have created functions.
    :param function: that the query is about; None for the one that the server's error names.
    :raises psycopg.errors.QueryCanceled: a session of the application waited for a lock.
    """
    error = _tried(tx, query, ("pg_catalog",))
    if error is None or error.sqlstate not in UNDEFINED:
        return None
    function = function or _function(tx, error)
    if function is None and not compared:
        return None  # a name in the row: it may exist nowhere
    needed = tx.pg.execute(_NAMED["schemas_of_body"], {"function": function, "path": list(path)}).fetchall()
    path = (*path, *(schema for (schema,) in needed), "pg_temp")
    if compared and (again := _tried(tx, query, path)) is not None and again.sqlstate in UNDEFINED:
        return None
    return Relying(function, (error.diag.message_primary or str(error)).strip(), path)


def _tried(tx: Transaction, query: sql.SQL | sql.Composed, path: Sequence[str]) -> psycopg.Error | None:
    try:
        with tx.pg.transaction(force_rollback=True):
            names = sql.SQL(", ").join(map(sql.Identifier, path))
            # The functions may write, or call nextval().
            tx.pg.execute("SET LOCAL transaction_read_only = on; SET LOCAL check_function_bodies = on")
            tx.pg.execute(sql.SQL("SET LOCAL search_path = {}").format(names))
            tx.pg.execute(query)
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return error
    return None


def _function(tx: Transaction, error: psycopg.Error) -> str | None:
    name = relies_on_search_path(error)
    if name is None or "(" in name:
        return name
    # The server names a function in SQL without its schema and its arguments.
    found = tx.pg.execute(_NAMED["by_name"], {"name": name}).fetchall()
    return str(found[0][0]) if len(found) == 1 else name


def in_bodies(tx: Transaction, functions: Sequence[int], path: Sequence[str]) -> Iterator[Relying]:
    """Those of the functions written in SQL that name an object which pg_catalog does not have, in any branch."""
    for oid, name in tx.pg.execute(_NAMED["sql_functions"], {"functions": list(functions)}).fetchall():
        validate = sql.SQL("SELECT pg_catalog.fmgr_sql_validator({})").format(sql.Literal(oid))
        found = relying(tx, validate, path, compared=True, function=name)
        if found is not None:
            yield found


def calls(tx: Transaction, functions: Sequence[int]) -> list[sql.Composed]:
    """A query for each of the functions that calls it with typical values."""
    rows = tx.pg.execute(_NAMED["callable"], {"functions": list(functions)}).fetchall()
    values = typical(tx, [t for _, types in rows for t in types])
    return [
        sql.SQL("SELECT pg_catalog.count(*) FROM {}({})").format(
            sql.SQL(call), sql.SQL(", ").join(_literal(values.get(t), t) for t in types)
        )
        for call, types in rows
    ]


def typical(tx: Transaction, types: Sequence[str]) -> dict[str, str | None]:
    """A value of each type as text, for which few functions return early; None where none is known."""
    return dict(tx.pg.execute(_NAMED["typical"], {"types": list(set(types))}).fetchall())


def of_row(table: TableRef, types: Mapping[str, str], values: Mapping[str, str | None]) -> sql.Composed:
    """FROM item that stands for the table and has one row of these values.

    :param types: of the table's columns, in their order.
    :param values: as text, by column; a column without one is NULL.
    """
    row = sql.SQL(", ").join(_literal(values.get(name), kind) for name, kind in types.items())
    item = sql.SQL("pg_catalog.unnest(ARRAY[ROW({})::{}]) AS {}")
    return item.format(row, table.identifier, sql.Identifier(table.name))


def _literal(value: str | None, kind: str) -> sql.Composed:
    return sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(kind))
