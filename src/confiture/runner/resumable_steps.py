"""Journaled steps: begun, done, resumed. Where a step acts on the target only, act and mark are one commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from confiture.failpoints import failpoint
from confiture.journal import steps as journal_steps
from confiture.postgres.retry import retry
from confiture.postgres.session import Transaction
from confiture.runner.context import Context


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a phase.

    :ivar act: its work in the target, committed together with its mark.
    :ivar outside: its work elsewhere, which comes first; idempotent, because a crash before the mark repeats it.
    """

    name: str
    act: Callable[[Context, Transaction], None] | None = None
    outside: Callable[[Context], None] | None = None


#: Steps that are reported one by one; of more steps, one is reported at intervals.
STEPS_SHOWN = 20
#: Seconds between two reports of many steps.
REPORT_SECONDS = 5.0


def run_steps(context: Context, phase: str, steps: Sequence[Step]) -> None:
    """Run the steps that are not done, in order; again after a lost connection."""
    many, reported = len(steps) > STEPS_SHOWN, time.monotonic()
    for number, step in enumerate(steps, 1):
        context.checkpoint()
        done = retry(partial(_run_step, context, phase, step))
        if not many and done:
            context.progress.say(f"{phase}: {step.name}")
        elif many and (number == len(steps) or time.monotonic() - reported > REPORT_SECONDS):
            reported = time.monotonic()
            context.progress.say(f"{phase}: {number:,} of {len(steps):,} steps, the last: {step.name}")


def _run_step(context: Context, phase: str, step: Step) -> bool:
    """Run one step; False when it was done before, also by this process if the answer to its COMMIT was lost."""
    if step.outside is not None and not _go_outside(context, phase, step.name, step.outside):
        return False
    # Durable together: the act in the target and its mark.
    with context.fenced(phase) as tx:
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
