"""Small tables without a key: their changes cannot be logged, so the cutover copies them again under its lock (I-5.16).

Until then they do not change in the target. Foreign keys from and to them are off until the cutover, because they
would reject changes that catch-up applies to the tables they connect.
"""

from __future__ import annotations

from functools import partial

from psycopg import sql

from confiture.compare import checksum, constraints
from confiture.compare.checksum import Hashing
from confiture.copy.chunks import MOVERS
from confiture.copy.run_table import RunTable, reading
from confiture.errors import CutoverAborted
from confiture.journal import deferred_objects, runs
from confiture.journal.model import Deferred, DeferredForeignKey, Difference
from confiture.plan.model import Plan
from confiture.postgres.retry import repeated
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.types import KeyRange


def off_until_cutover(plan: Plan, item: Deferred) -> bool:
    """Whether a foreign key is off until the cutover: a table at one of its ends is copied again there."""
    if not isinstance(item, DeferredForeignKey):
        return False
    return any(t.recopied and t.target in item.tables for t in plan.tables)


def recopy(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Copy each such table again, compare it, and search for orphans of the foreign keys that are off.

    :raises CutoverAborted: when a row differs; the source is still serving.
    """
    with context.target.transaction(read_only=True) as tx:
        keys = deferred_objects.of_kind(tx, context.run_id, DeferredForeignKey)
    for table in plan.tables:
        if table.recopied:
            _recopy(context, RunTable(table, context.schema), hashing)
    for key in keys:
        if key.validated and off_until_cutover(plan, key):
            with context.target.transaction(read_only=True) as tx:
                _refuse(constraints.orphans(tx, key))


def _recopy(context: Context, job: RunTable, hashing: Hashing) -> None:
    with reading(context.source, job) as source:
        # Durable together: every row of the table is replaced.
        with context.fenced("recopy") as target:
            _replace(source, target, job)
            _compare(source, target, job, hashing)


def _replace(source: Transaction, target: Transaction, job: RunTable) -> None:
    target.pg.execute("SET CONSTRAINTS ALL DEFERRED")
    target.pg.execute(sql.SQL("DELETE FROM {}").format(job.target_rows))
    MOVERS["copy"].move(source, target, job, KeyRange(None, None))  # the foreign server has no credentials in a cutover


def rehearse(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Copy each such table, compute its checksums, and roll back. Writes continue, so that nothing is compared."""
    for job in (RunTable(t, context.schema) for t in plan.tables if t.recopied):
        repeated(partial(_rehearse, context, job, hashing))


def _rehearse(context: Context, job: RunTable, hashing: Hashing) -> None:
    with reading(context.source, job) as source:
        with context.target.rehearsal() as target:
            runs.fence(target, context.run_id, context.epoch)
            _replace(source, target, job)
            checksum.bucket_sums(source, job, "source", hashing, 1)
            checksum.bucket_sums(target, job, "target", hashing, 1)


def _compare(source: Transaction, target: Transaction, job: RunTable, hashing: Hashing) -> None:
    """Compare the table in one bucket; when the sums differ, every row."""
    a = checksum.bucket_sums(source, job, "source", hashing, 1)
    b = checksum.bucket_sums(target, job, "target", hashing, 1)
    if a != b:
        _refuse(checksum.differences(source, target, job, hashing, checksum.bucket_condition(job, hashing, 1, [0])))


def _refuse(found: list[Difference]) -> None:
    if found:
        raise CutoverAborted(
            "cutover aborted: source and target differ",
            why=f"{len(found)} in a table copied again under the lock, the first: {found[0].place}",
            fix="the source is still serving; fix the rows on the source, or the mapping, then verify again",
        )
