"""Steps of a phase several at a time: each thread has a session of its own to the target.

For steps whose work the server does. Each is committed with its mark, as in
:mod:`~confiture.runner.resumable_steps`, so that a crash repeats only those that were running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial

from confiture.errors import Drained, Held
from confiture.postgres.retry import retry
from confiture.postgres.session import Session
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Report, Step, run_step
from confiture.runner.threads import Task, Threads


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
    takeover.

    :param meanwhile: called repeatedly while steps run.
    """
    together = _Together(context, phase, steps)
    with closing(Threads(context, "index", ("target",), jobs, together.ended, meanwhile)) as threads:
        try:
            threads.run(together.tasks(threads.wait))
        except Drained:
            if together.error is None:
                raise
    if together.error is not None:
        raise together.error


class _Together:
    """The steps that wait and those that run.

    :ivar error: the first one of any step.
    """

    def __init__(self, context: Context, phase: str, steps: Sequence[Step]) -> None:
        self.error: Exception | None = None
        self._context = context
        self._phase = phase
        self._report = Report(context.progress, phase, len(steps))
        self._waiting = list(steps)
        self._running: list[Step] = []
        self._left = {step.name for step in steps}

    def tasks(self, wait: Callable[[], None]) -> Iterator[tuple[Step, Task[bool | Exception]]]:
        """The steps, each as soon as it may begin.

        :param wait: waits until another step has ended.
        """
        while self._waiting:
            step = next(filter(self._may_begin, self._waiting), None)
            if step is None:
                wait()
                continue
            self._waiting.remove(step)
            self._running.append(step)
            yield step, partial(self._run, step)

    def ended(self, step: Step, result: bool | Exception) -> None:
        """A step has ended: whether it was done now, or its error."""
        self._running.remove(step)
        self._left.discard(step.name)
        if isinstance(result, Exception):
            self.error = self.error or result
            self._waiting.clear()
        else:
            self._report.ended(step, done=result)

    def _may_begin(self, step: Step) -> bool:
        return step.after.isdisjoint(self._left) and not any(map(step.conflicts_with, self._running))

    def _run(self, step: Step, session: Session, between: Callable[[], None]) -> bool | Exception:
        """In a thread of the pool. An error is returned, because one that is raised would end the other steps."""

        def once() -> bool:
            between()
            return run_step(self._context, self._phase, step, session)

        try:
            return retry(once)
        except (Drained, Held):
            raise
        except Exception as error:  # noqa: BLE001 run_together raises it
            return error
