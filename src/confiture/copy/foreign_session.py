"""The session that the target's server opens on the source for the run's foreign server.

The session does not belong to this process: it remains open when the target's server or the network fails. Its identity
is read through the foreign server and recorded in the journal before the session locks a table.
"""

from __future__ import annotations

from psycopg import sql

from confiture.errors import CannotConnect
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.sql import load
from confiture.types import Backend

#: Names the session in the context, and the view and the foreign table in the run's schema on either side.
NAME = "self"


def prepare(context: Context, server: str) -> None:
    """Create the view on the source and the foreign table in the target that show the session's identity."""
    named, name = load("foreign_server.sql"), sql.Identifier(context.schema, NAME)
    # Durable: the view, which a crash leaves without its foreign table. Both statements are harmless to repeat.
    with context.fenced_source("foreign_session.view") as tx:
        tx.pg.execute(sql.SQL(named["self_view"].decode()).format(view=name))
    # Durable: the foreign table over the view.
    with context.fenced("foreign_session.table") as tx:
        statement = sql.SQL(
            "CREATE FOREIGN TABLE IF NOT EXISTS {} (pid integer, started text)"
            " SERVER {} OPTIONS (schema_name {}, table_name {})"
        )
        values = (name, sql.Identifier(server), sql.Literal(context.schema), sql.Literal(NAME))
        tx.pg.execute(statement.format(*values))


def record_session(context: Context) -> None:
    """Open the session, or find the open one, and record it; a session that it replaces is terminated.

    The target's server keeps it open for the next transaction.
    """
    with context.target.transaction(read_only=True) as tx:
        backend = _look(context, tx)
    if backend != context.joined(NAME):
        context.join(NAME, "source", backend)


def check(context: Context, tx: Transaction) -> None:
    """Check the session before ``tx`` reads through the foreign server.

    :raises CannotConnect: when ``tx`` would use a session that is not recorded; the caller retries.
    """
    if _look(context, tx) != context.joined(NAME):
        raise CannotConnect(
            "the connection from the target's server to the source was lost",
            why="the foreign server has opened another session",
            fix="run the same command again",
        )


def _look(context: Context, tx: Transaction) -> Backend:
    name = sql.Identifier(context.schema, NAME)
    # A session sees itself.
    return Backend(*only_row(tx.pg.execute(sql.SQL("SELECT pid, started FROM {}").format(name))))
