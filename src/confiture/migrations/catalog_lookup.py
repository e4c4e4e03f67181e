"""The catalog's answer about a statement that ran outside a transaction: is it done, and what has it left?

https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
https://www.postgresql.org/docs/current/sql-reindex.html#SQL-REINDEX-CONCURRENTLY
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from confiture.ddl import Statement
from confiture.errors import ConfitureError, Refused
from confiture.failpoints import failpoint
from confiture.incremental.in_doubt import Kind, Lookup, lookup
from confiture.migrations.work import Means, Work
from confiture.postgres.connection import Pg
from confiture.sql import load

_SQL = load("in_doubt.sql")


@dataclass(frozen=True, slots=True)
class Resolution:
    """Whether a statement in doubt is done, and how that was found out."""

    done: bool
    text: str


def resolve(means: Means, pg: Pg, work: Work, number: int) -> Resolution:
    """Find out whether a statement is done that was begun before a crash; what it has left unfinished is removed.

    :param pg: in autocommit, with the settings of the statement.
    :raises Refused: when nothing shows whether it is done, and the operator has not decided.
    """
    statement = work.statements[number - 1]
    of = lookup(statement)
    if of.kind is Kind.UNKNOWN:
        return _decided(means, work, statement, number)
    if of.kind is Kind.REPEATABLE:
        return Resolution(False, "interrupted, and runs again")
    if of.kind is Kind.BUILD_INDEX:
        return _of_index(means, pg, of)
    if of.kind is Kind.REINDEX:
        left = _drop_left_by_reindex(means, pg, of)
        return Resolution(False, f"interrupted; dropped {', '.join(left)}" if left else "interrupted, and runs again")
    if of.kind is Kind.DETACH:
        return _of_partition(means, pg, of)
    exists = _exists(pg, of)
    done = exists if of.kind is Kind.CREATE else not exists
    return Resolution(done, f"{of.name} {'exists' if exists else 'does not exist'}: {'done' if done else 'runs again'}")


def _decided(means: Means, work: Work, statement: Statement, number: int) -> Resolution:
    if means.in_doubt is None:
        raise Refused(
            f"{work.migration.label}: statement {number} was interrupted, and nothing shows whether it is done",
            why=f"{work.script.path}:{statement.line}:{statement.column}: only you can look up its effect",
            fix="run the same command again with --in-doubt done, or with --in-doubt again to repeat the statement",
        )
    return Resolution(means.in_doubt == "done", f"--in-doubt {means.in_doubt}")


def _of_index(means: Means, pg: Pg, of: Lookup) -> Resolution:
    found = pg.execute(_SQL["index"], {"table": of.table, "name": of.name}).fetchone()
    if found is None:
        return Resolution(False, f"index {of.name} does not exist: it is built again")
    if found[0]:
        return Resolution(True, f"index {of.name} is valid: done")
    _drop_index(means, pg, found[1])
    return Resolution(False, f"index {of.name} was invalid: dropped, it is built again")


def _drop_index(means: Means, pg: Pg, name: str) -> None:
    """Drop an index, of which ``name`` is SQL, without blocking readers and writers of its table."""
    failpoint("index.dropping")
    with means.observer.watching(pg.info.backend_pid, f"DROP INDEX CONCURRENTLY {name}"):
        pg.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode())


def _drop_left_by_reindex(means: Means, pg: Pg, of: Lookup) -> list[str]:
    rows = pg.execute(_SQL["left_by_reindex"], {"name": of.name or "none", "catalog": of.catalog}).fetchall()
    names = [name for (name,) in rows]
    for name in names:
        _drop_index(means, pg, name)
    return names


def _of_partition(means: Means, pg: Pg, of: Lookup) -> Resolution:
    names = {"name": of.name, "table": of.table}
    found = pg.execute(_SQL["partition"], names).fetchone()
    if found is None:
        exists = bool(_only(pg, "relation", of.name))
        return Resolution(exists, f"{of.name} is {'detached: done' if exists else 'missing: runs again'}")
    if not found[0]:
        return Resolution(False, f"{of.name} is attached: runs again")
    with means.observer.watching(pg.info.backend_pid, f"DETACH PARTITION {of.name} FINALIZE"):
        pg.execute(f"ALTER TABLE {of.table} DETACH PARTITION {of.name} FINALIZE".encode())
    return Resolution(True, f"the detachment of {of.name} was finalized: done")


def _exists(pg: Pg, of: Lookup) -> bool:
    return bool(_only(pg, "relation" if of.kind is Kind.DROP_INDEX else of.catalog, of.name))


def _only(pg: Pg, block: str, name: str) -> object:
    row = pg.execute(_SQL[block], {"name": name}).fetchone()
    return row[0] if row is not None else None


def complete(means: Means, pg: Pg, statement: Statement) -> None:
    """Check a statement that has ended: IF NOT EXISTS accepts an invalid index, which is dropped and built again.

    :param pg: as for :func:`resolve`.
    """
    of = lookup(statement)
    if of.kind is Kind.BUILD_INDEX:
        found = pg.execute(_SQL["index"], {"table": of.table, "name": of.name}).fetchone()
        if found is not None and not found[0]:
            means.context.progress.say(f"index {of.name} existed and is invalid: dropped, it is built again")
            _drop_index(means, pg, found[1])
            pg.execute(statement.text.encode(), prepare=False)


def remove_leftovers(means: Means, pg: Pg, statement: Statement) -> bool:
    """Remove what a failed statement has left; whether nothing of it remains.

    :param pg: as for :func:`resolve`.
    """
    of = lookup(statement)
    try:
        if of.kind is Kind.BUILD_INDEX:
            found = pg.execute(_SQL["index"], {"table": of.table, "name": of.name}).fetchone()
            if found is not None and not found[0]:
                _drop_index(means, pg, found[1])
        elif of.kind is Kind.REINDEX:
            _drop_left_by_reindex(means, pg, of)
        elif of.kind is Kind.DETACH:
            found = pg.execute(_SQL["partition"], {"name": of.name, "table": of.table}).fetchone()
            return found is None or not found[0]
    except (psycopg.Error, ConfitureError):
        return False
    return of.kind is not Kind.UNKNOWN
