"""Between the passes of ``follow``: every row is compared again, part by part, at a low rate.

Capture records what fires triggers. A loader that bypasses them changes rows that no pass applies, and only a
comparison of every row finds those. A round compares the same parts as a verification, in the same way. Its position
is in the journal, so that it continues after a crash. A row that is confirmed to differ sets the run back to
``migrating``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from confiture.capture.apply import Followed
from confiture.compare import changed_keys, checksum, compared_parts
from confiture.compare.checksum import Hashing
from confiture.copy.run_table import RunTable
from confiture.journal import rounds, verifications
from confiture.journal.model import Difference, Round
from confiture.plan.model import Plan
from confiture.runner.context import Context
from confiture.schema_to_schema.changed_key_verification import reopen
from confiture.states import VERIFIED

#: Seconds from the start of one complete verification to the start of the next, by default.
EVERY_SECONDS = 24 * 3600.0
#: Share of the time spent on comparing, from 0 to 1.
SHARE = 0.1
#: Seconds of comparing between two passes. A pass is delayed by this and the time of one part at most.
AT_ONCE_SECONDS = 0.1


class Rounds:
    """Compares every row in repeated rounds.

    :param every: seconds from the start of one round to the start of the next.
    :param share: of the time, from 0 to 1, that may be spent on comparing; 1 for no pause.
    """

    def __init__(
        self,
        context: Context,
        plan: Plan,
        followed: Sequence[Followed],
        catch_up: Callable[[], object],
        *,
        every: float,
        share: float = SHARE,
    ) -> None:
        self._context = context
        self._plan = plan
        self._catch_up = catch_up
        self._followed = {job.table.number: f for f in followed for job in f.jobs}
        self._every = every
        self._share = share
        self._idle_until = time.monotonic()
        self._round: Round | None = None
        self._parts: Iterator[tuple[RunTable, compared_parts.Part]] = iter(())
        self._hashing = Hashing("own", recode=False)

    def compare_next(self) -> bool:
        """Compare the next parts of the round that is due, if one is; whether that round has more parts.

        A part's position is committed after its comparison, so that a crash repeats at most one part.
        """
        began = time.monotonic()
        if began < self._idle_until or not self._due():
            return False
        spent = 0.0
        while spent < AT_ONCE_SECONDS:
            if not self._next():
                return False
            spent = time.monotonic() - began
        self._idle_until = time.monotonic() + spent * (1 / self._share - 1)
        return True

    def _due(self) -> bool:
        """Whether a round is to be continued or begun; that round is then the current one."""
        context = self._context
        if context.run().state != VERIFIED:
            return False
        with context.target.transaction(read_only=True) as tx:
            last = verifications.latest(tx, context.run_id, "verify")
            age = rounds.age(tx, context.run_id)
            if last is None or last.verdict != "equal":
                return False
            found = rounds.current(tx, context.run_id, last.number)
        if found is None:
            if age is None or age < self._every:
                return False
            # Durable: the new round, without a position.
            with context.fenced("round.begun") as tx:
                found = rounds.begin(tx, context.run_id, last.number)
            context.progress.say(f"comparing every row again (round {found.number})")
        if self._round is None or self._round.number != found.number:
            self._hashing = changed_keys.hashing_of(context, self._plan)
            self._parts = self._left(found)
        self._round = found
        return True

    def _left(self, found: Round) -> Iterator[tuple[RunTable, compared_parts.Part]]:
        """The parts after the last one compared, of the tables that catch-up applies changes to."""
        context = self._context
        for table in self._plan.tables:
            if table.number not in self._followed or (found.behind and table.number < found.behind[0]):
                continue
            job = RunTable(table, context.schema)
            for part in compared_parts.parts_of(context, job, self._hashing, checksum.suspects):
                if found.behind is None or (table.number, part.number) > found.behind:
                    yield job, part

    def _next(self) -> bool:
        """Compare one part and record its position; False when the round has ended."""
        context, item = self._context, self._round
        assert item is not None
        job, part = next(self._parts, (None, None))
        if job is None or part is None:
            # Durable: the round has compared every part.
            with context.fenced("round.ended") as tx:
                rounds.end(tx, item)
            self._round = None
            context.progress.say(f"every row was compared again and is equal (round {item.number})")
            return False
        _, found = part.compare(context.source, context.target, lambda: None)
        confirmed = self._classified(job, found) if found else ()
        if confirmed:
            reopen(context, confirmed, "a row that was verified differs now")
            self._round = None
            return False
        # Durable: the position of the part, compared and equal.
        with context.fenced("round.part") as tx:
            self._round = rounds.advance(tx, item, job.table.number, part.number)
        return True

    def _classified(self, job: RunTable, found: Sequence[Difference]) -> tuple[Difference, ...]:
        """The differences that are confirmed; rows that change all the time are left to the cutover."""
        followed = self._followed[job.table.number]
        return compared_parts.classified(self._context, job, self._hashing, followed, found, self._catch_up)
