"""The copy of the tables by the workers of a command: what each of them does next.

The runner decides, and the journal is the only truth: a chunk is recorded before it is given to a worker, and is done
when the journal has it as done. Chunks are planned a few at a time, and with a rate that is measured, so that each
takes a few seconds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confiture.copy import chunks, throttle
from confiture.copy.run_table import RunTable
from confiture.copy.throttler import Throttler
from confiture.errors import ConfitureError, DataFailure
from confiture.journal.model import Chunk, TableProgress
from confiture.plan.index_builds import IndexBuilds
from confiture.plan.model import Plan
from confiture.postgres.retry import retry
from confiture.runner.context import POLL_SECONDS, Context
from confiture.runner.worker import Outcome
from confiture.runner.workers import Pool
from confiture.schema_to_schema.copy_chunk import Copied, copy_chunk, end_table, naming_row
from confiture.schema_to_schema.rebuild import Watch, keys_off
from confiture.types import Activity, short_names

#: Seconds that a plan ahead may read the source: it holds a snapshot for that long.
PLAN_SECONDS = 1.0
#: Seconds until a chunk that another session holds is tried again.
TAKEN_SECONDS = 0.2
#: Workers that end one after another, with no task completed in between, until the copy ends.
DEATHS = 5


@dataclass(slots=True)
class _Table:
    """A table that is not copied yet.

    :ivar pending: chunks that are recorded and not given to a worker.
    :ivar expected: the most rows that a pending chunk was planned with; None when an earlier command planned it.
    :ivar planned: about as many rows are copied or in recorded chunks.
    :ivar given: tasks of the table that workers have.
    :ivar ahead: chunks to plan at once.
    """

    job: RunTable
    name: str
    estimate: int
    rows_done: int
    sealed: bool
    pending: deque[Chunk] = field(default_factory=deque)
    expected: int | None = None
    planned: int = 0
    given: int = 0
    ahead: int = 2

    @property
    def number(self) -> int:
        return self.job.table.number


class CopyTables:
    """Copies every table that is not copied yet.

    :param states: of these tables, from the journal.
    :param pool: the workers; with several, the largest table is copied first.
    :param builds: how the keys' indexes are built.
    :param jobs: how each table is read, by its number; None for the views of the run.
    """

    def __init__(
        self,
        context: Context,
        plan: Plan,
        states: Iterable[TableProgress],
        throttler: Throttler,
        pool: Pool,
        builds: IndexBuilds,
        jobs: Mapping[int, RunTable] | None = None,
    ) -> None:
        self._context = context
        self._throttler = throttler
        self._pool = pool
        self._builds = builds
        self._watch = Watch(context)
        self._keys_off = keys_off(context, plan)
        self._copied = 0
        self._deaths = 0
        self._given: dict[Future[Outcome[Any]], tuple[_Table, Chunk | None]] = {}
        jobs = jobs or {t.number: RunTable(t, context.schema) for t in plan.tables}
        names = short_names(t.target for t in plan.tables)
        self._tables = [_Table(jobs[s.number], names[s.target], s.estimate, s.rows_done, s.sealed) for s in states]
        if pool.slots > 1:
            self._tables.sort(key=lambda t: -t.job.table.estimate_bytes)
        for table in self._tables:
            table.ahead = 2 * pool.slots
            table.planned = table.rows_done
            if table.sealed or table.rows_done:
                self._reload(table)

    def run(self) -> int:
        """Copy the tables; the number of rows that this call has copied.

        :raises DataFailure: at the first row that the target rejects, naming the row.
        :raises Drained: after a signal, when the chunks that workers have are copied.
        """
        try:
            while self._tables:
                self._throttler.wait()
                self._give()
                self._prepare()
                self._collect(POLL_SECONDS)
        except ConfitureError:
            self._settle()
            raise
        self._throttler.end()
        return self._copied

    # The next tasks --------------------------------------------------------------------------------

    def _give(self) -> None:
        """Give the workers as many tasks as they may have."""
        while self._load() < self._pool.slots * self._pool.depth:
            if not any(self._give_one(table) for table in self._tables):
                return

    def _load(self) -> int:
        """The tasks that workers have. The end of a table takes long, so that nothing waits behind it."""
        return sum(1 if chunk is not None else self._pool.depth for _, chunk in self._given.values())

    def _give_one(self, table: _Table) -> bool:
        """Give a worker the next task of a table; False when there is none now."""
        if not table.pending and not table.sealed:
            self._plan(table)
        if table.pending:
            self._give_chunk(table, self._next_chunk(table))
            return True
        if table.given or not self._is_copied(table):
            return bool(table.pending)
        off = self._keys_off[table.number]
        self._submit(table, None, self._pool.submit(end_table, table.job, off, self._builds, alone=True))
        # Nothing else is given of it until it has ended.
        table.sealed, table.given = True, 1
        return True

    def _prepare(self) -> None:
        """Plan the next chunks of a table while the workers copy, so that none of them waits for the plan.

        Not before a chunk of the table is copied: its speed decides how many rows the next ones have.
        """
        for table in self._tables:
            lacks = table.expected is not None and len(table.pending) < self._pool.slots
            if self._pool.slots > 1 and table.given and table.rows_done and lacks and not table.sealed:
                self._plan(table)
                return

    def _next_chunk(self, table: _Table) -> Chunk:
        chunk = table.pending.popleft()
        # The attempt is durable before the copy begins, so that a copy that ends its worker is counted too.
        return retry(partial(chunks.count_attempt, self._context, chunk))

    def _give_chunk(self, table: _Table, chunk: Chunk) -> None:
        size = self._throttler.chunk_rows(table.number, table.job.table.chunk_rows)
        # Dividing a chunk reads its keys once more. It pays for a limit that was set since, and not for a speed that
        # varies.
        most = size if table.expected is None or 2 * size < table.expected else None
        # Statistics may be wrong. That a chunk has far more rows is detected while it is copied, which costs nothing.
        expected = None if self._throttler.exact else table.expected
        if not table.job.table.key:
            most = expected = None
        future = self._pool.submit(copy_chunk, table.job, chunk, most, expected)
        self._submit(table, chunk, future)

    def _submit(self, table: _Table, chunk: Chunk | None, future: Future[Outcome[Any]]) -> None:
        table.given += 1
        self._given[future] = (table, chunk)

    def _plan(self, table: _Table) -> None:
        """Record the next chunks of a table."""
        exact = self._throttler.exact
        size, count = self._throttler.chunk_rows(table.number, table.job.table.chunk_rows), table.ahead
        if self._pool.slots > 1 and not exact:
            size, count = throttle.shared(size, count, table.estimate - table.planned, self._pool.slots)
        began = time.monotonic()
        with naming_row(self._context, table.job):
            plan = partial(chunks.plan_ahead, self._context, table.job, table.number, size, count, exact=exact)
            found = retry(plan)
        seconds = max(time.monotonic() - began, 0.001)
        table.expected = max(size, table.expected or 0) if table.pending else size
        table.pending.extend(found.chunks)
        table.planned += size * len(found.chunks)
        table.sealed = found.sealed
        table.ahead = max(1, min(chunks.PLAN_AHEAD, int(table.ahead * PLAN_SECONDS / seconds)))

    def _reload(self, table: _Table) -> None:
        """Read from the journal which chunks are not done and not given to a worker."""
        given = {chunk.number for owner, chunk in self._given.values() if owner is table and chunk is not None}
        found = retry(partial(chunks.not_done, self._context, table.number))
        table.pending = deque(chunk for chunk in found if chunk.number not in given)
        table.expected = None

    def _is_copied(self, table: _Table) -> bool:
        """Whether the journal says that every chunk is done (I-3.5); otherwise its chunks are pending."""
        done, now = retry(partial(chunks.complete, self._context, table.number))
        table.rows_done = now.rows_done
        if not done:
            self._reload(table)
        return done

    # The results -----------------------------------------------------------------------------------

    def _collect(self, seconds: float) -> None:
        """Take the results of the tasks that have ended; wait for the first one."""
        done, _ = wait(self._given, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            table, _ = self._given.pop(future)
            table.given -= 1
            try:
                outcome = future.result()
            except self._pool.died as error:
                self._died(error)
                continue
            self._deaths = 0
            for line in outcome.said:
                self._context.progress.say(line)
            result = outcome.result()
            if isinstance(result, Copied):
                self._count(table, result)
            else:
                self._end(table)
        if not done:
            self._pool.check()
            self._throttler.meanwhile()
            if any(chunk is None for _, chunk in self._given.values()):
                self._watch.look()

    def _count(self, table: _Table, copied: Copied) -> None:
        if copied.rows is None:
            # Another session holds the chunk, or has finished it.
            time.sleep(TAKEN_SECONDS)
            self._reload(table)
            return
        self._copied += copied.rows
        table.rows_done += copied.rows
        total = max(table.estimate, table.rows_done)
        self._context.progress.table(table.name, table.rows_done, total, Activity.COPYING)
        self._throttler.copied(table.number, copied.rows, copied.seconds)

    def _end(self, table: _Table) -> None:
        self._tables.remove(table)
        self._context.progress.table(table.name, table.rows_done, table.rows_done, Activity.COPIED)
        self._throttler.next_table()

    def _died(self, error: BaseException) -> None:
        """Nothing is lost: the chunk is not done, and is given again before its table ends.

        :raises DataFailure: when no worker lives long enough for a task.
        """
        self._deaths += 1
        if self._deaths >= DEATHS:
            raise DataFailure(
                f"{DEATHS} worker processes in a row ended in the middle of a task",
                why=f"{error or type(error).__name__}; a server or a kernel that lacks memory ends processes",
                fix="run the same command again with fewer --jobs; completed chunks are kept",
            ) from error
        self._context.progress.say("a worker process ended in the middle of a chunk; the chunk is copied again")

    def _settle(self) -> None:
        """Wait for the tasks that have begun; what they do is in the journal."""
        wait(self._given)
