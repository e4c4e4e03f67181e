"""Connections: one session profile, explicit transactions, retries of whole transactions.

The profile is set with ``SET LOCAL`` at the start of every transaction (docs/invariants.md, I-9.1 and
I-9.4), because behind a pooler a session's settings vanish or leak. ``SET`` takes no snapshot, so a REPEATABLE READ
transaction can still lock first and take its snapshot after.
https://www.postgresql.org/docs/current/sql-set-transaction.html
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from math import ceil

import psycopg
import sqlalchemy as sa
from psycopg import IsolationLevel, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.pool import NullPool

from confiture import secret_values
from confiture.config import SECRETS, Database, redact
from confiture.errors import CannotConnect, Refused
from confiture.failpoints import armed, failpoint
from confiture.postgres.backends import Pg, terminate
from confiture.postgres.watchdog import Watched, watch
from confiture.types import Backend

#: Settings that decide how values are read, printed and compared, and how long we may hold things.
PROFILE: dict[str, str] = {
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "row_security": "off",
    "synchronous_commit": "on",
    "default_transaction_read_only": "off",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
    "client_connection_check_interval": "2s",
}

#: A lock that makes readers or writers wait behind us is waited for this long, then tried again.
BRIEF_LOCK = "1s"

#: What a transaction ends with that somebody else's locks are in the way of.
LOCK_CONFLICTS = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

#: Who has not taken a run yet is not known to anybody: frozen, its server lets its locks go after this.
CLAIM_TIMEOUT = "20s"

#: What a foreign server must carry too (I-3.10): settings that shape values; and a foreign table's session waits for
#: who waits for our own, which no server sees as a deadlock.
REMOTE_PROFILE = {
    name: PROFILE[name]
    for name in (
        "timezone",
        "datestyle",
        "intervalstyle",
        "extra_float_digits",
        "bytea_output",
        "xmloption",
        "lc_monetary",
        "row_security",
        "search_path",
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        # Of the source's own side: its session ends when the target's server has vanished, with the locks it holds. An
        # idle transaction is no sign of that: between two FETCHes the target inserts, for as long as that takes.
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
        "tcp_user_timeout",
        "client_connection_check_interval",
    )
} | {"lock_timeout": BRIEF_LOCK}

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

#: A transaction that sets this to the run's schema writes for us: capture does not log it (it would echo),
#: and fences let it pass (I-7.4).
WRITER = "confiture.writer"


class Budget:
    """What is left of the write pause, for every statement of every session (docs/invariants.md, I-8.10).

    A session whose transaction is open while the application waits for a lock of ours is limited in three ways: each
    statement has what is left as its timeout; the server ends the session when this process is frozen between two
    statements for longer; and at the deadline whatever runs is cancelled from here.

    :ivar lock_timeout: seconds to wait for any other lock: where one of our sessions holds a lock that another session
        waits for, and another one of ours waits behind that session, no server sees the deadlock.
    """

    def __init__(self, lock_timeout: float, until: float) -> None:
        self.lock_timeout = lock_timeout
        self._until = until
        self._running: set[Pg] = set()
        self._lock = threading.Lock()
        self._timer = threading.Timer(self.left, self._cancel)
        self._timer.daemon = True

    @property
    def left(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, self._until - time.monotonic())

    @property
    def spent(self) -> bool:
        """Whether the deadline has passed."""
        return self.left == 0

    def limit(self, pg: Pg, *, idle: bool = True) -> None:
        """Limit the open transaction of a connection until :meth:`release`.

        :param idle: also end its session when it is idle for too long, so that its locks go.
        """
        statement, lock, frozen = (
            sql.Literal(f"{max(1, ceil(s * 1000))}ms")
            for s in (self.left, self.lock_timeout, self.left + GRACE_SECONDS)
        )
        pg.execute(sql.SQL("SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}").format(statement, lock))
        if idle:
            pg.execute(sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}").format(frozen))
        with self._lock:
            self._running.add(pg)

    def release(self, pg: Pg) -> None:
        """The connection's transaction has ended; a cancellation on its way to it has arrived."""
        with self._lock:
            self._running.discard(pg)

    def _cancel(self) -> None:
        with self._lock:  # until the servers have taken it: a late one would hit a statement that has no limit
            for pg in self._running:
                with contextlib.suppress(psycopg.Error):
                    pg.cancel_safe(timeout=CANCEL_SECONDS)

    def __enter__(self) -> Budget:
        self._timer.start()
        self._token = _BUDGET.set(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _BUDGET.reset(self._token)
        self._timer.cancel()
        self._timer.join()


#: Seconds after the deadline in which this process ends its transactions itself, if it is not frozen.
GRACE_SECONDS = 0.5

#: Seconds for a server to take a request to cancel.
CANCEL_SECONDS = 2.0

_BUDGET: ContextVar[Budget | None] = ContextVar("budget", default=None)

#: Surrounds what is done in a transaction, given its session and whether it only reads.
Enrol = Callable[["Session", bool], AbstractContextManager[None]]

_ENROL: ContextVar[Enrol | None] = ContextVar("enrol", default=None)


@contextmanager
def enrolling(enrol: Enrol | None, *, outermost: bool = False) -> Iterator[bool]:
    """Surround what is done in each transaction begun in the block, up to its COMMIT or ROLLBACK.

    :param outermost: leave the transactions to a block around this one, if there is any.
    :returns: whether they are this block's.
    """
    if outermost and _ENROL.get() is not None:
        yield False
        return
    token = _ENROL.set(enrol)
    try:
        yield True
    finally:
        _ENROL.reset(token)


@cache
def profile_sql(search_path: tuple[str, ...] | None, run: str, lock_timeout: str) -> bytes:
    """The ``SET LOCAL`` statements of the profile, as one string.

    :param search_path: for sessions that run the user's own SQL; None keeps ``pg_catalog``.
    :param run: the run these writes are for; empty before there is one.
    """
    settings = {**PROFILE, "lock_timeout": lock_timeout}
    del settings["search_path"]
    statements = [
        sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in settings.items()
    ]
    if run:
        statements.append(sql.SQL("SET LOCAL {} = {}").format(sql.SQL(WRITER), sql.Literal(f"confiture_{run}")))
    path = sql.SQL(", ").join(map(sql.Identifier, search_path or ("pg_catalog",)))
    statements.append(sql.SQL("SET LOCAL search_path = {}").format(path))
    return sql.SQL("; ").join(statements).as_bytes()


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction: ``pg`` moves data, ``sa`` reads and writes the journal; both are one."""

    pg: Pg
    sa: sa.Connection


class Session:
    """One connection to one database, opened when first used and again after it was lost.

    :param database: where to.
    :param role: what it is for, shown in ``application_name`` (``confiture <run> <role>``).
    :param run: the run's short name; empty before there is one.
    :param user_sql: True for sessions that run the user's DDL or expressions: they use the
        environment's ``search_path`` and are thrown away (I-9.5).
    """

    def __init__(self, database: Database, role: str, run: str = "", *, user_sql: bool = False) -> None:
        self.database = database
        self.role = role
        self.run = run
        self._path = database.search_path if user_sql else None
        self._pg: Pg | None = None
        self._backend: Backend | None = None
        self._sa: sa.Connection | None = None

    @property
    def pg(self) -> Pg:
        """The live connection, in autocommit; opened here if there is none, or it was lost."""
        if self._pg is None or self._pg.closed:
            lost = self._backend if self._pg is not None else None
            self.close()
            self._backend = None
            self._pg = connect(self.database, f"confiture {self.run} {self.role}".replace("  ", " "))
            if lost is not None:
                # Behind a proxy its server process may not know of that, and keep its locks.
                terminate(self._pg, (lost,))
        return self._pg

    @property
    def backend(self) -> Backend:
        """The server process behind this session, for takeover; it changes with a reconnect."""
        pg = self.pg
        if self._backend is None:
            self._backend = _backend(pg)
        return self._backend

    def _core(self) -> sa.Connection:
        pg = self.pg
        if self._sa is None:
            engine = sa.create_engine(
                "postgresql+psycopg://", creator=lambda: pg, poolclass=NullPool, pool_reset_on_return=None
            )
            self._sa = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        return self._sa

    @contextmanager
    def transaction(self, *, isolation: IsolationLevel | None = None, read_only: bool = False) -> Iterator[Transaction]:
        """BEGIN with the profile, COMMIT at the end, ROLLBACK if anything is raised.

        :param isolation: None for READ COMMITTED.
        :raises CannotConnect: when no connection can be had.
        """
        ended = False
        try:
            core, pg = self._core(), self.pg
            pg.isolation_level = isolation or IsolationLevel.READ_COMMITTED
            pg.read_only = read_only
            with pg.transaction():
                budget = _BUDGET.get()
                patience = PROFILE["lock_timeout"] if budget is None else f"{ceil(budget.lock_timeout * 1000)}ms"
                pg.execute(profile_sql(self._path, self.run, patience))
                enrol = _ENROL.get()
                with _limited(budget, pg), enrol(self, read_only) if enrol is not None else nullcontext():
                    yield Transaction(pg, core)
                    ended = not read_only
                if ended:
                    failpoint("commit.before")
            if ended:
                failpoint("commit.after")
                self._lose_answer()
        except sa.exc.DBAPIError as error:
            raise _driver_error(error) from error

    def _lose_answer(self) -> None:
        """For tests: the COMMIT has happened, and its answer never comes."""
        if armed("commit.lost"):
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    @contextmanager
    def rehearsal(self) -> Iterator[Transaction]:
        """A transaction that is always rolled back: for looking without changing anything."""
        with self.transaction() as tx:
            yield tx
            raise psycopg.Rollback()

    def close(self) -> None:
        """Close the connection if there is one; the session may be used again."""
        if self._sa is not None:
            self._sa.invalidate()  # closes without a rollback, which a broken connection could not answer
        if self._pg is not None:
            self._pg.close()
        self._pg = None
        self._sa = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextmanager
def _limited(budget: Budget | None, pg: Pg) -> Iterator[None]:
    if budget is None:
        yield
        return
    budget.limit(pg)
    try:
        yield
    finally:
        budget.release(pg)


def _driver_error(error: sa.exc.DBAPIError) -> BaseException:
    return error.orig if isinstance(error.orig, psycopg.Error) else error


def connect(database: Database, application_name: str) -> Pg:
    """A connection in autocommit, without server-side prepared statements (I-9.3).

    :raises CannotConnect: with the server's reason, the password never in it.
    :raises Refused: behind a transaction pooler, where session state cannot be relied on.
    """
    try:
        pg = Watched.connect(
            make_conninfo(database.conninfo, options=_options(database)),
            autocommit=True,
            prepare_threshold=None,
            application_name=application_name,
            client_encoding="UTF8",
            **KEEPALIVES,  # type: ignore[arg-type]
        )
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" in str(error):
            raise _pooled(database, "PgBouncer takes no settings at the start of a session") from None
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


def effective_secrets(pg: Pg) -> set[str]:
    """The secrets it was made with; the password may come from a password file, which only libpq has read."""
    return {pg.info.password, *(value for name, value in effective(pg).items() if name in SECRETS)}


def _cannot_connect(database: Database, error: psycopg.OperationalError) -> CannotConnect:
    reason = redact(str(error)).strip().splitlines()
    return CannotConnect(
        f"cannot connect to {database.name}",
        why=f"{database.public}: {_told(reason)}",
        fix="check that the server runs, the address, the user and the password (PGPASSFILE is read)",
        detail="\n".join(reason),
    )


def _told(reason: list[str]) -> str:
    """What went wrong, of libpq's lines: the last one that is no question of its own."""
    told = [line.strip() for line in reason if line.strip() and not line.strip().endswith("?")]
    return told[-1] if told else "no reason given"


#: What has to hold before and outside a transaction with the profile too: nothing that a role or a database has set
#: ends the session, and a lost machine's sessions are not kept with their locks.
_FROM_THE_START = {
    name: value
    for name, value in PROFILE.items()
    if name.startswith(("tcp_", "idle_")) or name in ("statement_timeout", "default_transaction_read_only")
}


def _options(database: Database) -> str:
    """The user's own ``options``, and ours behind them: the last word counts."""
    given = conninfo_to_dict(database.conninfo).get("options") or os.environ.get("PGOPTIONS", "")
    return " ".join((str(given), *(f"-c {name}={value}" for name, value in _FROM_THE_START.items()))).strip()


#: What only newer servers have. Event triggers would fire for each temporary table of a pass.
_SINCE_17 = (
    ", pg_catalog.set_config('transaction_timeout', '0', false)"
    ", CASE WHEN pg_catalog.has_parameter_privilege(current_user, 'event_triggers', 'SET')"
    " THEN pg_catalog.set_config('event_triggers', 'off', false) END"
)


def _refuse_pooler(database: Database, pg: Pg) -> None:
    # Only newer servers know this one, so it cannot be among the options.
    off = _SINCE_17 if pg.info.server_version >= 170000 else ""
    # A pooler hands out a cancel key of its own, so the process it names is not the one that answers.
    row = pg.execute(f"SELECT pg_catalog.pg_backend_pid(){off}".encode()).fetchone()
    if row is not None and row[0] != pg.info.backend_pid:
        raise _pooled(database, "the server process that answers is not the one that was connected to")


def _pooled(database: Database, why: str) -> Refused:
    return Refused(
        f"{database.name} is reached through a connection pooler",
        why=f"{database.public}: {why}",
        fix="give the address of the PostgreSQL server itself",
    )


def _backend(pg: Pg) -> Backend:
    # Seconds since the epoch: the session's date style, which need not be ours yet, does not show in them.
    row = pg.execute(
        "SELECT pid, extract(epoch FROM backend_start)::text FROM pg_catalog.pg_stat_activity"
        " WHERE pid = pg_catalog.pg_backend_pid()"
    ).fetchone()
    assert row is not None
    return Backend(*row)


def refuse_version(name: str, server_version: int) -> None:
    """:raises Refused: when confiture does not know that PostgreSQL (170002 is 17.2)."""
    major = server_version // 10000
    if not OLDEST_VERSION <= major <= NEWEST_VERSION:
        raise Refused(
            f"{name} runs PostgreSQL {major}",
            why=f"PostgreSQL {OLDEST_VERSION} to {NEWEST_VERSION} are supported",
            fix="upgrade the server, or use a newer confiture",
        )


def brief_lock(tx: Transaction) -> None:
    """Have the transaction's statements wait for locks no longer than the application can bear.

    A statement that waits for a strong lock holds up everybody who comes after it.
    """
    tx.pg.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(BRIEF_LOCK)))


def claiming(tx: Transaction) -> None:
    """Have the transaction ended by its server when we are not heard of: no takeover knows of it."""
    statement = sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}")
    tx.pg.execute(statement.format(sql.Literal(CLAIM_TIMEOUT)))
