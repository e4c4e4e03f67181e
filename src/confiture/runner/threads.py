"""Work that only waits for the servers, done by several threads at the same time.

Each thread has a session on the source and one on the target, or only one of them. The thread of the command plans the
work, takes its results, and acts on signals, pauses and a lost lease. The server processes are recorded before their
session is given work, so that a takeover ends them too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

from confiture.errors import CannotConnect, Drained
from confiture.postgres.retry import RETRY_DEADLINE_SECONDS, retry
from confiture.postgres.session import Session
from confiture.runner.context import POLL_SECONDS, Context
from confiture.types import counted

K = TypeVar("K")
R = TypeVar("R")

#: A unit of work. Its arguments are the sessions of its thread, and what it calls between two statements, which may
#: wait, and raises to stop.
Task = Callable[..., R]

#: Seconds between two cancellations of all statements: one that arrives between two statements has no effect.
AGAIN_SECONDS = 0.2


_Sessions = tuple[Session, ...]


class Threads(Generic[K, R]):
    """Does tasks at the same time, and hands over each result in the thread of the command.

    :param role: of the sessions.
    :param sides: the databases on which each thread has a session.
    :param most: tasks at the same time.
    :param record: called with a task's name and its result.
    :param meanwhile: called several times a second, for a report of the progress.
    """

    def __init__(
        self,
        context: Context,
        role: str,
        sides: Sequence[str],
        most: int,
        record: Callable[[K, R], None],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._context = context
        self._role = role
        self._sides = sides
        self._most = most
        self._record = record
        self._meanwhile = meanwhile  # wording: the parameter
        self._pool = ThreadPoolExecutor(most, role)
        self._opened: list[_Sessions] = []
        self._idle: list[_Sessions] = []
        self._working: dict[Future[R], tuple[K, _Sessions]] = {}
        self._held = threading.Event()
        self._ended = threading.Event()

    def run(self, tasks: Iterable[tuple[K, Task[R]]]) -> None:
        """Do every task. Any other error than a first signal ends the statements in flight.

        :param tasks: planned while earlier ones are done; may call :meth:`wait`.
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
        for session in (s for sessions in self._opened for s in sessions):
            self._context.part(session)
            session.close()

    def wait(self) -> None:
        """Take the results of tasks that have ended; wait for a moment until there is one."""
        self._context.check_lease()
        if not self._take(POLL_SECONDS) and self._context.stop.signal_number is None:
            self._checkpoint()

    # In the thread of the command ------------------------------------------------------------------

    def _run(self, left: Iterator[tuple[K, Task[R]]]) -> None:
        try:
            while True:
                while len(self._working) >= self._most:
                    self.wait()
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
            self.wait()
        sessions = self._idle.pop()
        retry(lambda: self._join(sessions))
        # Each task has a context of its own, because what gives way is recorded there.
        future = self._pool.submit(copy_context().run, partial(task, *sessions, self._between))
        self._working[future] = (name, sessions)

    def _join(self, sessions: _Sessions) -> None:
        for side, session in zip(self._sides, sessions, strict=True):
            self._context.join(session, side, session.backend)

    def _open(self) -> bool:
        """Open the sessions of one more thread; False when there is no connection for it, and others have some."""
        deadline = 0.0 if self._opened else RETRY_DEADLINE_SECONDS
        try:
            sessions = open_sessions(self._context, self._role, self._sides, deadline=deadline)
        except CannotConnect as error:
            if not self._opened:
                raise
            self._most = len(self._opened)
            self._context.progress.say(continuing_with(self._most, error))
            return False
        self._opened.append(sessions)
        self._idle.append(sessions)
        return True

    def _checkpoint(self) -> None:
        self._context.checkpoint(while_paused=self._hold)
        self._held.clear()

    def _hold(self) -> None:
        """During a pause: have tasks wait between two statements, and record those that end."""
        self._held.set()
        self._take(0)

    def _take(self, seconds: float) -> bool:
        done, _ = wait(self._working, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in [f for f in self._working if f in done]:
            name, sessions = self._working.pop(future)
            self._idle.append(sessions)
            with suppress(Drained):  # the next checkpoint raises it again
                self._record(name, future.result())
        self._meanwhile()
        return bool(done)

    def _settle(self) -> None:
        """Record the tasks that have begun, when they have ended."""
        while self._working:
            self.wait()

    def _interrupt(self) -> None:
        """End the tasks that have begun, and wait for them."""
        self._ended.set()
        while self._working:
            for _, sessions in self._working.values():
                for session in sessions:
                    session.cancel(POLL_SECONDS)
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


def open_sessions(context: Context, role: str, sides: Sequence[str], *, deadline: float = 0.0) -> tuple[Session, ...]:
    """Open a session on each side; all of them, or none.

    :param role: of the sessions.
    :param deadline: seconds for which a side that has no connection is tried again.
    :raises CannotConnect: when there is no connection for one of them.
    """
    facts = context.facts
    sessions = tuple(Session(facts.database(side), role, facts.short) for side in sides)
    try:
        retry(lambda: [s.backend for s in sessions], deadline=deadline)
    except CannotConnect:
        for session in sessions:
            session.close()
        raise
    return sessions


def continuing_with(jobs: int, error: CannotConnect) -> str:
    """The report that there is no connection for more jobs."""
    return f"continuing with {counted(jobs, 'job')}: {error.what}: {error.why}"
