"""The end of a sync that is not completed: its tables are emptied, and everything on them is as declared."""

from __future__ import annotations

import psycopg

from confiture.journal import deferred_objects, runs
from confiture.journal.model import SUSPENDED, Deferred, DeferredForeignKey, DeferredStatus
from confiture.plan.model import Plan, plan_from_json
from confiture.postgres.session import Transaction
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.schema_to_schema import plan_store
from confiture.schema_to_schema.deferred_objects import foreign_keys, indexes, restore
from confiture.sync.selection import NONE
from confiture.types import counted


def abort(context: Context) -> None:
    """End the sync. Until this commits, it can be continued.

    Rows that were added to a table because others refer to them stay there; they are masked like all others.
    """
    # Durable together: the emptied tables, what was taken off them as declared, and the end of the run.
    with context.fenced("sync.abort") as tx:
        run = runs.get(tx, context.run_id)
        if run.plan is not None:
            _restore_all(context, tx, plan_from_json(run.plan))
        transitions.fire(tx, run, "abort")
        runs.unblock(tx, context.run_id)


def _restore_all(context: Context, tx: Transaction, plan: Plan) -> None:
    emptied = frozenset(t.target for t in plan.tables if t.where != NONE)
    plan_store.foreign_keys_off(context, tx)
    plan_store.truncate(tx, emptied)
    taken = [item for item in deferred_objects.of_run(tx, context.run_id) if item.status is DeferredStatus.OFF]
    keys = [d for d in taken if isinstance(d, DeferredForeignKey)]
    suspended = deferred_objects.in_order(d for d in taken if isinstance(d, SUSPENDED))
    for item in (*indexes.roots_first(taken), *keys, *suspended):
        _restore(context, tx, item)
        deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.BACK)
    context.progress.say(f"emptied {counted(len(emptied), 'table')}, and restored what was taken off")


def _restore(context: Context, tx: Transaction, item: Deferred) -> None:
    """Restore an object; a foreign key of rows whose parents are not fetched yet holds for new rows only."""
    if not isinstance(item, DeferredForeignKey):
        restore(tx, item)
        return
    try:
        with tx.pg.transaction():
            restore(tx, item)
    except psycopg.errors.ForeignKeyViolation:
        foreign_keys.restore_not_valid(tx, item)
        context.progress.say(f"foreign key {item.name} on {item.table} is NOT VALID: rows have no parent")
