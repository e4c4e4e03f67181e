"""After the copy: restore indexes and constraints, add foreign keys, set sequences, refresh views, analyze.

Each is a resumable step of its own, so that an index is not built twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import psycopg
from psycopg import sql

from confiture import fingerprint
from confiture.errors import DataFailure
from confiture.journal import deferred_objects, table_plans
from confiture.journal.model import AnyDeferred, Deferred, DeferredForeignKey, DeferredStatus, TablePhase
from confiture.plan.model import Plan, TablePlan
from confiture.postgres.failure import failure, name_role
from confiture.postgres.retry import retry, retryable
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Step, run_steps
from confiture.schema_to_schema import materialized_views, sequences
from confiture.schema_to_schema.deferred_objects import foreign_keys, indexes, restore
from confiture.schema_to_schema.deferred_objects.statements import qualified
from confiture.schema_to_schema.keyless import off_until_cutover
from confiture.types import TableRef, shell_word

TargetAct = Callable[[Context, Transaction], None]


def rebuild(context: Context, plan: Plan) -> None:
    """Restore what was taken off for the copy; foreign keys as they stand until the cutover."""
    with context.target.transaction(read_only=True) as tx:
        taken = deferred_objects.of_run(tx, context.run_id)
    keys = [d for d in taken if isinstance(d, DeferredForeignKey) and not off_until_cutover(plan, d)]
    off = [d for d in indexes.roots_first(taken) if d.status is DeferredStatus.OFF]
    retry(partial(_set_sequences, context, plan))
    run_steps(
        context,
        "finish",
        [
            *(_step(f"{d.kind} {d.name} on {d.table}", restore_and_record, d) for d in off),
            *(_step(f"foreign key {d.name} on {d.table}", _add_interim, d) for d in keys),
            *(_step(f"foreign key {d.name} on {d.table} validated", _validate_interim, d) for d in keys),
            *(
                Step(f"refresh of {v}", act=partial(materialized_views.refresh_or_report, v))
                for v in plan.materialized_views
            ),
            *(Step(f"statistics of {t.target}", act=_analyze(t.target, t.number)) for t in plan.tables),
            Step("fingerprint of the target", act=lambda c, tx: record_target(c, tx, plan)),
        ],
    )


def build_key(context: Context, table: TablePlan) -> None:
    """Build the index of a copied table's key, with those of its partitions: its first pass needs it (I-3.11)."""
    with context.target.transaction(read_only=True) as tx:
        taken = deferred_objects.of_run(tx, context.run_id)
    tree: set[tuple[TableRef, str]] = {(table.target, table.arbiter)} if table.arbiter is not None else set()
    steps = []
    attached: set[TableRef] = set()
    for item in indexes.roots_first(taken):
        if (item.table, item.name) in tree or item.parent in attached:
            attached.add(TableRef(item.table.schema, item.name))
            if item.status is DeferredStatus.OFF:
                steps.append(_step(f"{item.kind} {item.name} on {item.table}", restore_and_record, item))
    run_steps(context, "finish", steps)


def record_target(context: Context, tx: Transaction, plan: Plan) -> None:
    """Record the fingerprint of the tables that changes are applied to. A change of it blocks the run from now on."""
    tables = fingerprint.oids(tx, [t.target for t in plan.tables])
    fingerprint.record(tx, context.schema, tables, fingerprint.APPLIED)
    fingerprint.forget(tx, context.schema, tables, (fingerprint.STORAGE,))


def _set_sequences(context: Context, plan: Plan) -> None:
    # Durable whether or not this commits: the values of the sequences. Repeated by every migrate, because the
    # application continues to use the source's sequences.
    with context.fenced("finish.sequences") as tx:
        sequences.set_all(context.source, tx, plan)


def _step(name: str, act: Callable[[Context, Transaction, AnyDeferred], None], item: AnyDeferred) -> Step:
    def run(context: Context, tx: Transaction) -> None:
        try:
            act(context, tx, item)
        except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation) as error:
            raise _not_unique(error, name, item) from error
        except psycopg.Error as error:
            if retryable(error):
                raise
            name_role(error, tx.pg.info.user)
            raise failure(error, f"restoring {name}") from error

    return Step(name, act=run)


def _not_unique(error: psycopg.Error, name: str, item: Deferred) -> DataFailure:
    return DataFailure(
        f"rows of {item.table} are not unique: {name} cannot be restored",
        why=f"{error.diag.message_primary}: {error.diag.message_detail}",
        fix=f"fix the rows on the source, then copy them again: migrate --restart-table {shell_word(str(item.table))}",
    )


def restore_and_record(context: Context, tx: Transaction, item: Deferred) -> None:
    """Restore an object that is off, and record that it is back."""
    restore(tx, item)
    deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.BACK)


def _add_interim(context: Context, tx: Transaction, item: DeferredForeignKey) -> None:
    """Add the foreign key as it stands until the cutover; one with orphans remains off, and ``verify`` names them."""
    try:
        with tx.pg.transaction():
            foreign_keys.add_interim(tx, item)
    except psycopg.errors.ForeignKeyViolation:
        return
    deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.INTERIM)


def _validate_interim(context: Context, tx: Transaction, item: DeferredForeignKey) -> None:
    """Check every row under the interim; a key with orphans remains NOT VALID, and ``verify`` names them."""
    if not item.validated:
        return  # declared NOT VALID: the new schema does not ask for validation
    try:
        with tx.pg.transaction():
            foreign_keys.validate_interim(tx, item)
    except (psycopg.errors.ForeignKeyViolation, psycopg.errors.UndefinedObject):
        return


def _analyze(table: TableRef, number: int) -> TargetAct:
    def act(context: Context, tx: Transaction) -> None:
        tx.pg.execute(sql.SQL("ANALYZE {}").format(qualified(table)))
        table_plans.update(tx, context.run_id, number, phase=TablePhase.FINISHED, finished_at=_now(tx))

    return act


def _now(tx: Transaction) -> object:
    row = tx.pg.execute("SELECT clock_timestamp()").fetchone()
    return None if row is None else row[0]
