"""Small tables without a key: their changes cannot be logged, so the cutover copies them again under its lock (I-5.16).

Until then they stand still in the target, as of their copy. Foreign keys from and to them wait for the cutover
too: they would refuse what catch-up does to the tables around them.
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
from confiture.journal.deferred_objects import Deferred
from confiture.journal.verifications import Difference
from confiture.plan.planner import Plan
from confiture.plan.projection import raw
from confiture.postgres.retry import repeated
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.schema_to_schema.rebuild import comment_on, waits
from confiture.types import KeyRange


def recopy(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Copy each such table whole again, compare it, and look for orphans of the foreign keys that waited.

    :raises CutoverAborted: when anything differs; the source is still serving.
    """
    with context.target.transaction(read_only=True) as tx:
        keys = [k for k in deferred_objects.of_run(tx, context.run_id, "foreign_key") if waits(plan, k)]
    for table in plan.tables:
        if table.recopied:
            _recopy(context, RunTable(table, context.schema), hashing)
    for key in keys:
        if (key.detail or {}).get("validated"):
            with context.target.transaction(read_only=True) as tx:
                _refuse(constraints.orphans(tx, key))


def _recopy(context: Context, job: RunTable, hashing: Hashing) -> None:
    with reading(context.source, job) as source:
        with context.fenced() as target:  # the old rows go and the new ones come in one commit
            _replace(source, target, job)
            _compare(source, target, job, hashing)


def _replace(source: Transaction, target: Transaction, job: RunTable) -> None:
    target.pg.execute("SET CONSTRAINTS ALL DEFERRED")
    only = sql.SQL("ONLY " if job.table.target_only else "")
    target.pg.execute(sql.SQL("DELETE FROM {}{}").format(only, job.target))
    MOVERS["copy"].move(source, target, job, KeyRange(None, None))  # the foreign server lets nobody in by now


def rehearse(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Copy and sum each such table, and roll back. Nothing is judged: writes go on."""
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
    """One bucket: what differs is looked into as a whole."""
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


# The foreign keys that waited ----------------------------------------------------------------------


def declare(tx: Transaction, item: Deferred) -> None:
    """The key as declared, for what is written from now on; rows are validated after the opening."""
    table, name = sql.Identifier(item.table.schema, item.table.name), sql.Identifier(item.name)
    definition = item.definition.removesuffix(" NOT VALID") + " NOT VALID"
    tx.pg.execute(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, raw(definition)))


def drop_interim_key(tx: Transaction, item: Deferred) -> None:
    """Validate a declared key, unless the new schema does not ask for it."""
    if (item.detail or {}).get("validated"):
        table, name = sql.Identifier(item.table.schema, item.table.name), sql.Identifier(item.name)
        tx.pg.execute(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, name))
    comment_on(tx, item)
