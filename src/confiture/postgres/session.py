"""Sessions and explicit transactions; each transaction begins with the profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

import psycopg
from psycopg import IsolationLevel, sql

from confiture.config import Database
from confiture.failpoints import armed, failpoint
from confiture.postgres.backends import backend_of, terminate
from confiture.postgres.budget import Budget
from confiture.postgres.connection import Pg, connect
from confiture.postgres.failure import name_role
from confiture.postgres.profile import BRIEF_LOCK, PROFILE, profile_sql
from confiture.types import Backend

if TYPE_CHECKING:
    import sqlalchemy

#: Until a process has recorded its sessions, no takeover can find it. If it freezes, the server ends its idle
#: transaction after this time.
CLAIM_TIMEOUT = "20s"

#: Seconds for a server to accept a cancellation.
CANCEL_SECONDS = 5.0

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


class _Core:
    """SQLAlchemy Core over one connection, made when a transaction first asks for it."""

    def __init__(self, pg: Pg) -> None:
        self._pg = pg

    @cached_property
    def connection(self) -> sqlalchemy.Connection:
        from confiture.postgres import core  # only what works with the journal's tables needs SQLAlchemy

        return core.over(self._pg)

    def close(self) -> None:
        if "connection" in vars(self):
            self.connection.invalidate()  # closes without a rollback, which a broken connection could not answer


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction: ``pg`` moves data, ``sa`` reads and writes the journal; both are one."""

    pg: Pg
    _core: _Core

    @property
    def sa(self) -> sqlalchemy.Connection:
        """SQLAlchemy Core in this transaction."""
        return self._core.connection


class Session:
    """One connection to one database, opened when first used and again after it was lost.

    :param database: the database that it connects to.
    :param role: its purpose, shown in ``application_name`` (``confiture <run> <role>``).
    :param run: the run's short name; empty before there is one.
    :param user_sql: True for sessions that run the user's DDL or expressions: they use the
        environment's ``search_path`` and are thrown away (I-9.5).
    :ivar budget: the write pause that limits each transaction of the session; None outside of one. It belongs to the
        session and not to the thread that sets it, because a new thread would not inherit it.
    """

    def __init__(self, database: Database, role: str, run: str = "", *, user_sql: bool = False) -> None:
        self.database = database
        self.role = role
        self.run = run
        self.budget: Budget | None = None
        self._path = database.search_path if user_sql else None
        self._pg: Pg | None = None
        self._backend: Backend | None = None
        self._core: _Core | None = None

    @property
    def pg(self) -> Pg:
        """The live connection, in autocommit; opened here if there is none, or it was lost."""
        if self._pg is None or self._pg.closed:
            lost = self._backend if self._pg is not None else None
            self.close()
            self._backend = None
            self._pg = connect(self.database, f"confiture {self.run} {self.role}".replace("  ", " "))
            if lost is not None:
                # Behind a proxy its server process may not detect the loss, and would keep its locks.
                terminate(self._pg, (lost,))
        return self._pg

    @property
    def backend(self) -> Backend:
        """The server process behind this session, for takeover; it changes with a reconnect."""
        pg = self.pg
        if self._backend is None:
            self._backend = backend_of(pg)
        return self._backend

    @contextmanager
    def transaction(self, *, isolation: IsolationLevel | None = None, read_only: bool = False) -> Iterator[Transaction]:
        """BEGIN with the profile, COMMIT at the end, ROLLBACK if anything is raised.

        :param isolation: None for READ COMMITTED.
        :raises CannotConnect: when no connection can be opened.
        """
        ended = False
        try:
            pg = self.pg
            core = self._core = self._core or _Core(pg)
            budget = self.budget
            patience = PROFILE["lock_timeout"] if budget is None else f"{ceil(budget.lock_timeout * 1000)}ms"
            mode = f"{(isolation or IsolationLevel.READ_COMMITTED).name} READ {'ONLY' if read_only else 'WRITE'}"
            begin = f"BEGIN ISOLATION LEVEL {mode.replace('_', ' ')}; ".encode()
            with _begun(pg, begin + profile_sql(self._path, self.run, patience)):
                enrol = _ENROL.get()
                with _within(budget, pg), enrol(self, read_only) if enrol is not None else nullcontext():
                    yield Transaction(pg, core)
                    ended = not read_only
                if ended:
                    failpoint("commit.before")
            if ended:
                failpoint("commit.after")
                self._lose_answer()
        except Exception as error:
            cause = _driver_error(error)
            if isinstance(cause, psycopg.Error) and self._pg is not None and not self._pg.closed:
                name_role(cause, self._pg.info.user)
            if cause is error:
                raise
            raise cause from error

    def _lose_answer(self) -> None:
        """For tests: the COMMIT succeeds, and its answer is lost."""
        if armed("commit.lost"):
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    @contextmanager
    def rehearsal(self) -> Iterator[Transaction]:
        """A transaction that is always rolled back, so that it changes nothing."""
        with self.transaction() as tx:
            yield tx
            raise psycopg.Rollback()

    def cancel(self, seconds: float = CANCEL_SECONDS) -> None:
        """Cancel the statement in flight, if there is one; another thread may be waiting for it.

        :param seconds: for the server to accept it; nothing is raised when it does not.
        """
        pg = self._pg
        if pg is not None and not pg.closed:
            with suppress(psycopg.Error):
                pg.cancel_safe(timeout=seconds)

    def close(self) -> None:
        """Close the connection if there is one; the session may be used again."""
        if self._core is not None:
            self._core.close()
        if self._pg is not None:
            self._pg.close()
        self._pg = None
        self._core = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextmanager
def _begun(pg: Pg, begin: bytes) -> Iterator[None]:
    """A transaction that ``begin`` begins, in one round trip with its settings. Others within it are savepoints.

    A rollback that fails does not replace the error that it follows: the connection is broken, and its server ends the
    transaction.
    """
    try:
        pg.execute(begin)
        yield
    except BaseException as error:
        with suppress(psycopg.Error):
            pg.execute("ROLLBACK")
        if not isinstance(error, psycopg.Rollback):
            raise
    else:
        pg.execute("COMMIT")


@contextmanager
def limited(budget: Budget, sessions: Iterable[Session]) -> Iterator[None]:
    """Limit every transaction that one of the sessions begins in the block to the write pause (I-8.10)."""
    taking_part = tuple(sessions)
    for session in taking_part:
        session.budget = budget
    try:
        yield
    finally:
        for session in taking_part:
            session.budget = None


@contextmanager
def _within(budget: Budget | None, pg: Pg) -> Iterator[None]:
    if budget is None:
        yield
        return
    budget.limit(pg)
    try:
        yield
    finally:
        budget.release(pg)


def _driver_error(error: Exception) -> Exception:
    """The driver's error that an error of SQLAlchemy is about, else the error itself."""
    about = getattr(error, "orig", None)
    return about if isinstance(about, psycopg.Error) else error


def brief_lock(tx: Transaction) -> None:
    """Limit how long the transaction's statements wait for a lock to :data:`BRIEF_LOCK`.

    A statement that waits for a strong lock blocks every later statement on that table.
    """
    tx.pg.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(BRIEF_LOCK)))


def claiming(tx: Transaction) -> None:
    """Have the server end the transaction when it is idle for too long: no takeover can find it."""
    statement = sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}")
    tx.pg.execute(statement.format(sql.Literal(CLAIM_TIMEOUT)))
