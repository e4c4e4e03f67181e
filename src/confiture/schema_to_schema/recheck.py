"""Between the passes of ``follow``: rows that changed since they were verified are compared again, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from confiture.capture.apply import Followed
from confiture.compare import changed_keys, suspects
from confiture.compare.checksum import Hashing
from confiture.compare.suspects import Key
from confiture.copy.run_table import RunTable
from confiture.journal import runs
from confiture.journal.verifications import Difference
from confiture.plan.planner import Plan
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.states import VERIFIED


class Recheck:
    """Walks the touched keys of every table, from the first to the last and again."""

    def __init__(
        self, context: Context, plan: Plan, followed: Sequence[Followed], catch_up: Callable[[], object]
    ) -> None:
        self._context = context
        self._plan = plan
        self._catch_up = catch_up
        self._jobs = [(f, job) for f in followed for job in f.jobs]
        self._behind: dict[int, Key | None] = {}
        self._on = context.run().state == VERIFIED

    def some(self) -> bool:
        """Compare the next keys of each table; whether any table has keys behind them.

        A confirmed difference takes the run back to ``migrating``: its verification holds no more. Before a
        verification there is nothing to do.
        """
        if not self._on:
            return False
        hashing = changed_keys.hashing_of(self._context, self._plan)
        more = False
        for followed, job in self._jobs:
            number = job.table.number
            some = changed_keys.some(self._context, job, self._behind.get(number))
            found = self._compare(followed, job, hashing, some) if some else ()
            full = len(some) == changed_keys.KEYS_AT_ONCE
            self._behind[number] = some[-1] if full else None
            more |= full
            if found:
                self._on = False
                reopen(self._context, found, "a row changed since it was verified differs")
                return False
        return more

    def _compare(
        self, followed: Followed, job: RunTable, hashing: Hashing, some: Sequence[Key]
    ) -> tuple[Difference, ...]:
        """What is confirmed to differ; what agrees is forgotten."""
        context = self._context
        wrong = changed_keys.differing(context, job, hashing, some)
        changed_keys.forget(context, job, [k for k in some if k not in wrong])
        if not wrong:
            return ()
        verdict = suspects.classify(context.source, context.target, job, hashing, followed, list(wrong), self._catch_up)
        return verdict.confirmed


def reopen(context: Context, found: Sequence[Difference], what: str) -> None:
    """Take the run back to ``migrating``: its verification holds no more."""
    reason = f"{what}: {found[0].place}"
    with context.fenced() as tx:
        run = runs.get(tx, context.run_id)
        transitions.fire(tx, run, "reopen", {"reason": reason, "keys": len(found)})
    context.progress.say(f"{reason}; the verification holds no more: heal it with `verify --repair`")
