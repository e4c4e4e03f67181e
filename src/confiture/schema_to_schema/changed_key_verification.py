"""Between the passes of ``follow``: rows that changed since their verification are compared again, in small batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from confiture.capture.apply import Followed
from confiture.compare import changed_keys, suspects
from confiture.compare.checksum import Hashing
from confiture.compare.suspects import Key
from confiture.copy.run_table import RunTable
from confiture.journal import runs, verifications
from confiture.journal.model import Difference
from confiture.plan.model import Plan
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.states import VERIFIED


class ChangedKeyVerification:
    """Walks the changed keys of every table, from the first to the last, repeatedly."""

    def __init__(
        self, context: Context, plan: Plan, followed: Sequence[Followed], catch_up: Callable[[], object]
    ) -> None:
        self._context = context
        self._plan = plan
        self._catch_up = catch_up
        self._jobs = [(f, job) for f in followed for job in f.jobs]
        self._behind: dict[int, Key | None] = {}
        self._on = context.run().state == VERIFIED

    def compare_next(self) -> bool:
        """Compare the next keys of each table; whether any table has further keys.

        A confirmed difference sets the run back to ``migrating``: its verification is no longer valid. Before a
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
        """The differences that are confirmed. Keys whose rows are equal are removed from the changed keys."""
        context = self._context
        wrong = changed_keys.differing(context, job, hashing, some)
        changed_keys.discard(context, job, [k for k in some if k not in wrong])
        if not wrong:
            return ()
        verdict = suspects.classify(context.source, context.target, job, hashing, followed, list(wrong), self._catch_up)
        return verdict.confirmed


def reopen(context: Context, found: Sequence[Difference], what: str) -> None:
    """Set the run back to ``migrating``: its verification is no longer valid.

    :param what: happened, for the journal and the progress report.
    """
    reason = f"{what}: {found[0].place}"
    # Durable together: the state and its reason.
    with context.fenced("verify.reopened") as tx:
        run = runs.get(tx, context.run_id)
        transitions.fire(tx, run, "reopen", {"reason": reason, "keys": len(found)})
        verifications.note_differences(tx, context.run_id, context.epoch, len(found))
    context.progress.say(f"{reason}; the verification is no longer valid: repair the row with `verify --repair`")
