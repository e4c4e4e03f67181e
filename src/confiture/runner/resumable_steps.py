"""Resumable steps: begun, done, resumed. Where a step acts on the target only, act and mark are one commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from confiture.failpoints import failpoint
from confiture.journal import steps as journal_steps
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction
from confiture.runner.context import Context
from confiture.runner.progress import Progress
from confiture.types import TableRef


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a phase.

    :ivar act: its work in the target, committed together with its mark.
    :ivar outside: its work elsewhere, which comes first; idempotent, because a crash before the mark repeats it.
    :ivar after: names of the steps that must have ended before it begins.
    :ivar shares: the tables that it locks against writes only; ``locks``: those on which it runs alone.
    """

    name: str
    act: Callable[[Context, Transaction], None] | None = None
    outside: Callable[[Context], None] | None = None
    after: frozenset[str] = frozenset()
    shares: frozenset[TableRef] = frozenset()
    locks: frozenset[TableRef] = frozenset()

    def conflicts_with(self, other: Step) -> bool:
        """Whether one of them would wait for a lock of the other."""
        return bool(self.locks & (other.locks | other.shares) or self.shares & other.locks)


#: Steps that are reported one by one; of more steps, one is reported at intervals.
STEPS_SHOWN = 20
#: Seconds between two reports of many steps.
REPORT_SECONDS = 5.0


class Report:
    """Reports the steps of a phase that end: each one, or, of many, one at intervals. Any thread may call it."""

    def __init__(self, progress: Progress, phase: str, total: int) -> None:
        self._progress, self._phase, self._total = progress, phase, total
        self._ended, self._reported = 0, time.monotonic()
        self._lock = threading.Lock()

    def ended(self, step: Step, *, done: bool) -> None:
        """A step has ended.

        :param done: False when it was done before.
        """
        with self._lock:
            self._ended += 1
            if self._total <= STEPS_SHOWN:
                if done:
                    self._progress.say(f"{self._phase}: {step.name}")
            elif self._ended == self._total or time.monotonic() - self._reported > REPORT_SECONDS:
                self._reported = time.monotonic()
                self._progress.say(f"{self._phase}: {self._ended:,} of {self._total:,} steps, the last: {step.name}")


def run_steps(context: Context, phase: str, steps: Sequence[Step]) -> None:
    """Run the steps that are not done, in order; again after a lost connection."""
    report = Report(context.progress, phase, len(steps))
    for step in steps:
        context.checkpoint()
        report.ended(step, done=retry(partial(run_step, context, phase, step)))


def run_step(context: Context, phase: str, step: Step, session: Session | None = None) -> bool:
    """Run one step; False when it was done before, also by this process if the answer to its COMMIT was lost.

    :param session: as in :meth:`Context.fenced`, for a step without work elsewhere.
    """
    if step.outside is not None and not _go_outside(context, phase, step.name, step.outside):
        return False
    # Durable together: the act in the target and its mark.
    with context.fenced(phase, session=session) as tx:
        if journal_steps.is_done(tx, context.run_id, phase, step.name):
            return False
        if step.act is not None:
            step.act(context, tx)
        journal_steps.mark(tx, context.run_id, phase, step.name, done=True)
    return True


def _go_outside(context: Context, phase: str, name: str, work: Callable[[Context], None]) -> bool:
    """The work of a step outside of the target; False when the step was done before."""
    # Durable: the step has begun.
    with context.fenced(f"{phase}.begun") as tx:
        if journal_steps.is_done(tx, context.run_id, phase, name):
            return False
        journal_steps.mark(tx, context.run_id, phase, name, done=False)
    work(context)
    failpoint(f"{phase}.outside")
    return True
