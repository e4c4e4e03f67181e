"""The beginning of a sync in the target: the schema from the DDL, the emptied tables, the plan in the journal."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from psycopg import sql

from confiture import catalog
from confiture.catalog_model import Catalog, ForeignKey, Table
from confiture.copy.inline import Shape
from confiture.journal import deferred_objects, runs, steps, table_plans
from confiture.journal.model import Deferred, TablePhase
from confiture.plan.model import Plan, TablePlan
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Step, run_steps
from confiture.schema_to_schema import plan_store, setup
from confiture.schema_to_schema.deferred_objects import describe, take_off
from confiture.sync import refusals
from confiture.sync.planning import Planned
from confiture.sync.selection import NONE
from confiture.types import Json, TableRef

#: The phase of these steps in the journal.
PHASE = "setup"
#: The phases of the steps that follow the copy.
PHASES = ("rebuild", "references", "proof", "finish")
#: The step with which the tables are emptied and the plan is stored.
STORED = "tables emptied and plan stored"


def prepare(context: Context, planned: Planned, options: Json) -> None:
    """Build the schema if there is none, empty the tables, take their indexes and keys off, and store the plan.

    Each step is durable when it is done. Until the plan is stored, the rows of the target are as they were.

    :param options: of the run, with what the plan was created from.
    """
    run_steps(
        context,
        PHASE,
        (
            Step("schema of the target", act=setup.build_schema),
            Step(STORED, act=partial(_store, planned, options), outside=setup.fresh_session),
        ),
    )


def _store(planned: Planned, options: Json, context: Context, tx: Transaction) -> None:
    found = catalog.read(tx)
    plan = planned.plan
    of_sync = {t.target for t in plan.tables}
    refusals.refuse_outside_references(found, planned.emptied, of_sync, refusals.filled(tx))
    outside = refusals.outside_references(found, planned.emptied, of_sync)
    take_rows_off(context, tx, found, plan, outside)
    for table in plan.tables:
        _record(context, tx, table, planned.shapes[table.source])
    before = {str(t.target): count(tx, t.target) for t in plan.tables if t.where == NONE}
    facts = {"before": before, "outside": [[str(key.table), key.name] for key in outside]}
    stored = {**runs.get(tx, context.run_id).options, **options, **facts}
    runs.update(tx, context.run_id, plan=plan.as_json(), plan_hash=plan.hash, options=stored)
    detail = {"plan": plan.hash, "tables": len(plan.tables)}
    runs.note(tx, context.run_id, context.epoch, "planned", detail)


def count(tx: Transaction, table: TableRef) -> int:
    """The rows of a table."""
    return int(only_row(tx.pg.execute(sql.SQL("SELECT count(*) FROM {}").format(table.identifier)))[0])


def take_rows_off(context: Context, tx: Transaction, found: Catalog, plan: Plan, outside: Iterable[ForeignKey]) -> None:
    """Take off the foreign keys, triggers and rules of the planned tables; empty those that are filled again.

    :param outside: further foreign keys, of tables that have no row to refer to them.
    """
    tables = [found.by_ref[t.target] for t in plan.tables]
    items = [*_taken(found, tables), *map(describe.foreign_key, outside)]
    deferred_objects.put(tx, context.run_id, *items)
    for item in items:
        take_off(tx, item)
    emptied = frozenset(t.target for t in plan.tables if t.where != NONE)
    plan_store.truncate(tx, emptied)
    plan_store.take_indexes_off(context, tx, [t for t in tables if t.ref in emptied])


def _taken(found: Catalog, tables: Iterable[Table]) -> Iterable[Deferred]:
    chosen = list(tables)
    yield from describe.unvalidated(found, (t.ref for t in chosen))
    for table in chosen:
        yield from (describe.foreign_key(key) for key in table.foreign_keys)
        yield from describe.triggers(table)
        yield from describe.rules(table)


def _record(context: Context, tx: Transaction, table: TablePlan, shape: Shape) -> None:
    table_plans.add(
        tx,
        context.run_id,
        table.number,
        target=table.target,
        source=table.source,
        plan=Plan((table,)).as_json()["tables"][0],
        estimate=table.estimate,
        fingerprint=dict(shape),
    )
    if table.where == NONE:
        table_plans.update(tx, context.run_id, table.number, phase=TablePhase.COPIED, sealed=True)


def again(context: Context, plan: Plan) -> None:
    """Empty the tables once more and discard their chunks: a snapshot that is lost cannot be continued."""
    # Durable together: the emptied tables without a chunk, and that their indexes are off.
    with context.fenced("sync.again") as tx:
        found = catalog.read(tx)
        emptied = [t for t in plan.tables if t.where != NONE]
        plan_store.truncate(tx, frozenset(t.target for t in emptied))
        plan_store.take_indexes_off(context, tx, [found.by_ref[t.target] for t in emptied])
        for table in emptied:
            reset(context, tx, table)
        for phase in PHASES:
            steps.discard(tx, context.run_id, phase)
        runs.note(tx, context.run_id, context.epoch, "copied again", {"reason": "the snapshot is lost"})


def reset(context: Context, tx: Transaction, table: TablePlan) -> None:
    """Discard the chunks of a table that was emptied, so that it is copied again."""
    stored = Plan((table,)).as_json()["tables"][0]
    table_plans.replace(tx, context.run_id, table.number, table.source, stored, table.estimate)
