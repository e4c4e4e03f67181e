"""After the proof: foreign keys, triggers, rules and constraints as declared, sequences, views, statistics."""

from __future__ import annotations

from functools import partial

from confiture.journal import deferred_objects
from confiture.journal.model import SUSPENDED, AnyDeferred, DeferredForeignKey, DeferredStatus
from confiture.plan.model import Plan
from confiture.postgres.retry import retry
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.runner.parallel_steps import run_together
from confiture.runner.resumable_steps import Step
from confiture.schema_to_schema import index_steps, rebuild, sequences
from confiture.schema_to_schema.deferred_objects import restore

#: The phase of these steps in the journal.
PHASE = "finish"


def finish(context: Context, plan: Plan) -> None:
    """Restore what was taken off, set the sequences, refresh the views. Each step is durable when it is done.

    The server validates every foreign key that is not declared NOT VALID.

    :raises DataFailure: when rows do not satisfy a constraint, naming it.
    """
    builds = rebuild.choose_builds(context, None)
    with context.target.transaction(read_only=True) as tx:
        keys = deferred_objects.of_kind(tx, context.run_id, DeferredForeignKey)
    retry(partial(_set_sequences, context, plan))
    steps = rebuild.in_stages(
        [_restored(key) for key in keys],
        [Step("triggers, rules and constraints restored", act=_restore_suspended)],
        [rebuild.refreshed(view) for view in plan.materialized_views],
        [rebuild.analyzed(t.target, t.number) for t in plan.tables],
    )
    run_together(context, PHASE, steps, jobs=builds.jobs, meanwhile=rebuild.Watch(context).look)


def _set_sequences(context: Context, plan: Plan) -> None:
    # Durable whether or not this commits: the values of the sequences.
    with context.fenced("finish.sequences") as tx:
        sequences.set_all(context.source, tx, plan)


def _restored(key: DeferredForeignKey) -> Step:
    name = f"foreign key {key.name} on {key.table}"
    return Step(name, act=partial(index_steps.explained, name, _restore, key), locks=frozenset(key.tables))


def _restore(context: Context, tx: Transaction, item: AnyDeferred) -> None:
    if item.status is DeferredStatus.OFF:
        restore(tx, item)
        deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.BACK)


def _restore_suspended(context: Context, tx: Transaction) -> None:
    taken = deferred_objects.of_run(tx, context.run_id)
    for item in deferred_objects.in_order(d for d in taken if isinstance(d, SUSPENDED)):
        _restore(context, tx, item)
