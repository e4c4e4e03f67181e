"""Connections: how they are opened, what they are refused for, and which secrets they carry."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from confiture import secret_values
from confiture.config import SECRETS, Database, redact
from confiture.errors import CannotConnect, Refused
from confiture.postgres.profile import PROFILE
from confiture.postgres.watchdog import Watched, watch
from confiture.types import quoted

Row = tuple[Any, ...]
Pg = psycopg.Connection[Row]

#: libpq's own limits of a connection, for a foreign server's too.
KEEPALIVES = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

OLDEST_VERSION, NEWEST_VERSION = 14, 18

#: The part of the profile that applies outside transactions too: no setting of a role or a database ends the
#: session, and the sessions of a lost machine do not keep their locks.
_FROM_THE_START = {
    name: value for name, value in PROFILE.items() if name.startswith(("tcp_", "idle_")) or name == "statement_timeout"
}

#: Not an option of the connection, so that ``pg_settings`` still shows the value that the server's configuration has.
_WRITING = "pg_catalog.set_config('default_transaction_read_only', 'off', false)"
#: Settings that only newer servers have. Event triggers would fire for each temporary table of a pass.
_SINCE_17 = (
    ", pg_catalog.set_config('transaction_timeout', '0', false)"
    ", CASE WHEN pg_catalog.has_parameter_privilege(current_user, 'event_triggers', 'SET')"
    " THEN pg_catalog.set_config('event_triggers', 'off', false) END"
)


def only_row(found: psycopg.Cursor[Row]) -> Row:
    """The row of a query that always returns one, such as an aggregate.

    :raises LookupError: when it returned none.
    """
    row = found.fetchone()
    if row is None:
        raise LookupError("a query that always returns a row returned none")
    return row


def connect(database: Database, application_name: str) -> Pg:
    """A connection in autocommit, without server-side prepared statements (I-9.3).

    :raises CannotConnect: with the server's reason, the password never in it.
    :raises Refused: behind a transaction pooler, where session state cannot be relied on.
    """
    try:
        pg = Watched.connect(
            _with_options(database.conninfo, os.environ.get("PGOPTIONS", "")),
            autocommit=True,
            prepare_threshold=None,
            application_name=application_name,
            client_encoding="UTF8",
            **KEEPALIVES,  # type: ignore[arg-type]
        )
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" in str(error):
            raise _pooled(database, "PgBouncer accepts no settings in the startup packet") from None
        raise _cannot_connect(database, error) from None
    try:
        _refuse_pooler(database, pg)
        refuse_version(database.name, pg.info.server_version)
        secret_values.use(effective_secrets(pg))
    except BaseException:
        pg.close()
        raise
    watch(pg)
    return pg


def effective(pg: Pg) -> dict[str, str]:
    """The connection's libpq options as they are in effect: of conninfo, service file and environment variables."""
    encoding = pg.info.encoding
    return {o.keyword.decode(): o.val.decode(encoding) for o in pg.pgconn.info if o.val}


def place(pg: Pg) -> str:
    """Host, port and database that the connection has reached, for people; without the role."""
    host = pg.info.host
    where = f"socket directory {host}" if host.startswith(("/", "@")) else f"host {host}"
    return f"{where}, port {pg.info.port}, database {quoted(pg.info.dbname)}"


def effective_secrets(pg: Pg) -> set[str]:
    """The secrets it was made with; the password may come from a password file, which only libpq has read."""
    return {pg.info.password, *(value for name, value in effective(pg).items() if name in SECRETS)}


def _cannot_connect(database: Database, error: psycopg.OperationalError) -> CannotConnect:
    reason = redact(str(error)).strip().splitlines()
    stated = _told(reason).removeprefix("connection failed: ")
    fix = next((fix for cause, fix in _WAYS_OUT if cause.search(stated)), _CHECK)
    return CannotConnect(
        f"cannot connect to {database.name}",
        why=stated,
        fix=fix,
        detail="\n".join(reason),
    )


_CHECK = "check that the server is running, and that host and port are correct"
_WAYS_OUT = (
    (re.compile("password authentication failed|no password supplied"),
     "give the user's password in ~/.pgpass (HOST:PORT:DATABASE:USER:PASSWORD, mode 0600) or in PGPASSWORD"),
    (re.compile('database ".*" does not exist'), "correct the name of the database; psql -l lists those of a server"),
    (re.compile('role ".*" does not exist'), "correct the name of the user"),
    (re.compile("pg_hba.conf"), "permit this user, database and address in pg_hba.conf of that server"),
    (re.compile("not currently accepting connections"), "run ALTER DATABASE ... ALLOW_CONNECTIONS true there"),
    (re.compile("too many c|connection slots"), "wait until other sessions have ended, then run it again"),
    (re.compile("starting up|shutting down|recovery"), "wait until the server accepts connections, then run it again"),
    (re.compile("resolve host|translate host name"), "correct the name of the host"),
)  # fmt: skip


def _told(reason: list[str]) -> str:
    """The reason among libpq's lines: the last line that is not a question."""
    given = [line.strip() for line in reason if line.strip() and not line.strip().endswith("?")]
    return given[-1] if given else "the server gave no reason"


@lru_cache
def _with_options(conninfo: str, environment: str) -> str:
    """The user's own ``options``, followed by those of Confiture: the last setting of a name applies.

    :param environment: the options that the environment gives, for a conninfo without any.
    """
    given = conninfo_to_dict(conninfo).get("options") or environment
    settings = (f"-c {name}={value}" for name, value in _FROM_THE_START.items())
    return make_conninfo(conninfo, options=" ".join((str(given), *settings)).strip())


def _refuse_pooler(database: Database, pg: Pg) -> None:
    # Only newer servers have these settings, so they cannot be among the options.
    off = _SINCE_17 if pg.info.server_version >= 170000 else ""
    # A pooler issues a cancel key of its own, so the process that it names is not the one that answers.
    row = pg.execute(f"SELECT pg_catalog.pg_backend_pid(), {_WRITING}{off}".encode()).fetchone()
    if row is not None and row[0] != pg.info.backend_pid:
        raise _pooled(database, "the server process that answers is not the one that was connected to")


def _pooled(database: Database, why: str) -> Refused:
    return Refused(
        f"{database.name} is reached through a connection pooler",
        why=f"{database.public}: {why}",
        fix="give the address of the PostgreSQL server itself",
    )


def refuse_version(name: str, server_version: int) -> None:
    """:raises Refused: when confiture does not support that version (170002 is 17.2)."""
    major = server_version // 10000
    if not OLDEST_VERSION <= major <= NEWEST_VERSION:
        raise Refused(
            f"{name} runs PostgreSQL {major}",
            why=f"PostgreSQL {OLDEST_VERSION} to {NEWEST_VERSION} are supported",
            fix="upgrade the server, or use a newer confiture",
        )
