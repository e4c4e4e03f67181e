"""A scratch database on the server of another database, which the next command drops if this one is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from confiture.catalog_model import Identity
from confiture.config import Database
from confiture.errors import Held, Refused
from confiture.failpoints import failpoint
from confiture.postgres.connection import Pg, only_row
from confiture.postgres.create_database import create_statement
from confiture.postgres.session import Session
from confiture.sql import load

#: Key of the advisory lock of the database: a number that no other program is likely to use in it.
_CHECK_LOCK = 0x63686B62
#: The part of the server's lock table that a scratch build may use: the application's sessions need the rest.
_SHARE_OF_LOCKS = 0.5


def scratch_name(like: Identity) -> str:
    """The name of the scratch database of a database, by which the next command finds it."""
    return f"confiture_scratch_{like.oid}"


def _mark(like: Identity) -> str:
    """The comment of a scratch database, by which the next command finds it under another name."""
    return f"Scratch database of confiture build --check for the database with OID {like.oid}; the next check drops it."


@contextmanager
def scratch_database(beside: Database, like: Identity, name: str | None, statements: int) -> Iterator[Database]:
    """An empty database on the same server, with the same encoding and locale, that is dropped after the block.

    One command at a time has a scratch database for a database: it holds an advisory lock there. A command that is
    killed leaves the scratch database, in which nothing is committed; the next command drops it.

    :param beside: the database that the scratch database is compared with.
    :param name: None for :func:`scratch_name`.
    :param statements: the number of statements that will run there in one transaction.
    :raises Refused: the role may not create databases, the server is a standby, a database of that name exists, or the
        DDL needs too many of the server's locks.
    :raises Held: another command has a scratch database for the same database.
    """
    refuse(like)
    with Session(beside, "check") as session:
        pg = session.pg
        _refuse_many_locks(pg, statements)
        if not only_row(pg.execute("SELECT pg_try_advisory_lock(%s, 0)", (_CHECK_LOCK,)))[0]:
            raise Held(
                f"another command checks {beside.name}",
                why="it has the scratch database, of which there is one for each database",
                fix="run the same command again when the other one has ended",
            )
        _drop_leftovers(pg, like)
        chosen = _create(pg, like, name)
        try:
            failpoint("scratch.created")
            yield beside.with_dbname(chosen)
        finally:
            # When the connection is lost, so is the lock. The next command drops the database.
            with suppress(psycopg.Error):
                _drop(pg, chosen)


def refuse(like: Identity) -> None:
    """:raises Refused: no database can be created on the server of the database."""
    if like.in_recovery:
        raise Refused(
            f"no scratch database can be created beside {like.database}",
            why="its server is a standby",
            fix="name the environment of the primary",
        )
    if not like.may_create_databases:
        raise Refused(
            f"no scratch database can be created beside {like.database}",
            why=f"role {like.role} lacks CREATEDB",
            fix=sql.SQL("run: ALTER ROLE {} CREATEDB").format(sql.Identifier(like.role)).as_string(),
        )


def _refuse_many_locks(pg: Pg, statements: int) -> None:
    """:raises Refused: the build could exhaust the lock table that all sessions of the server share."""
    relations, room = only_row(pg.execute(load("scratch.sql")["locks"]))
    if max(relations, statements) > room * _SHARE_OF_LOCKS:
        raise Refused(
            "the scratch build could exhaust the server's lock table",
            why=f"it locks about {max(relations, statements):,} objects, and all sessions share room for {room:,}",
            fix="install the extra embedded to build on this machine, or raise max_locks_per_transaction",
        )


def _drop_leftovers(pg: Pg, like: Identity) -> None:
    query = load("scratch.sql")["leftovers"].decode()
    for (name,) in pg.execute(query, {"name": scratch_name(like), "mark": _mark(like)}).fetchall():
        _drop(pg, name)


def _drop(pg: Pg, name: str) -> None:
    pg.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _create(pg: Pg, like: Identity, name: str | None) -> str:
    """Create and mark the database; it gets its name last, so that a killed command leaves none without a mark."""
    first = scratch_name(like)
    if name is not None and pg.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
        raise Refused(
            f"the database {name} exists",
            why="--scratch names a new database, which is dropped afterwards",
            fix="choose another name, or drop it",
        )
    pg.execute(create_statement(first, like, like.version))
    failpoint("scratch.unmarked")
    comment = sql.SQL("COMMENT ON DATABASE {} IS {}")
    pg.execute(comment.format(sql.Identifier(first), sql.Literal(_mark(like))))
    if name is None:
        return first
    pg.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(first), sql.Identifier(name)))
    return name
