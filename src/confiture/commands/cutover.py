"""``cutover`` and its rehearsal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confiture.commands.databases import refuse_other
from confiture.commands.endpoints import Endpoints, next_command
from confiture.commands.holding import hold_run
from confiture.config import Database
from confiture.errors import CutoverUnfinished, Refused
from confiture.journal import approvals
from confiture.journal.model import Run
from confiture.plan.model import Plan
from confiture.pooler import Pool, Pooler
from confiture.pooler.config_file import Address
from confiture.pooler.several import PgBouncers
from confiture.postgres.connection import place
from confiture.runner.context import Context
from confiture.runner.progress import Progress
from confiture.schema_to_schema import (
    cutover,
    cutover_offline,
    materialized_views,
    migrate,
    plan_store,
    reads,
    rollback,
    setup,
    switchover,
    verify,
    write_pause,
)
from confiture.schema_to_schema import rehearse as rehearsal
from confiture.schema_to_schema.cutover_offline import Differs
from confiture.schema_to_schema.outcomes import Limits, Rehearsal
from confiture.states import CUTOVER, CutoverPhase


def execute(
    where: Endpoints, limits: Limits, report: Path, progress_: Progress, pools: Sequence[Pool] = ()
) -> tuple[Run, Database, Database, str]:
    """Switch the application's writes to the target; return the run, its source, its target and the target's place.

    After a crash before the point of no return, the source is still serving. After it, the same command finishes the
    cutover.

    :param report: the file for the differences that are found under the lock.
    :param pools: those of PgBouncer that the application connects through, to redirect to the target.
    :raises CutoverAborted: when the source is still serving and nothing has changed.
    :raises CutoverUnfinished: when the point of no return has passed.
    """
    verify.refuse_unwritable(report)
    with hold_run(where, "cutover", progress_) as (context, run):
        ends = context.facts.source, context.facts.target, place(context.target.pg)
        if run.state == CUTOVER and switchover.is_past_point_of_no_return(context, switchover.REVERSE):
            with paused_poolers(context, run, pools, switchover.FORWARD) as pooler:
                rollback.reopen_target(context)
                switchover.redirect(context, pooler, switchover.FORWARD)
            return context.run(), *ends
        if run.state == CUTOVER and not is_unfinished(run) and not (pools and switchover.paused_poolers(run)):
            progress_.say("cut over already: the target is serving")
            if run.options.get("capture"):
                materialized_views.refresh(context, migrate.stored_plan(context))
            return run, *ends
        plan = _plan_to_cut_over(context, run, limits, approved=True)
        with paused_poolers(context, run, pools, switchover.FORWARD) as pooler:
            if run.options.get("capture"):
                cutover.switch(context, plan, limits, pooler)
                return context.run(), *ends
        try:
            cutover_offline.cutover(context, plan, limits)
        except Differs as error:
            _write_differing(error, where, report)
            raise
        return context.run(), *ends


@contextmanager
def paused_poolers(
    context: Context, run: Run, pools: Sequence[Pool], direction: switchover.Direction, *, only_look: bool = False
) -> Iterator[Pooler | None]:
    """The pools, checked; None when none was named.

    :param only_look: leave those paused that a crash left so.
    """
    if pools and not run.options.get("capture"):
        raise Refused(
            "a pool is paused only for a run that captures writes",
            why="this run was set up with --no-capture",
            fix="redirect the pool by hand, or with --hook switch=COMMAND",
        )
    closed = bool(run.options.get("capture")) and switchover.is_past_point_of_no_return(context, direction)
    if not pools:
        if not closed:
            switchover.refuse_unnamed_poolers(context, (), direction)
        yield None
        return
    ends = {"source": (context.source, run.source_identity), "target": (context.target, run.target_identity)}
    info = ends[direction.opens][0].pg.info
    with contextlib.closing(PgBouncers(pools, Address(info.host, info.port, info.dbname))) as pooler:
        if not closed:  # else the other side is opened first, whatever the state of the pools
            switchover.refuse_unnamed_poolers(context, pooler.names, direction)
            pooler.check()
            session, known = ends[direction.closes]
            for database in pooler.lead_to(session.database):
                refuse_other(run, direction.closes, known, setup.identity_of(database))
            if not only_look:
                switchover.resume_leftover(context, pooler, direction)
        yield pooler


def _plan_to_cut_over(context: Context, run: Run, limits: Limits, *, approved: bool = False) -> Plan:
    """The plan of a run that may be cut over.

    :param approved: whether a required approval must have been given, which a rehearsal does not need.
    """
    if run.state != CUTOVER:
        cutover_offline.refuse_unverified(run)
        reads.refuse_moving(run)
        closed = bool(run.options.get("capture")) and switchover.is_past_point_of_no_return(context, switchover.FORWARD)
        if limits.max_verification_age is not None and not closed:  # else the cutover can only be finished
            verify.refuse_older(context, limits.max_verification_age)
        if approved and not closed:
            with context.target.transaction(read_only=True) as tx:
                approvals.refuse_unapproved(tx, run, always=context.facts.target.require_approval)
    plan = migrate.stored_plan(context)
    plan_store.ensure_views(context, plan)
    return plan


def rehearse(
    where: Endpoints,
    limits: Limits,
    report: Path,
    progress_: Progress,
    pools: Sequence[Pool] = (),
    *,
    ignore_blockers: bool = False,
) -> tuple[Run, Rehearsal | None]:
    """Perform a cutover up to its lock and measure the expected write pause; None when the cutover is already done.

    Nothing is switched, and changes for the measurement are rolled back.

    :param report: as in :func:`execute`, like ``pools``.
    :param ignore_blockers: sessions that block the lock now are no problem.
    :raises CutoverUnfinished: when the point of no return has passed.
    """
    verify.refuse_unwritable(report)
    with hold_run(where, "cutover", progress_) as (context, run):
        if run.state == CUTOVER and not is_unfinished(run):
            progress_.say("cut over already: the target is serving")
            return run, None
        live = bool(run.options.get("capture"))
        if run.state == CUTOVER or (live and switchover.is_past_point_of_no_return(context, switchover.FORWARD)):
            raise CutoverUnfinished(
                "the cutover is not finished",
                why="it has passed its point of no return",
                fix=next_command("cutover", where),
            )
        plan = _plan_to_cut_over(context, run, limits)
        with paused_poolers(context, run, pools, switchover.FORWARD, only_look=True):
            pass
        rehearse_ = rehearsal.rehearse if live else rehearsal.rehearse_stopped
        found = rehearse_(context, plan, limits, ignore_blockers=ignore_blockers)
        write_pause.record_rehearsal(context, "cutover", found, limits.max_write_pause if live else None)
        if isinstance(found.problem, Differs):
            _write_differing(found.problem, where, report)
        return run, found


def _write_differing(error: Differs, where: Endpoints, report: Path) -> None:
    verify.write_differences(report, error.result.differences)
    again = next_command("verify --again", where)
    error.fix = f"The source is still serving. Stop writes to it, fix the rows that {report} names, then run: {again}"


def is_unfinished(run: Run) -> bool:
    """Whether a cutover with capture has opened the target and has work left."""
    phase = run.cutover_phase
    return phase is not None and phase is not CutoverPhase.DONE and not phase.of_rollback


def refuse_unfinished(run: Run, where: Endpoints) -> None:
    """:raises CutoverUnfinished: when the cutover has opened the target and has work left."""
    if is_unfinished(run):
        raise CutoverUnfinished(
            "the cutover is not finished",
            why="the target is open, and work is left",
            fix=next_command("cutover", where),
        )
