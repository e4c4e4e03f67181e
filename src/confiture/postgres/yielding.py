"""Give way to the application: cancel reading work that one of its sessions waits for, and repeat it.

A reading transaction holds ACCESS SHARE locks. An ``ALTER TABLE`` of the application waits for them, and every later
statement on that table waits behind the ``ALTER TABLE`` (docs/invariants.md, I-2.3). So each command has a watcher: a
thread with its own connection that asks which sessions wait for a lock, and for whom (``pg_blocking_pids``).

A unit of work is one reading transaction and every transaction that is open beside it: while the target inserts a
chunk, the source's transaction is idle and nothing in it can be cancelled, so the statement in flight on either side
is. The unit ends with :class:`GaveWay`, its locks are released, and :func:`confiture.postgres.retry.repeated` repeats
it: the server grants the lock to the waiting session first, because it queued first.

A unit is never cancelled once it begins to commit a writing transaction: a COMMIT that waits for a synchronous standby
would return success without it.
https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SESSION
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import psycopg

from confiture.config import Database, excerpt, redact
from confiture.errors import ConfitureError, GaveWay
from confiture.log import log
from confiture.postgres.connection import Pg
from confiture.postgres.session import Session, enrolling
from confiture.sql import load

#: Seconds between two looks, and for which a session of the application may wait: together they stay below the two
#: seconds that an application may be delayed.
LOOK_SECONDS = 0.4
PATIENCE_SECONDS = 0.4
#: Seconds between two cancellations of one unit: one that arrives between two statements has no effect.
AGAIN_SECONDS = 0.1
#: Seconds for a server to accept a cancellation.
CANCEL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A session that waits for a lock of ours; ``query`` is empty where it is hidden from our role."""

    pid: int
    user: str
    application_name: str
    query: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.user or 'role hidden'}, {self.application_name or 'no application name'})"


@dataclass(slots=True, eq=False)
class _Open:
    """A transaction of a unit.

    :ivar yields: whether a session that waits for its locks is given way to.
    :ivar doubtful: a cancellation was sent and not confirmed: it may arrive at any later statement.
    """

    pg: Pg
    database: Database
    yields: bool
    doubtful: bool = False


class Unit:
    """Work that can be cancelled and repeated as a whole, with the transactions it has open.

    :ivar asked: the session it was asked to give way to; None so far.
    """

    def __init__(self, database: Database) -> None:
        self.asked: Waiting | None = None
        self._database = database
        self._lock = threading.Lock()
        self._open: list[_Open] = []
        self._commits = False

    @contextmanager
    def enrolled(self, session: Session, read_only: bool) -> Iterator[None]:
        """A transaction of the unit, from its first statement to the one before COMMIT or ROLLBACK.

        :raises GaveWay: when the unit was cancelled before.
        """
        # The target gives way where it is only read. Where it is written to, the application does not use it yet.
        entry = _Open(session.pg, session.database, read_only or session.database == self._database)
        with self._lock:
            if self.asked is not None and not self._commits:
                raise gave_way(self.asked)
            self._open.append(entry)
        try:
            yield
        except BaseException:
            self._leave(entry)
            raise
        self._leave(entry, commits=not read_only)

    def _leave(self, entry: _Open, *, commits: bool = False) -> None:
        with self._lock:  # a cancellation that is in progress ends first, so that it cannot reach the COMMIT
            self._open.remove(entry)
            self._commits |= commits
        if entry.doubtful:
            entry.pg.close()

    def pids(self, database: Database) -> list[int]:
        """The server processes that hold locks of this unit in a database."""
        with self._lock:
            if self._commits:
                return []
            return [
                e.pg.info.backend_pid for e in self._open if e.yields and e.database == database and not e.pg.closed
            ]

    @property
    def databases(self) -> set[Database]:
        """Where it holds locks that it gives way with."""
        with self._lock:
            return set() if self._commits else {e.database for e in self._open if e.yields}

    def cancel(self, waiting: Waiting) -> None:
        """Cancel every statement in flight of the unit, on both sides; nothing once it commits."""
        with self._lock:
            if self._commits or not self._open:
                return
            self.asked = waiting
            for entry in self._open:
                try:
                    entry.pg.cancel_safe(timeout=CANCEL_SECONDS)
                except psycopg.Error as error:
                    entry.doubtful = True
                    log.info("a cancellation failed", error=redact(str(error)))


def gave_way(waiting: Waiting) -> GaveWay:
    """The error that ends a cancelled unit."""
    return GaveWay(
        f"gave way to {waiting}, which waited for a lock",
        why=f"its statement: {waiting.query}" if waiting.query else "its statement is hidden from this role",
        fix="run the same command again",
    )


class Watch(threading.Thread):
    """The watcher of one command, or of one worker process.

    :param say: reports each session that was given way to, once.
    :param run: the run's short name; empty before there is one.
    """

    def __init__(self, say: Callable[[str], None], run: str) -> None:
        super().__init__(name="giving way", daemon=True)
        self._say = say
        self._run = run
        self._lock = threading.Lock()
        self._units: list[Unit] = []
        self._sessions: dict[Database, Session] = {}
        self._reported: set[int] = set()
        self._end = threading.Event()

    def begin(self, unit: Unit) -> None:
        """Watch a unit."""
        with self._lock:
            self._units.append(unit)

    def done(self, unit: Unit) -> None:
        """Stop watching a unit."""
        with self._lock:
            self._units.remove(unit)

    def report(self, waiting: Waiting) -> None:
        """Report once per session that this command gave way to it."""
        if waiting.pid not in self._reported:
            self._reported.add(waiting.pid)
            self._say(f"gave way to {waiting}{f': {waiting.query}' if waiting.query else ''}; repeating the work")

    def run(self) -> None:
        """Check regularly until ended."""
        try:
            while not self._end.wait(self._pause()):
                with self._lock:
                    units = list(self._units)
                for database in set[Database]().union(*(u.databases for u in units)):
                    self._look(database, units)
        finally:
            for session in self._sessions.values():
                session.close()

    def _pause(self) -> float:
        with self._lock:
            return AGAIN_SECONDS if any(u.asked is not None for u in self._units) else LOOK_SECONDS

    def _look(self, database: Database, units: list[Unit]) -> None:
        pids = {pid: unit for unit in units for pid in unit.pids(database)}
        if not pids:
            return
        session = self._sessions.setdefault(database, Session(database, "watcher", self._run))
        values = {"ours": list(pids), "seconds": PATIENCE_SECONDS}
        try:
            with session.transaction(read_only=True) as tx:
                found = tx.pg.execute(_WAITING, values).fetchall()
        except (psycopg.Error, ConfitureError) as error:
            log.info("cannot read which sessions wait", database=database.name, error=redact(str(error)))
            return
        for ours, pid, user, name, query in found:
            pids[ours].cancel(Waiting(pid, user, name, excerpt(query)))

    def end(self) -> None:
        """Stop watching, and wait until the thread has ended."""
        self._end.set()
        self.join(timeout=CANCEL_SECONDS)


_WAITING = load("giving_way.sql")["waiting"]
#: The watcher of this thread's command. A unit of work belongs to the thread that does it, so that a new thread or
#: process, which inherits none, begins with :func:`watching` of its own.
_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching(say: Callable[[str], None], run: str = "") -> Iterator[None]:
    """Units of work in the block give way, with a watcher of the block's own; the parameters are those of a watch."""
    watch = Watch(say, run)
    watch.start()
    try:
        with watched_by(watch):
            yield
    finally:
        watch.end()


@contextmanager
def watched_by(watch: Watch) -> Iterator[None]:
    """Units of work in the block give way when ``watch``, which is started, asks for it."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def yielding(session: Session) -> Iterator[None]:
    """A unit of work: every transaction begun in the block belongs to it. One in another is part of that.

    :param session: whose database the application uses: it is given way to there.
    :raises GaveWay: when a session of the application waited; repeat the block as a whole.
    """
    watch = _watch.get()
    if watch is None:
        yield
        return
    unit = Unit(session.database)
    # A request to a unit within another is a request to the outer one.
    with enrolling(unit.enrolled, outermost=True) as outer:
        if not outer:
            yield
            return
        watch.begin(unit)
        try:
            yield
        except GaveWay:
            raise
        except psycopg.Error as error:
            if unit.asked is None:
                raise
            watch.report(unit.asked)
            raise gave_way(unit.asked) from error
        finally:
            watch.done(unit)


@contextmanager
def holding_on() -> Iterator[None]:
    """Transactions begun in the block are not cancelled: they have a limit of their own, or belong to no unit."""
    token = _watch.set(None)
    try:
        with enrolling(None):
            yield
    finally:
        _watch.reset(token)
