"""Helpers of a pass: pairs of sessions that apply groups of tables at the same time as the follower's own pair.

They read in the snapshot of the pass, and commit when every pair has applied its rows. The pass ends after them, so
that no helper can commit old rows after the pass was repeated (docs/invariants.md, I-5.18).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from typing import Generic, TypeVar

import psycopg

from confiture.config import redact
from confiture.errors import CannotConnect
from confiture.plan import free_connections
from confiture.postgres.session import Session
from confiture.runner import capacity
from confiture.runner.context import POLL_SECONDS, Context, end_backends
from confiture.runner.threads import AGAIN_SECONDS, continuing_with, open_sessions
from confiture.types import Backend

T = TypeVar("T")

#: A helper's sessions, to the database that rows are read from, and to the one that they are applied to.
Pair = tuple[Session, Session]
#: SQLSTATE classes of an error that ends a connection, or that another session has asked for.
_NOT_OF_THE_WORK = ("08", "57")


class Sharing(Generic[T]):
    """Groups of tables that the threads of one pass share among themselves, each when it is free.

    :param groups: in the order in which helpers begin them.
    :param threads: that take part, with the follower's own.
    """

    def __init__(self, groups: Sequence[T], threads: int) -> None:
        self._left = list(groups)
        self._claiming = threading.Lock()
        self._applied = threading.Barrier(threads, action=self._begin_to_commit)
        #: The first error of a helper.
        self.error: BaseException | None = None
        self.commits = False

    def _begin_to_commit(self) -> None:
        self.commits = True

    def claim(self, lock: Callable[[T], object] | None = None) -> T | None:
        """A group that no thread has claimed; None when there is none left.

        :param lock: locks the tables of a helper's group without waiting. If that raises, the group remains for another
            thread. None for the follower's own thread: it begins with the last group, because it has more to do.
        :raises threading.BrokenBarrierError: when another thread has failed.
        """
        with self._claiming:
            if self._applied.broken:
                raise threading.BrokenBarrierError
            if not self._left:
                return None
            if lock is None:
                return self._left.pop()
            lock(self._left[0])
            return self._left.pop(0)

    def await_all(self) -> None:
        """Wait until every thread has applied its groups; no transaction of the pass commits before.

        :raises threading.BrokenBarrierError: when another thread has failed.
        """
        self._applied.wait()

    def fail(self) -> None:
        """Have no thread commit that has not begun to."""
        self._applied.abort()

    def work(self, act: Callable[[Sharing[T]], object]) -> None:
        """Act as a helper. What it raises is recorded."""
        try:
            act(self)
        except threading.BrokenBarrierError:
            return  # after an error of another thread, which is recorded or raised there
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the command
            self.error = self.error or error
            self.fail()


#: The work of a helper in its two sessions.
Act = Callable[[Sharing[T], Session, Session], object]


class Helpers:
    """The helpers of one follower. Their sessions stay open between its passes.

    :param sides: of the run, which the two sessions of each helper are opened to.
    :param jobs: pairs of sessions at most, with the follower's own.
    """

    def __init__(self, context: Context, sides: tuple[str, str], jobs: int) -> None:
        self._context = context
        self._sides = sides
        self._jobs = jobs
        self._counted = False
        self._failed = False
        self.pairs: list[Pair] = []

    @property
    def possible(self) -> bool:
        """Whether a pass may have helpers."""
        return self._jobs > 1

    def open(self, most: int) -> None:
        """Open the sessions of up to ``most`` helpers, and record their server processes for a takeover.

        There are fewer, and the reason is reported, if there are too few connections.
        """
        if not self._counted:
            self._count(min(self._jobs, most + 1))
        while len(self.pairs) < min(self._jobs - 1, most) and self._open():
            pass
        for pair in self.pairs:
            for side, session in zip(self._sides, pair, strict=True):
                self._context.join(session, side, session.backend)

    def _count(self, wanted: int) -> None:
        found, reduced = capacity.permitted(self._context, wanted, free_connections.APPLYING)
        self._counted = True
        if reduced:
            self._jobs = found
            self._context.progress.say(f"catch-up: {reduced}")

    def _open(self) -> bool:
        try:
            source, target = open_sessions(self._context, "catch-up", self._sides)
        except CannotConnect as error:
            self._jobs = len(self.pairs) + 1
            self._context.progress.say(f"catch-up: {continuing_with(self._jobs, error)}")
            return False
        self.pairs.append((source, target))
        return True

    @contextmanager
    def sharing(self, groups: Sequence[T], act: Act[T]) -> Iterator[Sharing[T]]:
        """Have helpers act beside the block, which applies groups too. At its end all have applied and committed.

        The block is left when every helper has ended, whatever is raised.

        :param groups: two at least; a helper for each of them but one, or fewer.
        :param act: a helper's work: it claims groups, awaits all, and commits.
        :raises BaseException: the first error of a helper, or that of the block.
        """
        pairs = self.pairs[: len(groups) - 1]
        shared = Sharing(groups, len(pairs) + 1)
        with ThreadPoolExecutor(len(pairs), "catch-up") as pool:
            # Each helper's transactions belong to the unit of work that the pass is, and are cancelled with it.
            working = [pool.submit(copy_context().run, shared.work, _acting(act, pair)) for pair in pairs]
            try:
                yield shared
                shared.await_all()
                wait(working)
                if shared.error is not None:
                    raise shared.error
            except BaseException as error:
                shared.fail()
                self._end(shared, pairs, working)
                if isinstance(error, threading.BrokenBarrierError) and shared.error is not None:
                    raise shared.error from None
                raise

    def _end(self, shared: Sharing[T], pairs: Sequence[Pair], working: Collection[Future[None]]) -> None:
        """End the helpers of a failed pass, and wait for them."""
        self._failed = True
        while wait(working, timeout=0).not_done:
            if not shared.commits:  # a COMMIT that is cancelled while it waits for a standby reports success
                for session in (s for pair in pairs for s in pair):
                    session.cancel(POLL_SECONDS)
            wait(working, timeout=AGAIN_SECONDS)

    def settle(self, source: Session, target: Session) -> None:
        """After a failed pass, end the server processes of the helpers, and wait until they have ended.

        One whose connection was lost may commit later than its thread has ended.
        """
        if not self._failed:
            return
        for n, session in enumerate((source, target)):
            end_backends(session, self._recorded(n))
        self.close()
        self._failed = False

    def _recorded(self, n: int) -> tuple[Backend, ...]:
        found = (self._context.joined(pair[n]) for pair in self.pairs)
        return tuple(backend for backend in found if backend is not None)

    def dismiss(self, error: psycopg.Error) -> bool:
        """Whether a pass failed that had helpers and that may succeed without them: none has any from now on.

        Groups that a database's own functions make dependent on each other are an example.
        """
        code = error.sqlstate or _NOT_OF_THE_WORK[0]
        if not self._failed or code.startswith(_NOT_OF_THE_WORK):
            return False
        self._jobs = 1
        reason = redact(str(error)).strip().splitlines()[0]
        self._context.progress.say(f"catch-up: continuing with one job: {reason}")
        return True

    def close(self) -> None:
        """Close the sessions."""
        for session in (s for pair in self.pairs for s in pair):
            session.close()
            self._context.part(session)
        self.pairs.clear()


def _acting(act: Act[T], pair: Pair) -> Callable[[Sharing[T]], object]:
    return lambda shared: act(shared, *pair)
