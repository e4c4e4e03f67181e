"""Work that only waits for both servers, done by several threads at the same time.

Each thread has a session on the source and one on the target. The thread of the command plans the work, records its
results, and acts on signals, pauses and a lost lease. Only that thread writes. The server processes are recorded before
their session is given work, so that a takeover ends them too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from confiture.errors import CannotConnect, Drained
from confiture.postgres.session import Session
from confiture.runner.context import POLL_SECONDS, Context
from confiture.types import counted

K = TypeVar("K")
R = TypeVar("R")

#: A unit of work. Its last argument is called between two statements; it may wait, and raises to stop.
Task = Callable[[Session, Session, Callable[[], None]], R]

#: Seconds between two cancellations of all statements: one that arrives between two statements has no effect.
AGAIN_SECONDS = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """The sessions of one thread."""

    source: Session
    target: Session


class Threads(Generic[K, R]):
    """Does tasks at the same time, and hands over each result in the thread of the command.

    :param most: tasks at the same time.
    :param record: called with a task's name and its result.
    :param meanwhile: called several times a second, for a report of the progress.
    """

    def __init__(
        self, context: Context, role: str, most: int, record: Callable[[K, R], None], meanwhile: Callable[[], None]
    ) -> None:
        self._context = context
        self._role = role
        self._most = most
        self._record = record
        self._meanwhile = meanwhile
        self._pool = ThreadPoolExecutor(most, role)
        self._pairs: list[_Pair] = []
        self._idle: list[_Pair] = []
        self._working: dict[Future[R], tuple[K, _Pair]] = {}
        self._held = threading.Event()
        self._ended = threading.Event()

    def run(self, tasks: Iterable[tuple[K, Task[R]]]) -> None:
        """Do every task. Any other error than a signal ends the statements in flight.

        :param tasks: planned while earlier ones are done.
        :raises Drained: after a signal, when the tasks that have begun are recorded; a task that waits between two of
            its statements ends without a result.
        :raises Held: when another runner has taken the run over.
        """
        try:
            self._run(iter(tasks))
        except Drained:
            raise
        except BaseException:
            self._interrupt()
            raise

    def close(self) -> None:
        """Close the sessions, after the last task."""
        self._pool.shutdown()
        for session in (s for pair in self._pairs for s in (pair.source, pair.target)):
            self._context.part(session)
            session.close()

    # In the thread of the command ------------------------------------------------------------------

    def _run(self, left: Iterator[tuple[K, Task[R]]]) -> None:
        try:
            while True:
                while len(self._working) >= self._most:
                    self._collect()
                self._checkpoint()
                given = next(left, None)
                if given is None:
                    break
                self._give(*given)
            self._settle()
            self._checkpoint()
        except Drained:
            self._settle()
            raise

    def _give(self, name: K, task: Task[R]) -> None:
        while not self._idle:
            if self._open():
                break
            self._collect()
        pair = self._idle.pop()
        for side, session in (("source", pair.source), ("target", pair.target)):
            self._context.join(session, side, session.backend)
        # Each task has a context of its own, because what gives way is recorded there.
        future = self._pool.submit(copy_context().run, task, pair.source, pair.target, self._between)
        self._working[future] = (name, pair)

    def _open(self) -> bool:
        """Open the sessions of one more thread; False when there is no connection for it, and others have some."""
        facts = self._context.facts
        pair = _Pair(*(Session(facts.database(side), self._role, facts.short) for side in ("source", "target")))
        try:
            for session in (pair.source, pair.target):
                session.backend  # noqa: B018 - connects
        except CannotConnect as error:
            pair.source.close()
            if not self._pairs:
                raise
            self._most = len(self._pairs)
            self._context.progress.say(f"continuing with {counted(self._most, 'job')}: {error.what}: {error.why}")
            return False
        self._pairs.append(pair)
        self._idle.append(pair)
        return True

    def _checkpoint(self) -> None:
        self._context.checkpoint(while_paused=self._hold)
        self._held.clear()

    def _hold(self) -> None:
        """During a pause: have tasks wait between two statements, and record those that end."""
        self._held.set()
        self._take(0)

    def _collect(self) -> None:
        """Record the tasks that have ended; wait for the first one."""
        self._context.check_lease()
        if not self._take(POLL_SECONDS) and self._context.stop.signal_number is None:
            self._checkpoint()

    def _take(self, seconds: float) -> bool:
        done, _ = wait(self._working, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in [f for f in self._working if f in done]:
            name, pair = self._working.pop(future)
            self._idle.append(pair)
            with suppress(Drained):  # the next checkpoint raises it again
                self._record(name, future.result())
        self._meanwhile()
        return bool(done)

    def _settle(self) -> None:
        """Record the tasks that have begun, when they have ended."""
        while self._working:
            self._collect()

    def _interrupt(self) -> None:
        """End the tasks that have begun, and wait for them."""
        self._ended.set()
        while self._working:
            for pair in self._pairs:
                pair.source.cancel(POLL_SECONDS)
                pair.target.cancel(POLL_SECONDS)
            done, _ = wait(self._working, timeout=AGAIN_SECONDS)
            for future in done:
                del self._working[future]

    # In the thread of a task -----------------------------------------------------------------------

    def _between(self) -> None:
        """Between two statements of a task: wait during a pause, stop after a signal."""
        while True:
            self._context.check_lease()
            if self._ended.is_set() or self._context.stop.signal_number is not None:
                raise self._context.stop.drained()
            if not self._held.is_set():
                return
            time.sleep(POLL_SECONDS)
