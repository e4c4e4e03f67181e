"""The session that the target's server opens on the source for the run's foreign server.

It is no session of this process: it stays when the target's server, or what is between the two, vanishes. So it is
asked for its own identity through the foreign server, and the journal has that before it locks a table.
"""

from __future__ import annotations

from psycopg import sql

from confiture.errors import CannotConnect
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.sql import load
from confiture.types import Backend

#: Names the session in the context, and the view and the foreign table in the run's schema on either side.
NAME = "self"


def prepare(context: Context, server: str) -> None:
    """Have the view on the source and the foreign table in the target that the session is asked through."""
    named, name = load("foreign_server.sql"), sql.Identifier(context.schema, NAME)
    with context.fenced_source() as tx:
        tx.pg.execute(sql.SQL(named["self_view"].decode()).format(view=name))
    with context.fenced() as tx:
        statement = sql.SQL(
            "CREATE FOREIGN TABLE IF NOT EXISTS {} (pid integer, started text)"
            " SERVER {} OPTIONS (schema_name {}, table_name {})"
        )
        values = (name, sql.Identifier(server), sql.Literal(context.schema), sql.Literal(NAME))
        tx.pg.execute(statement.format(*values))


def attend(context: Context) -> None:
    """Open the session, or find the open one, and record it; the one that it replaces is ended.

    The target's server keeps it open for the next transaction.
    """
    with context.target.transaction(read_only=True) as tx:
        backend = _look(context, tx)
    if backend != context.joined(NAME):
        context.join(NAME, "source", backend)


def check(context: Context, tx: Transaction) -> None:
    """Before ``tx`` reads through the foreign server.

    :raises CannotConnect: when that would be in a session that is not recorded; the caller tries again.
    """
    if _look(context, tx) != context.joined(NAME):
        raise CannotConnect(
            "the connection from the target's server to the source was lost",
            why="the foreign server has opened another session",
            fix="run the same command again",
        )


def _look(context: Context, tx: Transaction) -> Backend:
    name = sql.Identifier(context.schema, NAME)
    row = tx.pg.execute(sql.SQL("SELECT pid, started FROM {}").format(name)).fetchone()
    assert row is not None, "a session sees itself"
    return Backend(*row)
