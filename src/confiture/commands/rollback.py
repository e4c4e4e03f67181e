"""``rollback`` and its rehearsal."""

from __future__ import annotations

from collections.abc import Sequence

from confiture.commands.cutover import paused_poolers, refuse_unfinished
from confiture.commands.endpoints import Endpoints
from confiture.commands.holding import hold_run
from confiture.config import Database
from confiture.errors import Refused
from confiture.journal import runs
from confiture.journal.model import Run
from confiture.pooler import Pool
from confiture.postgres.connection import place
from confiture.runner.progress import Progress
from confiture.schema_to_schema import migrate, plan_store, rollback, switchover, write_pause
from confiture.schema_to_schema import rehearse as rehearsal
from confiture.schema_to_schema.outcomes import Limits, Rehearsal
from confiture.states import CUTOVER, MIGRATING, VERIFIED


def execute(
    where: Endpoints, limits: Limits, progress_: Progress, pools: Sequence[Pool] = ()
) -> tuple[Run, Database, Database, str]:
    """Switch back to the source without losing a write; return the run, its source, its target and the source's place.

    After a crash before the point of no return, the target is still serving. After it, the same command finishes the
    rollback.

    :param pools: those of PgBouncer that the application connects through, to redirect to the source.
    :raises Refused: when there is nothing to roll back.
    :raises CutoverAborted: when the target is still serving and nothing has changed.
    """
    with hold_run(where, "rollback", progress_) as (context, run):
        ends = context.facts.source, context.facts.target, place(context.source.pg)
        with context.target.transaction(read_only=True) as tx:
            last = runs.last_event(tx, run.id, ("cutover", "rollback"))
        if run.state in (MIGRATING, VERIFIED) and last is not None and last.kind == "rollback":
            if pools and switchover.paused_poolers(run):
                with paused_poolers(context, run, pools, switchover.REVERSE) as pooler:
                    switchover.redirect(context, pooler, switchover.REVERSE)
                switchover.set_phase(context, None)
            progress_.say("rolled back already: the source is serving")
            return run, *ends
        _refuse_to_roll_back(run, where)
        plan = migrate.stored_plan(context)
        plan_store.ensure_views(context, plan)
        with paused_poolers(context, run, pools, switchover.REVERSE) as pooler:
            rollback.rollback(context, plan, limits, pooler)
        return context.run(), *ends


def rehearse(
    where: Endpoints, limits: Limits, progress_: Progress, pools: Sequence[Pool] = (), *, ignore_blockers: bool = False
) -> tuple[Run, Rehearsal]:
    """Perform a rollback up to its lock and measure the expected write pause. Nothing is switched.

    :param pools: as in :func:`execute`; they are only checked.
    :param ignore_blockers: sessions that block the lock now are no problem.
    """
    with hold_run(where, "rollback", progress_) as (context, run):
        _refuse_to_roll_back(run, where)
        plan = migrate.stored_plan(context)
        plan_store.ensure_views(context, plan)
        with paused_poolers(context, run, pools, switchover.REVERSE, only_look=True):
            pass
        found = rehearsal.rehearse_rollback(context, plan, limits, ignore_blockers=ignore_blockers)
        write_pause.record_rehearsal(context, "rollback", found, limits.max_write_pause)
        return run, found


def _refuse_to_roll_back(run: Run, where: Endpoints) -> None:
    if run.state != CUTOVER or not run.options.get("capture"):
        why = f"run {run.short} is in state {run.state}"
        if run.state == CUTOVER:
            why = "it was set up with --no-capture, so writes made since the cutover are not captured"
        raise Refused("there is nothing to roll back", why=why, fix="run: confiture status")
    refuse_unfinished(run, where)
