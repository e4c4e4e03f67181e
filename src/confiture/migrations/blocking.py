"""The sessions for which a migration's statement waits: reported while it waits, named when it has waited for too long.

A thread asks on the command's second session, which is in a transaction only while it asks. So it delays no statement
that waits for the end of transactions, such as CREATE INDEX CONCURRENTLY.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from confiture.config import redact
from confiture.errors import ConfitureError
from confiture.log import log
from confiture.postgres.session import Session
from confiture.schema_to_schema.blockers import blocker_of, described, identities
from confiture.schema_to_schema.outcomes import Blocker
from confiture.sql import load

#: Seconds between two looks, until the first look at a statement, and between two reports of the same sessions.
LOOK_SECONDS, FIRST_SECONDS, AGAIN_SECONDS = 0.1, 0.2, 30.0

#: Seconds for a look to end.
END_SECONDS = 10.0

_BLOCKERS = load("waits.sql")["blockers"]


@dataclass(frozen=True, slots=True)
class _Watched:
    pid: int
    name: str
    since: float
    stopping: Callable[[], bool]


class Observer(threading.Thread):
    """Looks at the statement that runs, and reports the sessions for which it waits.

    :param session: used by this thread only, until it has ended.
    :param say: reports a line.
    """

    def __init__(self, session: Session, say: Callable[[str], None]) -> None:
        super().__init__(name="observer", daemon=True)
        self._session = session
        self._say = say
        self._watched: _Watched | None = None
        self._found: list[Blocker] = []
        self._reported: frozenset[object] = frozenset()
        self._reported_at = 0.0
        self._told_to_stop = False
        self._end = threading.Event()

    @contextmanager
    def watching(self, pid: int, name: str, stopping: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Look at the statement of a server process during the block.

        :param name: of the statement, for reports.
        :param stopping: whether the operator has asked the command to stop.
        """
        self._found = []
        self._watched = _Watched(pid, name, time.monotonic(), stopping)
        try:
            yield
        finally:
            self._watched = None

    @property
    def has_found(self) -> bool:
        """Whether a session was found that blocked the last statement."""
        return bool(self._found)

    def named(self) -> str:
        """The sessions that blocked the last statement when it was looked at."""
        return described(self._found) or "sessions that have ended since"

    def run(self) -> None:
        """Look regularly until ended."""
        while not self._end.wait(LOOK_SECONDS):
            watched = self._watched
            if watched is not None and time.monotonic() - watched.since >= FIRST_SECONDS:
                self._look(watched)

    def _look(self, watched: _Watched) -> None:
        try:
            with self._session.transaction(read_only=True) as tx:
                values = {"pid": watched.pid, "ours": [tx.pg.info.backend_pid]}
                rows = tx.pg.execute(_BLOCKERS, values).fetchall()
        except (psycopg.Error, ConfitureError) as error:
            log.info("cannot read which sessions block a statement", error=redact(str(error)))
            return
        found = [blocker_of(*row) for row in rows]
        if found and self._watched is watched:
            self._found = found
            self._report(watched, found)
        if watched.stopping() and not self._told_to_stop:
            self._told_to_stop = True
            self._say(f"stopping when {watched.name} has ended; a second signal cancels it")

    def _report(self, watched: _Watched, found: list[Blocker]) -> None:
        now = identities(found)
        if now == self._reported and time.monotonic() - self._reported_at < AGAIN_SECONDS:
            return
        again = "still waiting" if now == self._reported else "waiting"
        self._reported, self._reported_at = now, time.monotonic()
        self._say(f"{watched.name}: {again} for {described(found)}")

    def end(self) -> None:
        """Stop looking and wait until the thread has ended."""
        self._end.set()
        self.join(timeout=END_SECONDS)


@contextmanager
def observing(session: Session, say: Callable[[str], None]) -> Iterator[Observer]:
    """An observer for the block; the parameters are its own."""
    observer = Observer(session, say)
    observer.start()
    try:
        yield observer
    finally:
        observer.end()
