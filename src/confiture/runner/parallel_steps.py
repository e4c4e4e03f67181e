"""Steps of a phase several at a time: each thread has a session of its own to the target.

For steps whose work the server does. Each is committed with its mark, as in
:mod:`~confiture.runner.resumable_steps`, so that a crash repeats only those that were running.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from confiture.errors import CannotConnect
from confiture.postgres.retry import RETRY_DEADLINE_SECONDS, retry
from confiture.postgres.session import Session
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Report, Step, run_step

#: Seconds between two looks at the threads, for which a second signal may wait.
LOOK_SECONDS = 0.2


def run_together(
    context: Context,
    phase: str,
    steps: Sequence[Step],
    *,
    jobs: int,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run the steps that are not done, up to ``jobs`` at a time; the first in order that may begin is the next.

    After an error no further step begins, and those that run are completed. A second signal cancels them, and so does a
    takeover. May be called by any thread.

    :param meanwhile: called repeatedly while steps run.
    """
    together = _Together(context, phase, steps)
    numbers = range(min(jobs, len(steps)))
    threads = [threading.Thread(target=together.work, args=(n,), name=f"{phase} {n}", daemon=True) for n in numbers]
    for thread in threads:
        thread.start()
    try:
        while together.wait(threads):
            meanwhile()
    except BaseException:
        together.interrupted = True
        raise
    finally:
        while together.wait(threads):
            pass
    if together.error is not None:
        raise together.error


class _Together:
    """The steps that wait and those that run. Every method may be called by any thread.

    :ivar error: the first one of any step.
    :ivar interrupted: whether what runs is to be cancelled.
    """

    def __init__(self, context: Context, phase: str, steps: Sequence[Step]) -> None:
        self.error: BaseException | None = None
        self.interrupted = False
        self._context = context
        self._phase = phase
        self._report = Report(context.progress, phase, len(steps))
        self._waiting = list(steps)
        self._running: list[Step] = []
        self._left = {step.name for step in steps}
        self._sessions: list[Session] = []
        self._changed = threading.Condition()
        self._pausing = threading.Lock()

    def wait(self, threads: Sequence[threading.Thread]) -> bool:
        """Wait for a moment; whether any thread still works."""
        alive = [thread for thread in threads if thread.is_alive()]
        for thread in alive[:1]:
            thread.join(LOOK_SECONDS)
        if self.interrupted or self._context.stop.interrupted or self._context.lost.is_set():
            self._begin_no_more()
            # Again and again: a cancellation that arrives between two statements has no effect.
            for session in tuple(self._sessions):
                session.cancel()
        return bool(alive)

    def work(self, number: int) -> None:
        """Run steps until none is left. The first thread waits for a connection, the others do without it."""
        try:
            with ExitStack() as stack:
                session = self._open(stack, RETRY_DEADLINE_SECONDS if number == 0 else 0)
                while (step := self._next(session)) is not None:
                    self._run(session, step)
        except CannotConnect as error:
            if number == 0:
                self._fail(error)
            else:
                self._context.progress.say(f"{self._phase}: one step less at a time: {error.why}")
        except BaseException as error:  # noqa: BLE001 the thread that waits raises it
            self._fail(error)

    def _open(self, stack: ExitStack, deadline: float) -> Session:
        session = retry(lambda: stack.enter_context(self._context.apart("index")), deadline=deadline)
        with self._changed:
            self._sessions.append(session)
        return session

    def _next(self, session: Session) -> Step | None:
        """The first step that may begin; None when no step is left to begin."""
        while True:
            with self._pausing:  # one thread at a time reports a pause
                self._context.checkpoint(session=session)
            with self._changed:
                if not self._waiting:
                    return None
                step = next(filter(self._may_begin, self._waiting), None)
                if step is not None:
                    self._waiting.remove(step)
                    self._running.append(step)
                    return step
                self._changed.wait()

    def _may_begin(self, step: Step) -> bool:
        return step.after.isdisjoint(self._left) and not any(map(step.conflicts_with, self._running))

    def _run(self, session: Session, step: Step) -> None:
        try:
            done = retry(partial(run_step, self._context, self._phase, step, session))
        finally:
            with self._changed:
                self._running.remove(step)
                self._left.discard(step.name)
                self._changed.notify_all()
        self._report.ended(step, done=done)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self.error = self.error or error
        self._begin_no_more()

    def _begin_no_more(self) -> None:
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()
