"""The copy of the rows of a sync, and of the rows that they refer to. A process that is killed continues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

from confiture.catalog_model import Catalog
from confiture.copy.throttler import Throttler
from confiture.journal import deferred_objects, runs, steps, table_plans
from confiture.journal.model import COPIED, DeferredForeignKey, DeferredIndex, DeferredStatus, TableProgress
from confiture.masking.model import Masks
from confiture.plan.index_builds import IndexBuilds
from confiture.plan.model import Plan
from confiture.postgres.retry import retry
from confiture.runner.context import Context
from confiture.runner.parallel_steps import run_together
from confiture.schema_to_schema import index_steps, jobs, rebuild
from confiture.schema_to_schema.copy_tables import CopyTables
from confiture.sync import references, snapshot, store, tables
from confiture.sync.references import Filled
from confiture.sync.selection import NONE
from confiture.sync.snapshot import Age
from confiture.sync.tables import Snapshot
from confiture.types import Json

#: The step that fetches the rows that others refer to.
REFERENCES = "rows that others refer to"
#: The kind of the event with the numbers of these rows.
REFERENCES_EVENT = "references"


@dataclass(frozen=True, slots=True)
class Work:
    """The facts that the copy needs besides its context.

    :ivar source: the catalog of the source.
    :ivar consistent: whether all rows are read in one snapshot.
    :ivar jobs: chunks at a time; None for as many as there are cores.
    """

    plan: Plan
    masks: Masks
    source: Catalog
    consistent: bool
    jobs: int | None


def copy(context: Context, work: Work) -> int:
    """Copy the rows that are not copied yet, build the indexes, and fetch the rows that others refer to.

    :returns: the rows that this call has copied.
    :raises DataFailure: at the first row that the target rejects, naming the row.
    :raises Drained: after a signal, at a checkpoint.
    """
    if _is_done(context):
        return 0
    if work.consistent and _has_begun(context):
        context.progress.say("the snapshot of the earlier command is lost: its tables are emptied and copied again")
        store.again(context, work.plan)
    builds = rebuild.choose_builds(context, None)
    with _snapshot(context, work) as (held, age):
        left = _states(context)
        read = tables.jobs(context, work.plan, left, work.masks, held)
        unfinished = [s for s in left if s.phase not in COPIED]
        with closing(jobs.pool(context, work.plan, unfinished, work.jobs)) as pool:
            throttler = Throttler(context, age, streams=pool.slots)
            of_keys = builds if pool.slots == 1 else rebuild.builds_of_keys(context, pool.slots)
            copied = CopyTables(context, work.plan, unfinished, throttler, pool, of_keys, read).run()
        _build_indexes(context, builds)
        by_target = {job.table.target: job for job in read.values()}
        filled = references.fill(context, by_target, foreign_keys(context), work.source)
    retry(partial(_note_filled, context, filled))
    return copied


def _states(context: Context) -> tuple[TableProgress, ...]:
    with context.target.transaction(read_only=True) as tx:
        return table_plans.of_run(tx, context.run_id)


def _is_done(context: Context) -> bool:
    with context.target.transaction(read_only=True) as tx:
        return steps.is_done(tx, context.run_id, "references", REFERENCES)


def _has_begun(context: Context) -> bool:
    """Whether an earlier command has read rows, in a snapshot that is gone."""
    return any(s.next_chunk > 1 for s in _states(context) if s.plan.get("where") != NONE)


@contextmanager
def _snapshot(context: Context, work: Work) -> Iterator[tuple[Snapshot | None, Age | None]]:
    if not work.consistent:
        yield None, None
        return
    with snapshot.held(context, [t.source for t in work.plan.tables]) as (held, age):
        yield held, age


def _build_indexes(context: Context, builds: IndexBuilds) -> None:
    with context.target.transaction(read_only=True) as tx:
        taken = deferred_objects.of_kind(tx, context.run_id, DeferredIndex)
    off = [d for d in taken if d.status is DeferredStatus.OFF]
    built = index_steps.steps(off, rebuild.sizes(context, off), builds)
    run_together(context, "rebuild", built, jobs=builds.jobs, meanwhile=rebuild.Watch(context).look)


def _note_filled(context: Context, filled: Filled) -> None:
    numbers: Json = {
        name: {str(ref): count for ref, count in getattr(filled, name).items() if count}
        for name in ("added", "again", "gone", "orphans")
    }
    # Durable together: that every reference has its row, and the numbers of this command.
    with context.fenced("references.done") as tx:
        runs.note(tx, context.run_id, context.epoch, REFERENCES_EVENT, numbers)
        steps.mark(tx, context.run_id, "references", REFERENCES, done=True)


def foreign_keys(context: Context) -> tuple[DeferredForeignKey, ...]:
    """The foreign keys of the tables of the sync, without those of other tables that refer to them."""
    outside = {(table, name) for table, name in context.run().options.get("outside") or ()}
    with context.target.transaction(read_only=True) as tx:
        taken = deferred_objects.of_kind(tx, context.run_id, DeferredForeignKey)
    return tuple(key for key in taken if (str(key.table), key.name) not in outside)
