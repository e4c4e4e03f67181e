"""SQLAlchemy Core over the connection of a session, for the journal; imported when a transaction first asks for it."""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import NullPool

from confiture.postgres.connection import Pg

#: The connection that the engine is to use next.
_GIVEN: ContextVar[Pg] = ContextVar("given")
#: While the first connection is examined, no other thread may use the engine.
_EXAMINED = Lock()


class Dialect(PGDialect_psycopg):
    """Leaves transactions to the session: the engine may meet a connection for the first time within one."""

    supports_statement_cache = True

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Do nothing; the engine would otherwise end the transaction in which it has examined the connection."""

    def is_disconnect(self, *arguments: Any) -> bool:
        """Leave a lost connection to its session.

        The engine would note the time of the loss, and close each later connection whose time is before it: all of
        them, when the clock is set back.
        """
        return False


registry.register("postgresql.session", __name__, Dialect.__name__)


@cache
def _engine() -> sa.Engine:
    """One engine for all sessions: it compiles each statement once, and asks a server for its version once."""
    return sa.create_engine(
        "postgresql+session://",
        creator=_GIVEN.get,
        poolclass=NullPool,
        pool_reset_on_return=None,
        use_native_hstore=False,  # which would be looked up
    )


def over(pg: Pg) -> sa.Connection:
    """Core over a connection; what it executes is part of the transaction that is open there."""
    with _EXAMINED:
        token = _GIVEN.set(pg)
        try:
            return _engine().connect()
        finally:
            _GIVEN.reset(token)
