"""PgBouncer's admin console. It accepts only the simple query protocol. Every command has a deadline.

https://www.pgbouncer.org/usage.html
"""

from __future__ import annotations

import select
import time

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from confiture.config import Database, redact
from confiture.errors import CannotConnect, Refused, UsageError

CONNECT_SECONDS = 5
#: Seconds for a command that waits for no transaction.
SECONDS = 10.0


class Failed(Refused):
    """The console rejected a command; ``why`` is its message."""


class TimedOut(CannotConnect):
    """No answer by the deadline. The connection is closed, and PgBouncer may still execute the command."""


class Console:
    """One connection, opened on first use and reopened after it was lost.

    :param conninfo: connects to the console; ``dbname`` defaults to ``pgbouncer``.
    """

    def __init__(self, conninfo: str) -> None:
        try:
            given = {"dbname": "pgbouncer", **conninfo_to_dict(conninfo)}
        except psycopg.ProgrammingError as error:
            fix = "write it like 'host=127.0.0.1 port=6432 user=admin dbname=pgbouncer'"
            raise UsageError("--pgbouncer cannot be read", why=redact(str(error)).strip(), fix=fix) from None
        self._conninfo = make_conninfo("", **{"connect_timeout": CONNECT_SECONDS, **given})
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        #: The console's address, without secrets.
        self.public = Database("pooler", make_conninfo("", **given)).public

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def run(self, command: str, *, seconds: float = SECONDS) -> list[dict[str, str]]:
        """Run a command and return its rows, each a dictionary by column name; NULL becomes the empty string.

        :raises Failed: the console rejects the command.
        :raises TimedOut: the console has not answered after ``seconds``.
        :raises CannotConnect: the console cannot be reached.
        """
        try:
            return _run(self._pgconn(), command, time.monotonic() + seconds)
        except psycopg.OperationalError as error:
            self.close()
            raise self._cannot_connect(error) from None
        except TimedOut:
            self.close()
            raise

    def _pgconn(self) -> pq.abc.PGconn:
        if self._connection is None or self._connection.closed:
            # psycopg sends nothing of its own: the connection is in autocommit, and only its PGconn is used.
            self._connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        return self._connection.pgconn

    def _cannot_connect(self, error: psycopg.OperationalError) -> CannotConnect:
        lines = redact(str(error)).strip().splitlines() or [""]
        return CannotConnect(
            "the pooler's admin console does not answer",
            why=f"{self.public}: {lines[-1]}",
            fix="check --pgbouncer, PgBouncer's admin_users, and that PgBouncer is running",
        )


def _run(pgconn: pq.abc.PGconn, command: str, deadline: float) -> list[dict[str, str]]:
    pgconn.send_query(command.encode())  # without parameters: the simple protocol
    rows: list[dict[str, str]] = []
    failed = ""
    while (result := _next(pgconn, command, deadline)) is not None:
        if result.status == pq.ExecStatus.TUPLES_OK:
            rows += _rows(result)
        elif result.status != pq.ExecStatus.COMMAND_OK:
            failed = (result.error_message or b"").decode(errors="replace").strip()
    if failed:
        raise Failed(f"the pooler rejects {command}", why=redact(failed), fix="check PgBouncer's log")
    return rows


def _next(pgconn: pq.abc.PGconn, command: str, deadline: float) -> pq.abc.PGresult | None:
    """The next result, or None after the last one."""
    while pgconn.is_busy():
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pgconn.socket], [], [], left)[0]:
            fix = "check PgBouncer, then run the same command again"
            raise TimedOut(f"the pooler has not answered {command}", why="the command timed out", fix=fix)
        pgconn.consume_input()
    return pgconn.get_result()


def _rows(result: pq.abc.PGresult) -> list[dict[str, str]]:
    names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
    return [
        {name: (result.get_value(row, i) or b"").decode(errors="replace") for i, name in enumerate(names)}
        for row in range(result.ntuples)
    ]
