"""cutover --reads-first: the application reads from the target while it still writes to the source.

The target rejects writes until the cutover, and every role that has the privileges may read it at any time. Opening it
for reading therefore changes no privilege. It checks that the rows may be relied on, redirects the readers there, and
records this, so that no later command changes tables below them (docs/invariants.md, I-13.2).

The phase is durable before the first reader is redirected. A command that finds an unfinished phase redirects all
readers again, or redirects them back. Neither does harm twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from confiture.capture import write_block
from confiture.compare import changed_keys
from confiture.errors import Blocked, CutoverAborted, Refused
from confiture.failpoints import failpoint
from confiture.journal import catch_up, runs
from confiture.journal.model import Run
from confiture.naming import Naming
from confiture.plan.model import Plan
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.schema_to_schema import cutover, follow, materialized_views, verify
from confiture.schema_to_schema.cutover_offline import refuse_stale, refuse_unverified
from confiture.schema_to_schema.outcomes import ReadLimits
from confiture.states import CUTOVER, FINAL, MOVING_READS, ReadsPhase
from confiture.types import some

#: The two commands.
FIRST, BACK = "cutover --reads-first", "cutover --reads-back"
#: Redirects the application's readers to the other side; repeated after a crash.
Redirect = Callable[[], None]
#: Names that an error lists.
_NAMES_SHOWN = 5


def open_target(context: Context, plan: Plan, limits: ReadLimits, redirect: Redirect) -> None:
    """Redirect the reads to the target, from any point where a crash interrupted it. Writes stay on the source.

    :raises Refused: when the run is not verified, or a table is not kept up to date.
    :raises Blocked: when a table of the target may have been written to.
    :raises CutoverAborted: when a row differs, or the target is too far behind; reads are where they were.
    """
    run = context.run()
    refuse_unverified(run)
    if run.reads_phase is ReadsPhase.CLOSING:
        raise Refused("reads are being redirected back to the source", why="this is not finished", fix=_back(run))
    if run.reads_phase is not ReadsPhase.OPEN:
        _prepare(context, plan, limits)
        # Durable together: reads may go to the target from now on, and how far it may be behind.
        with context.fenced("reads.opening") as tx:
            refuse_unverified(runs.get(tx, context.run_id))
            _refuse_writable(tx, context.schema, plan)
            runs.set_reads(tx, context.run_id, context.epoch, ReadsPhase.OPENING, limits.max_staleness)
        failpoint("reads.redirecting")
        redirect()
    elif run.reads_limit == limits.max_staleness:
        context.progress.say("reads go to the target already")
        return
    # Durable: reads go to the target, and how far it may be behind.
    with context.fenced("reads.open") as tx:
        runs.set_reads(tx, context.run_id, context.epoch, ReadsPhase.OPEN, limits.max_staleness)


def redirect_back(context: Context, redirect: Redirect) -> bool:
    """Redirect the reads back to the source, from any point where a crash interrupted it; False when they are there.

    This is possible in every state before a cutover, whatever blocks the run.
    """
    run = context.run()
    if run.reads_phase is None:
        return False
    if run.state == CUTOVER:
        raise Refused(
            "reads are not redirected back to the source: the target takes the writes",
            why="the source is closed, and its rows are older than those of the target",
            fix=Naming(run.target_name).command("rollback"),
        )
    if run.reads_phase is not ReadsPhase.CLOSING:
        # Durable: reads may go to either side.
        with context.fenced("reads.closing") as tx:
            runs.set_reads(tx, context.run_id, context.epoch, ReadsPhase.CLOSING, run.reads_limit)
    failpoint("reads.redirecting_back")
    redirect()
    # Durable: reads go to the source.
    with context.fenced("reads.closed") as tx:
        runs.set_reads(tx, context.run_id, context.epoch, None)
    return True


def to_be_redirected_back(tx: Transaction, run: Run) -> None:
    """After a rollback, in the transaction that records it: the readers may still be on the target."""
    if run.reads_phase is not None:
        runs.set_reads(tx, run.id, run.epoch, ReadsPhase.CLOSING, run.reads_limit)


def refuse_moving(run: Run) -> None:
    """:raises Refused: before a cutover, when the readers may be on either side."""
    if run.reads_phase in MOVING_READS:
        raise Refused(
            "the reads may go to either side",
            why=f"a command stopped in phase {run.reads_phase} of the reads",
            fix=f"{Naming(run.target_name).command(FIRST)}\nor {_back(run)}",
        )


def refuse_below_readers(run: Run, command: str) -> None:
    """:raises Refused: when the command would change tables of the target that the application reads."""
    if run.reads_phase is not None and run.state not in (CUTOVER, *FINAL):
        raise Refused(
            f"{command} is refused while reads go to the target",
            why="it would change tables below their readers",
            fix=_back(run),
        )


def _back(run: Run) -> str:
    return Naming(run.target_name).command(BACK)


# Before the readers are redirected -----------------------------------------------------------------


def _prepare(context: Context, plan: Plan, limits: ReadLimits) -> None:
    _refuse_not_kept(plan, limits)
    refuse_stale(context, plan)
    verify.refuse_changed(context)
    with context.target.transaction(read_only=True) as tx:
        _refuse_writable(tx, context.schema, plan)
    cutover.synchronise(context, plan, changed_keys.hashing_of(context, plan))
    materialized_views.refresh_for_readers(context, plan)
    _wait_until_fresh(context, plan, limits)


def _refuse_not_kept(plan: Plan, limits: ReadLimits) -> None:
    """:raises Refused: when something in the target has the rows of its copy until the cutover."""
    names = [str(t.target) for t in plan.tables if t.recopied]
    names += ["the large objects"] if plan.large_objects else []
    if names and not limits.accept_stale:
        raise Refused(
            "part of the target is not kept up to date until the cutover",
            why=f"no pass applies changes to {some(names, _NAMES_SHOWN)}",
            fix="if no reader needs their changes: --accept-stale; otherwise a key for these tables,"
            " and `migrate --restart-table`",
        )


def _refuse_writable(tx: Transaction, schema: str, plan: Plan) -> None:
    """:raises Blocked: when the target does not reject every write to the tables of the plan."""
    write_block.refuse_damaged(tx, schema, "target")
    open_ = write_block.lacking(tx, schema, [t.target for t in plan.tables])
    if open_ or not write_block.is_blocked(tx, schema):
        raise Blocked(
            "the target accepts writes",
            why=f"no write block on {some([str(ref) for ref in open_], _NAMES_SHOWN) or 'its tables'}",
            fix="find out what wrote there; then restore the write block and compare every row",
            step="verify --again",
        )


def _wait_until_fresh(context: Context, plan: Plan, limits: ReadLimits) -> None:
    """Apply changes until the target is no further behind than its readers accept.

    :raises CutoverAborted: when it still is after the time for that.
    """
    deadline = time.monotonic() + limits.give_up_after
    while True:
        follow.drain(context, plan, record_changed=True)
        with context.target.transaction(read_only=True) as tx:
            behind = catch_up.staleness(tx, context.run_id)
        if behind is not None and behind <= limits.max_staleness:
            return
        if time.monotonic() >= deadline:
            raise CutoverAborted(
                "reads are not opened: the target is too far behind",
                why=f"by up to {behind or 0:.0f} s, --max-staleness is {limits.max_staleness:g} s",
                fix="reads still go to the source; retry when there is less load, or accept more with --max-staleness",
            )
        context.checkpoint()
