"""rollback: a cutover in the other direction, while the application writes to the target.

Apply in reverse, lock, apply the last changes, compare, close the target, open the source. The source's opening is
prepared before the target's closing commits, which is the point of no return. Where a rollback stands is read from the
databases, never from a record (docs/invariants.md, I-8.8 and I-10.3).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import psycopg
from psycopg import sql

from confiture.capture import reverse_apply, write_block
from confiture.capture.reverse_apply import ReverseFollower
from confiture.compare import changed_keys
from confiture.compare.checksum import Hashing
from confiture.copy.run_table import RunTable
from confiture.errors import CannotConnect, CutoverAborted
from confiture.failpoints import failpoint
from confiture.journal import catch_up, deferred_objects, runs, steps
from confiture.journal import source as run_schema
from confiture.journal.model import SUSPENDED, Deferred, DeferredForeignKey, DeferredStatus, Difference
from confiture.plan.model import Plan
from confiture.pooler import Pooler
from confiture.postgres.budget import Budget
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction, brief_lock
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.schema_to_schema import (
    cutover,
    follow,
    large_objects,
    materialized_views,
    reads,
    rebuild,
    reverse,
    reverse_verify,
    sequences,
    switchover,
    table_lock,
)
from confiture.schema_to_schema.blockers import wait_for_locks
from confiture.schema_to_schema.deferred_objects import foreign_keys, take_off
from confiture.schema_to_schema.outcomes import Limits
from confiture.schema_to_schema.stopwatch import Stopwatch
from confiture.schema_to_schema.switchover import REVERSE, Remaining
from confiture.schema_to_schema.table_lock import Tables, Work
from confiture.states import CUTOVER, CutoverPhase
from confiture.types import counted


def rollback(context: Context, plan: Plan, limits: Limits, pooler: Pooler | None = None) -> None:
    """The whole rollback, from any point where a crash interrupted it; the run is ``migrating`` again.

    :param pooler: those in front of the application; None when the operator redirects the application.
    :raises CutoverAborted: before the point of no return; the target is still serving.
    :raises Refused: when a table has no reverse mapping.
    """
    watch = Stopwatch()
    if not switchover.is_past_point_of_no_return(context, REVERSE):
        refuse(context, plan)
        refuse_unequal(context, plan)
        hashing = changed_keys.hashing_of(context, plan)
        cutover.set_phase(context, CutoverPhase.ROLLBACK_PREPARING)
        with cutover.phase_after_failure(context, REVERSE):
            _prepare(context, plan, hashing)
            with ReverseFollower(context, plan) as follower:
                follow.one_pass(follower, record_changed=True)
                with switchover.paused(context, pooler, limits, REVERSE, watch) as remaining:
                    cutover.set_phase(context, CutoverPhase.ROLLBACK_CLOSING)
                    try:
                        _close(follower, plan, hashing, remaining, watch)
                    except (psycopg.Error, CannotConnect) as error:
                        if not switchover.was_passed_despite(context, REVERSE, error):
                            raise
    with switchover.unfinished_on_lost_connection(REVERSE):
        _complete_opening(context, plan)
        switchover.resume(context, pooler, REVERSE, watch, limits)
    switchover.refuse_paused_poolers(context, REVERSE)
    _return_to_migrating(context, plan)


def refuse(context: Context, plan: Plan) -> None:
    """:raises Refused: when a rollback would lose writes: no reverse mapping, an open source, lost passes."""
    reverse.refuse_irreversible(plan)
    reverse.refuse_open_source(context)
    reverse_apply.refuse_behind(context)


def refuse_for_verify(context: Context, plan: Plan) -> None:
    """:raises Refused: when a comparison for a rollback has no meaning: no reverse mapping, or lost passes."""
    reverse.refuse_irreversible(plan)
    reverse_apply.refuse_behind(context)


def refuse_unequal(context: Context, plan: Plan) -> None:
    """Compare every row first when rows may have changed without a reverse pass recording it.

    :raises CutoverAborted: when source and target differ; the target is still serving.
    """
    stale = reverse_verify.why_stale(context)
    if stale is None:
        return
    context.progress.say(f"comparing every row before the rollback: {stale}")
    found = reverse_verify.compare(context, plan)
    if not found.equal:
        raise CutoverAborted(
            "rollback aborted: source and target differ",
            why=f"{counted(len(found.differences), 'difference')}, the first: {found.differences[0].place}",
            fix="the target is still serving; list them with `verify`, apply the target's rows with `verify --repair`",
        )


def _prepare(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Apply changes in reverse and compare them, until few keys remain for the lock.

    :raises CutoverAborted: when a row that was applied in reverse differs from the target's.
    """
    large_objects.synchronise_back(context, plan)
    for _ in range(changed_keys.ROUNDS):
        reverse.drain(context, plan)
        left = 0
        for table in plan.tables:
            left += _compare(context, plan, RunTable(table, context.schema), hashing)
        if left <= changed_keys.FEW_KEYS:
            return


def _compare(context: Context, plan: Plan, job: RunTable, hashing: Hashing) -> int:
    """Compare the keys applied in reverse, and discard those that are equal; how many remain."""
    judge = reverse_verify.judge(context, plan, job, hashing)
    left = changed_keys.discard_equal(context, job, hashing, judge)
    if left:
        found = changed_keys.compare(context, job, hashing, context.check_lease, judge)
        # With an empty log, a difference cannot be a change that is still to be applied.
        if _at_rest(context, job):
            _refuse_differences(found)
    return len(left)


def _at_rest(context: Context, job: RunTable) -> bool:
    """Whether the table has no change that is still to be applied in reverse."""
    log = sql.Identifier(context.schema, f"log{job.table.number:04d}")
    with context.target.transaction(read_only=True) as tx:
        return tx.pg.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(log)).fetchone() is None


def _refuse_differences(found: list[Difference]) -> None:
    if found:
        raise CutoverAborted(
            "rollback aborted: the source would not match the target",
            why=f"the first: {found[0].place}",
            fix="the target is still serving; fix `reverse:` of that column, or that row",
        )


def _close(follower: ReverseFollower, plan: Plan, hashing: Hashing, remaining: Remaining, watch: Stopwatch) -> None:
    context = follower.context
    with context.beside("rollback", side="target") as locker, context.beside("opening") as opener:
        work = Work(
            before=partial(cutover.drain, follower),
            opening=partial(_begin_opening, context, opener),
            act=partial(_act, follower, plan, hashing, watch),
            sessions=(follower.source, follower.target),
            watch=watch,
        )
        table_lock.locked(context, locker, target_tables(context, plan), remaining.limits, work, remaining.until)


def target_tables(context: Context, plan: Plan) -> Tables:
    """The tables that a rollback locks."""
    refs = tuple(t.target for t in plan.tables)
    names = sql.SQL(", ").join(r.identifier for r in refs)
    what = Tables("target", refs, names, lambda tx: runs.fence(tx, context.run_id, context.epoch), "rollback")
    with context.target.transaction(read_only=True) as tx:
        return large_objects.with_lock(what, tx, plan)


def _begin_opening(context: Context, opener: Session, stack: ExitStack) -> Transaction:
    """Begin the source's transaction before the target is locked."""
    opening = stack.enter_context(opener.transaction())
    run_schema.fence(opening, context.schema, context.epoch)
    return opening


def _act(
    follower: ReverseFollower,
    plan: Plan,
    hashing: Hashing,
    watch: Stopwatch,
    target: Transaction,
    opening: Transaction | None,
    budget: Budget,
) -> None:
    """Under the target's lock: synchronise both sides, prepare the source's opening, close the target."""
    context = follower.context
    assert opening is not None
    cutover.apply_last(follower, target)
    watch.lap("apply the last changes")
    for job in changed_keys.only(context, (RunTable(t, context.schema) for t in plan.tables)):
        judge = reverse_verify.judge(context, plan, job, hashing)
        _refuse_differences(changed_keys.compare(context, job, hashing, context.check_lease, judge))
    watch.lap("compare the changed keys")
    if plan.large_objects is not None:
        large_objects.synchronise_back(context, plan, target)
        watch.lap("compare the large objects")
    number = _last_commit_on_source(context, plan, target)
    watch.lap("set the sequences")
    with table_lock.prepared(budget, opening, "source", [t.source for t in plan.tables]):
        open_source(context, opening)
    watch.lap("open the source")
    failpoint("rollback.opening_prepared")
    hint = f"the source is serving again: {context.source.database.public}"
    write_block.block(target, context.schema, "this database no longer takes writes", hint)
    catch_up.record_reverse(target, context.run_id, number)
    watch.lap("close the target")
    failpoint("rollback.before_point_of_no_return")


def open_source(context: Context, source: Transaction) -> None:
    """Restore suspended objects, add the declared foreign keys beside their interims, permit writes.

    These are catalog changes only.
    """
    reverse.restore_source(context, source)
    write_block.unblock(source, context.schema)


def rehearse_opening(context: Context) -> None:
    """Open the source, and roll that back."""
    with context.source.rehearsal() as tx:
        run_schema.fence(tx, context.schema, context.epoch)
        brief_lock(tx)
        open_source(context, tx)


def prepare(context: Context, plan: Plan, hashing: Hashing) -> None:
    """The part of a rollback that is possible at any time, for its rehearsal."""
    refuse(context, plan)
    refuse_unequal(context, plan)
    _prepare(context, plan, hashing)


def _last_commit_on_source(context: Context, plan: Plan, target: Transaction) -> int:
    """Set the source's sequences, and record the number of the closing there; the number.

    :param target: the transaction that closes the target and records the number there.
    """
    inverse = replace(plan, sequences=plan.reverse_sequences)
    known = catch_up.last_reverse(target, context.run_id)
    # Durable whether or not this commits: the values of the sequences. Harmless while the target is serving.
    # Durable: the number of the closing. It is the last commit of the source before the target is closed, so that a
    # source that has it has lost nothing.
    with context.fenced_source("rollback.numbered") as tx:
        sequences.set_all(context.target, tx, inverse, margin=cutover.SEQUENCE_MARGIN)
        return reverse_apply.count_pass(target, tx, context.schema, known)


def _complete_opening(context: Context, plan: Plan) -> None:
    """Open the source when its prepared opening did not commit; then record that it is open.

    :raises Blocked: when the source has lost changes.
    """
    if switchover.lacks_closing(context, REVERSE):
        raise switchover.lost_closing(REVERSE)
    tables = [t.source for t in plan.tables]
    wait_for_locks(context, "source", tables, partial(_open_source, context), grace=cutover.GRACE_SECONDS)
    retry(lambda: cutover.set_phase(context, CutoverPhase.ROLLBACK_OPENED, writes_served_by="source"))


def _open_source(context: Context) -> None:
    # Durable together: suspended objects, foreign keys and write block.
    with context.fenced_source("rollback.open") as tx:
        if write_block.is_blocked(tx, context.schema):
            brief_lock(tx)
            open_source(context, tx)


def reopen_target(context: Context) -> None:
    """Open the target again after a rollback that closed it: the source lost changes and cannot be opened."""
    # Durable together: a write block that permits writes, that the target is serving, and why no rollback is possible.
    with context.fenced("rollback.reopen") as tx:
        write_block.unblock(tx, context.schema)
        runs.update(tx, context.run_id, writes_served_by="target", cutover_phase=CutoverPhase.DONE)
        reason = "the source has lost changes since the cutover: a rollback is no longer possible"
        runs.block(tx, context.run_id, context.epoch, reason, "cleanup")
    context.progress.say("the target accepts writes again; the source has lost changes")


def _return_to_migrating(context: Context, plan: Plan) -> None:
    """Declare the source's keys, take off and relax the target's objects as during the copy, then change the state."""
    reverse.drop_source_interims(context)
    with context.target.transaction(read_only=True) as tx:
        taken = [d for d in deferred_objects.of_run(tx, context.run_id) if d.status is DeferredStatus.BACK]
    for item in reversed(deferred_objects.in_order(taken)):
        if isinstance(item, (DeferredForeignKey, *SUSPENDED)):
            wait_for_locks(context, "target", item.tables, partial(_off_again, context, item))
    # Durable together: the state, the fingerprint of the target, and that the source is serving.
    with context.fenced("rollback.state") as tx:
        run = runs.get(tx, context.run_id)
        if run.state != CUTOVER:
            return  # an earlier commit, whose response was lost, has done this
        rebuild.record_target(context, tx, plan)
        steps.discard(tx, context.run_id, materialized_views.PHASE)
        transitions.fire(tx, run, "rollback")
        runs.update(tx, context.run_id, writes_served_by="source", cutover_phase=None)
        reads.to_be_redirected_back(tx, run)
        # Whatever blocked the run was checked again before the target was closed.
        runs.unblock(tx, context.run_id)


def _off_again(context: Context, item: Deferred) -> None:
    # Durable together: the object and its status.
    with context.fenced("rollback.relax") as tx:
        brief_lock(tx)
        if isinstance(item, DeferredForeignKey):
            foreign_keys.relax(tx, item)
            if item.validated and item.interim is not None:
                foreign_keys.validate_interim(tx, item)
            deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.INTERIM)
        else:
            take_off(tx, item)
            deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.OFF)
