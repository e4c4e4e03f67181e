"""``rollback`` and its rehearsal."""

from __future__ import annotations

from confiture.commands.cutover import paused_pooler, refuse_unfinished
from confiture.commands.endpoints import Endpoints
from confiture.commands.holding import hold_run, unblock
from confiture.config import Database
from confiture.errors import Refused
from confiture.journal import runs
from confiture.journal.runs import Run
from confiture.pooler.pgbouncer import Pool
from confiture.runner.progress import Progress
from confiture.schema_to_schema import migrate, plan_store, rollback, switchover
from confiture.schema_to_schema import rehearse as rehearsal
from confiture.schema_to_schema.rehearse import Rehearsal
from confiture.schema_to_schema.table_lock import Limits
from confiture.states import CUTOVER, MIGRATING, VERIFIED


def execute(
    where: Endpoints, limits: Limits, progress_: Progress, pool: Pool | None = None
) -> tuple[Run, Database, Database]:
    """Back to the old database, with all that was written since the cutover: the run, its source and its target.

    :param pool: what the application's connections pass through; None where they are its own affair.
    """
    with hold_run(where, "rollback", progress_) as (context, run):
        ends = context.source.database, context.target.database
        with context.target.transaction(read_only=True) as tx:
            last = runs.last_trigger(tx, run.id, ("cutover", "rollback"))
        if run.state in (MIGRATING, VERIFIED) and last == "rollback":
            if pool is not None and run.options.get(switchover.PAUSED_POOLER):
                with paused_pooler(context, run, pool, switchover.REVERSE) as pooler:
                    switchover.redirect(context, pooler, switchover.REVERSE)
                switchover.set_phase(context, None, None)
            progress_.say("rolled back already: the source serves")
            return run, *ends
        _refuse_to_roll_back(run, where)
        plan = migrate.stored_plan(context)
        plan_store.ensure_views(context, plan)
        with paused_pooler(context, run, pool, switchover.REVERSE) as pooler:
            rollback.rollback(context, plan, limits, pooler)
        unblock(context, "rollback")
        return context.run(), *ends


def rehearse(where: Endpoints, limits: Limits, progress_: Progress) -> tuple[Run, Rehearsal]:
    """A rollback up to its lock, and what its write pause would be; nothing is switched."""
    with hold_run(where, "rollback", progress_) as (context, run):
        _refuse_to_roll_back(run, where)
        plan = migrate.stored_plan(context)
        plan_store.ensure_views(context, plan)
        return run, rehearsal.rehearse_rollback(context, plan, limits)


def _refuse_to_roll_back(run: Run, where: Endpoints) -> None:
    if run.state != CUTOVER or not run.options.get("capture"):
        why = f"run {run.short} is in state {run.state}"
        if run.state == CUTOVER:
            why = "it was set up for a stopped application: what was written since the cutover is not captured"
        raise Refused("there is nothing to roll back", why=why, fix="look at it: confiture status")
    refuse_unfinished(run, where)
