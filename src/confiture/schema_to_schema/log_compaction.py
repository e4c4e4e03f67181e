"""Between the chunks of a copy: logs are kept short, and tables that are copied already catch up.

The log of a table that is still copied may only be compacted: a stale chunk could overwrite or resurrect what a
pass brought over (docs/invariants.md, I-5.6). One thread does both between two chunks, so they exclude each other
(I-5.7).
"""

from __future__ import annotations

import time

from psycopg import sql

from confiture.capture import apply
from confiture.capture.apply import Followed, Follower
from confiture.capture.triggers import Captured
from confiture.failpoints import failpoint
from confiture.journal import table_plans
from confiture.plan.planner import Plan
from confiture.postgres.retry import retry
from confiture.postgres.yielding import yielding
from confiture.runner.context import Context
from confiture.schema_to_schema import follow

#: After so many chunks or seconds, whichever comes first: a log holds what changes meanwhile, once per key before.
EVERY_CHUNKS = 20
EVERY_SECONDS = 5.0


class Upkeep:
    """The logs of one run while its tables are copied."""

    def __init__(self, context: Context, plan: Plan) -> None:
        self._context = context
        self._plan = plan
        self._follower = Follower(context, ())
        self._chunks = 0
        self._last = time.monotonic()

    def __enter__(self) -> Upkeep:
        return self

    def __exit__(self, *exc: object) -> None:
        self._follower.close()

    def between_chunks(self) -> None:
        """Called after each chunk; does something every so often.

        :raises Refused: when the source changed under a table that catches up.
        """
        self._chunks += 1
        if self._chunks >= EVERY_CHUNKS or time.monotonic() - self._last >= EVERY_SECONDS:
            self.now()

    def meanwhile(self) -> None:
        """Called again and again while the copy waits: what changes then is logged too."""
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self.now()

    def waiting(self) -> int:
        """Log rows of all tables, written down for status."""
        return retry(lambda: follow.measure(self._context, self._plan))

    def now(self) -> None:
        """Compact the logs of tables that are still copied, catch up with the others."""
        ready, waiting = self._parted()
        for item in waiting:
            retry(lambda item=item: compact(self._context, item))  # type: ignore[misc]
        if [f.item for f in ready] != [f.item for f in self._follower.followed]:
            self._follower.close()
            self._follower = Follower(self._context, ready)
        follow.one_pass(self._follower, touch=True)
        self._chunks, self._last = 0, time.monotonic()

    def _parted(self) -> tuple[list[Followed], list[Captured]]:
        with self._context.target.transaction(read_only=True) as tx:
            states = table_plans.of_run(tx, self._context.run_id)
        copied = {s.number for s in states if s.phase in ("copied", "finished")}
        ready, waiting = [], []
        for followed in apply.followed(self._context, self._plan):
            if all(job.table.number in copied and job.table.arbiter for job in followed.jobs):
                ready.append(followed)
            else:
                waiting.append(followed.item)
        return ready, waiting


def compact(context: Context, item: Captured) -> int:
    """Keep one log row per key; how many went. Bounds the log by the distinct keys changed."""
    # Log rows are never updated, so where one lies is its identity.
    statement = sql.SQL(
        "DELETE FROM {log} WHERE ctid IN (SELECT ctid FROM (SELECT ctid, row_number() OVER"
        " (PARTITION BY {key}, truncated ORDER BY at DESC) AS n FROM {log}) l WHERE n > 1)"
    )
    with yielding(context.source), context.fenced_source() as tx:
        gone = tx.pg.execute(statement.format(log=item.log, key=item.log_key)).rowcount
        failpoint("compact.before_commit")
    return gone
