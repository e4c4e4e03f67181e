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
from confiture.journal import deferred_objects, runs, steps
from confiture.journal import source as run_schema
from confiture.journal.verifications import Difference
from confiture.plan.planner import Plan
from confiture.pooler import Pooler
from confiture.postgres.budget import Budget
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction, brief_lock
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.schema_to_schema import (
    cutover,
    follow,
    foreign_keys,
    materialized_views,
    rebuild,
    reverse_verify,
    sequences,
    suspended_objects,
    switchover,
    table_lock,
)
from confiture.schema_to_schema import reverse as going_home
from confiture.schema_to_schema.blockers import outwait
from confiture.schema_to_schema.table_lock import Limits, Tables, Work
from confiture.states import CUTOVER

#: Phases of a rollback begin with this in the journal.
PHASE = switchover.BACK.prefix


def is_halfway(context: Context) -> bool:
    """Whether the target takes no writes any more: only forward from here."""
    return switchover.is_closed(context, switchover.BACK)


def rollback(context: Context, plan: Plan, limits: Limits, gate: Pooler | None = None) -> None:
    """The whole way back, from wherever a crash left it; the run is ``migrating`` again.

    :param gate: what the application's connections pass through; None where they are the application's own affair.
    :raises CutoverAborted: before the point of no return; the target is still serving.
    :raises Refused: when a table has no way back.
    """
    if not is_halfway(context):
        refuse(context, plan)
        refuse_unequal(context, plan)
        hashing = changed_keys.hashing_of(context, plan)
        cutover.set_phase(context, PHASE + "preparing")
        _prepare(context, plan, hashing)
        try:
            with ReverseFollower(context, plan) as follower:
                follow.one_pass(follower, touch=True)
                with switchover.held(context, gate, limits, switchover.BACK) as left:
                    cutover.set_phase(context, PHASE + "closing")
                    try:
                        _close(follower, plan, hashing, left)
                    except (psycopg.Error, CannotConnect) as error:
                        if not switchover.passed(context, switchover.BACK, error):
                            raise
        except CutoverAborted:
            cutover.set_phase(context, "done")
            raise
    with switchover.only_forward(switchover.BACK):
        _finish(context, plan)
        retry(lambda: switchover.lead(context, gate, switchover.BACK))
    switchover.refuse_left(context, switchover.BACK)
    _settle(context, plan)


def refuse(context: Context, plan: Plan) -> None:
    """:raises Refused: when a rollback would lose something: no way back, an open source, passes that are lost."""
    going_home.refuse_no_way(plan)
    going_home.refuse_open_source(context)
    reverse_apply.refuse_behind(context)


def refuse_for_verify(context: Context, plan: Plan) -> None:
    """:raises Refused: when comparing for a rollback says nothing: no way back, or passes that are lost."""
    going_home.refuse_no_way(plan)
    reverse_apply.refuse_behind(context)


def refuse_unequal(context: Context, plan: Plan) -> None:
    """Compare every row first where something may have changed rows that no reverse pass has seen.

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
            why=f"{len(found.differences)} differences, the first: {found.differences[0].place}",
            fix="the target is still serving; list them with `verify`, apply the target's rows with `verify --repair`",
        )


def _prepare(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Bring home and compare, until few keys are left for the lock.

    :raises CutoverAborted: when a row that came home is not what the target has.
    """
    for _ in range(changed_keys.ROUNDS):
        going_home.drain(context, plan)
        left = 0
        for table in plan.tables:
            left += _compare(context, plan, RunTable(table, context.schema), hashing)
        if left <= changed_keys.FEW_KEYS:
            return


def _compare(context: Context, plan: Plan, job: RunTable, hashing: Hashing) -> int:
    """Compare the keys brought home, and forget those that agree; how many are left."""
    judge = reverse_verify.judge(context, plan, job, hashing)
    left = changed_keys.discard_equal(context, job, hashing, judge)
    if left:
        found = changed_keys.compare(context, job, hashing, context.check_lease, judge)
        # What was seen there had its log row taken before; only our passes take them.
        if _at_rest(context, job):
            _refuse_differences(found)
    return len(left)


def _at_rest(context: Context, job: RunTable) -> bool:
    """Whether nothing of the table waits to be brought home."""
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


def _close(follower: ReverseFollower, plan: Plan, hashing: Hashing, left: switchover.Left) -> None:
    context = follower.context
    with context.beside("rollback", side="target") as locker, context.beside("opening") as opener:
        work = Work(
            before=partial(cutover.drain, follower),
            opening=partial(_begin_opening, context, opener),
            act=partial(_act, follower, plan, hashing),
        )
        table_lock.locked(context, locker, target_tables(context, plan), left.limits, work, left.until)


def target_tables(context: Context, plan: Plan) -> Tables:
    """What a rollback locks."""
    refs = tuple(t.target for t in plan.tables)
    names = sql.SQL(", ").join(sql.Identifier(r.schema, r.name) for r in refs)
    return Tables("target", refs, names, lambda tx: runs.fence(tx, context.run_id, context.epoch), "rollback")


def _begin_opening(context: Context, opener: Session, stack: ExitStack) -> Transaction:
    """The source's transaction, begun before the lock."""
    opening = stack.enter_context(opener.transaction())
    run_schema.fence(opening, context.schema, context.epoch)
    return opening


def _act(
    follower: ReverseFollower,
    plan: Plan,
    hashing: Hashing,
    target: Transaction,
    opening: Transaction | None,
    budget: Budget,
) -> None:
    """Under the target's lock: make both sides equal, prepare the source's opening, close the target."""
    context = follower.context
    assert opening is not None
    cutover.apply_last(follower, target)
    for job in changed_keys.only(context, (RunTable(t, context.schema) for t in plan.tables)):
        judge = reverse_verify.judge(context, plan, job, hashing)
        _refuse_differences(changed_keys.compare(context, job, hashing, context.check_lease, judge))
    _sequences_home(context, plan)
    with table_lock.prepared(budget, opening, "source", [t.source for t in plan.tables]):
        open_source(context, opening)
    failpoint("rollback.opening_prepared")
    hint = f"the old database is serving again: {context.source.database.public}"
    write_block.block(target, context.schema, "this database no longer takes writes", hint)
    failpoint("rollback.before_point_of_no_return")


def open_source(context: Context, source: Transaction) -> None:
    """User triggers enabled, declared foreign keys beside their substitutes, writes unblocked: catalog changes only."""
    going_home.restore_source(context, source)
    write_block.unblock(source, context.schema)


def rehearse_opening(context: Context) -> None:
    """Do what the opening of the source does, and roll it back."""
    with context.source.rehearsal() as tx:
        run_schema.fence(tx, context.schema, context.epoch)
        brief_lock(tx)
        open_source(context, tx)


def prepare(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Everything of a rollback that can be done at any time, for its rehearsal."""
    refuse(context, plan)
    refuse_unequal(context, plan)
    _prepare(context, plan, hashing)


def _sequences_home(context: Context, plan: Plan) -> None:
    turned = replace(plan, sequences=plan.back_sequences)
    with context.fenced_source() as tx:
        sequences.set_all(context.target, tx, turned, margin=cutover.SEQUENCE_MARGIN)


def _finish(context: Context, plan: Plan) -> None:
    """Open the source where its opening did not commit with the target's closing; then record that it is open."""
    tables = [t.source for t in plan.tables]
    outwait(context, "source", tables, partial(_open_source, context), grace=cutover.GRACE_SECONDS)
    retry(lambda: cutover.set_phase(context, PHASE + "opened", writes_served_by="source"))


def _open_source(context: Context) -> None:
    with context.fenced_source() as tx:  # triggers, keys and write block change together
        if write_block.is_blocked(tx, context.schema):
            brief_lock(tx)
            open_source(context, tx)
            failpoint("rollback.before_open_commit")
    failpoint("rollback.after_open_commit")


def _settle(context: Context, plan: Plan) -> None:
    """The source's keys as declared; the target as it was while it was being filled; then the state."""
    going_home.settle_source(context)
    with context.target.transaction(read_only=True) as tx:
        taken = [d for d in deferred_objects.of_run(tx, context.run_id) if d.status == "back"]
    for item in reversed(deferred_objects.in_order(taken)):
        if item.kind in ("foreign_key", *deferred_objects.SUSPENDED):
            with context.fenced() as tx:
                _off_again(context, tx, item)
                failpoint("rollback.settle.before_commit")
    with context.fenced() as tx:
        run = runs.get(tx, context.run_id)
        if run.state != CUTOVER:
            return  # done by a commit whose answer was lost
        rebuild.record_target(context, tx, plan)
        steps.discard(tx, context.run_id, materialized_views.PHASE)
        transitions.fire(tx, run, "rollback")
        runs.update(tx, context.run_id, writes_served_by="source", cutover_phase=None)
        failpoint("rollback.state.before_commit")
    failpoint("rollback.state.after_commit")


def _off_again(context: Context, tx: Transaction, item: deferred_objects.Deferred) -> None:
    if item.kind in deferred_objects.SUSPENDED:
        suspended_objects.disable(tx, item)
        deferred_objects.set_status(tx, context.run_id, item, "off")
    else:
        foreign_keys.relax(tx, item)
        if (item.detail or {}).get("validated") and item.interim is not None:
            foreign_keys.validate(tx, item)
        deferred_objects.set_status(tx, context.run_id, item, "interim")
