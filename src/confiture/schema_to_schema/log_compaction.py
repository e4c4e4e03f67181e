"""Between the chunks of a copy: logs are compacted, and changes are applied to tables that are already copied.

The log of a table that is still copied may only be compacted: a stale chunk could overwrite or resurrect rows that a
pass has applied (docs/invariants.md, I-5.6). A lock on the source excludes compaction and catch-up from each other
(I-5.7).
"""

from __future__ import annotations

import time
from functools import partial

from confiture.capture import apply, triggers
from confiture.capture.apply import Followed, Follower
from confiture.capture.triggers import Captured
from confiture.journal import table_plans
from confiture.journal.model import COPIED
from confiture.plan.model import Plan
from confiture.postgres.retry import retry
from confiture.postgres.yielding import yielding
from confiture.runner.context import Context
from confiture.schema_to_schema import follow
from confiture.sql import template

#: Number of chunks of one table, or seconds, between two compactions, whichever comes first. They bound the length of a
#: log. Chunks of different tables are not added up: the cost of a compaction grows with the number of tables.
EVERY_CHUNKS = 20
EVERY_SECONDS = 5.0


class LogCompactor:
    """Compacts or applies the logs of one run while its tables are copied."""

    def __init__(self, context: Context, plan: Plan) -> None:
        self._context = context
        self._plan = plan
        self._follower = Follower(context, ())
        self._chunks = 0
        self._last = time.monotonic()
        self._backlog = follow.BacklogWatch(context, plan)

    def __enter__(self) -> LogCompactor:
        return self

    def __exit__(self, *exc: object) -> None:
        self._follower.close()

    def between_chunks(self) -> None:
        """Call after each chunk; :meth:`now` runs when it is due.

        :raises Refused: when the source changed under a table that catches up.
        """
        self._chunks += 1
        if self._chunks >= EVERY_CHUNKS or time.monotonic() - self._last >= EVERY_SECONDS:
            self.now()

    def next_table(self) -> None:
        """Call when a table is copied."""
        self._chunks = 0

    def meanwhile(self) -> None:
        """Call repeatedly while the copy waits, because changes are logged then as well."""
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self.now()

    def waiting(self) -> int:
        """The number of log rows of all tables, recorded for ``status``."""
        return retry(lambda: follow.measure(self._context, self._plan))

    def now(self) -> None:
        """Compact the logs of tables that are still being copied, and apply those of the others."""
        ready, waiting = self._parted()
        for item in retry(partial(self._logged, waiting)):
            retry(lambda item=item: compact(self._context, item))  # type: ignore[misc]
        if [f.item for f in ready] != [f.item for f in self._follower.followed]:
            self._follower.close()
            self._follower = Follower(self._context, ready)
        follow.one_pass(self._follower, record_changed=True)
        self._backlog.look()
        self._chunks, self._last = 0, time.monotonic()

    def _logged(self, items: list[Captured]) -> list[Captured]:
        """The tables whose logs have rows."""
        with self._context.source.transaction(read_only=True) as tx:
            numbers = triggers.pending(tx, items)
        return [item for item in items if item.number in numbers]

    def _parted(self) -> tuple[list[Followed], list[Captured]]:
        with self._context.target.transaction(read_only=True) as tx:
            states = table_plans.of_run(tx, self._context.run_id)
        copied = {s.number for s in states if s.phase in COPIED}
        ready, waiting = [], []
        for followed in apply.followed(self._context, self._plan):
            if all(job.table.number in copied and job.table.arbiter for job in followed.jobs):
                ready.append(followed)
            else:
                waiting.append(followed.item)
        return ready, waiting


def compact(context: Context, item: Captured) -> int:
    """Keep the latest log row of each key; the number of rows deleted. The log is then bounded by the changed keys."""
    statement = template("catch_up.sql", "compact").format(log=item.log, log_key=item.log_key)
    # Durable together: the log without the superseded rows.
    with yielding(context.source), context.fenced_source("compact") as tx:
        apply.lock_logs(tx, context.schema)
        return tx.pg.execute(statement).rowcount
