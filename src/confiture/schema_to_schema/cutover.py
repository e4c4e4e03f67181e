"""cutover while the application writes: lock, drain, compare what changed last, close the source, open the target.

The opening is prepared in a transaction of the target that stays uncommitted while the source's closing commits, so
that nothing after the point of no return can wait or fail. Where a run stands is read from the databases, never from a
record (docs/invariants.md, I-8.8 and I-8.9).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import psycopg
from psycopg import sql

from confiture import fingerprint
from confiture.capture import apply, triggers, write_block
from confiture.capture.apply import Followed, Follower
from confiture.compare import changed_keys, suspects
from confiture.compare.checksum import Hashing
from confiture.compare.suspects import Key
from confiture.copy.run_table import RunTable
from confiture.errors import CannotConnect, CutoverAborted, CutoverUnfinished
from confiture.failpoints import failpoint
from confiture.journal import deferred_objects, runs
from confiture.journal.deferred_objects import Deferred
from confiture.journal.runs import Run
from confiture.journal.verifications import Difference
from confiture.plan.planner import Plan
from confiture.pooler import Pooler
from confiture.postgres.budget import Budget
from confiture.postgres.retry import LOCK_CONFLICTS, retry
from confiture.postgres.session import Session, Transaction, brief_lock
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.schema_to_schema import (
    follow,
    foreign_keys,
    keyless,
    materialized_views,
    reverse,
    reverse_verify,
    sequences,
    suspended_objects,
    switchover,
    table_lock,
    verify,
)
from confiture.schema_to_schema.blockers import outwait
from confiture.schema_to_schema.cutover_offline import refuse_stale, source_tables
from confiture.schema_to_schema.rebuild import waits
from confiture.schema_to_schema.table_lock import Limits, TryAgain, Work
from confiture.states import CUTOVER
from confiture.types import TableRef

#: Values a sequence is set ahead, because reading it is not transactional.
SEQUENCE_MARGIN = 100
#: Log rows that may be applied under the lock; with more the lock is released and the log drained first.
MOST_UNDER_LOCK = 10_000
#: Seconds that readers may block the opening of the target once the source is closed; then their sessions are ended.
GRACE_SECONDS = 10.0


def is_closed(context: Context) -> bool:
    """Whether the source takes no writes any more: the point of no return is passed."""
    return switchover.is_closed(context, switchover.FORTH)


def switch(context: Context, plan: Plan, limits: Limits, gate: Pooler | None = None) -> None:
    """The whole cutover, from wherever a crash left it.

    :param gate: what the application's connections pass through; None where they are the application's own affair.
    :raises CutoverAborted: before the point of no return; the source is still serving.
    """
    if not is_closed(context):
        refuse_stale(context, plan)
        verify.refuse_changed(context)
        hashing = changed_keys.hashing_of(context, plan)
        set_phase(context, "preparing")
        try:
            prepare(context, plan, hashing, limits)
            servers = verify.servers(context)
            # Its sessions are open and warm before the application waits for the lock.
            with Follower(context, apply.followed(context, plan)) as follower:
                follow.one_pass(follower, touch=True)
                for job in (j for f in follower.followed for j in f.jobs):
                    changed_keys.discard_equal(context, job, hashing)
                with switchover.held(context, gate, limits, switchover.FORTH) as left:
                    set_phase(context, "closing")
                    try:
                        _close(follower, plan, hashing, left, servers)
                    except (psycopg.Error, CannotConnect) as error:
                        if not switchover.passed(context, switchover.FORTH, error):
                            raise
        except CutoverAborted:
            set_phase(context, None)
            raise
    with switchover.only_forward(switchover.FORTH):
        finish(context, plan)
        retry(lambda: switchover.lead(context, gate, switchover.FORTH))
    # The target is serving: what follows may wait, and the same command continues.
    settle_keys(context, plan)
    reverse.prepare_source(context, plan)
    retry(lambda: set_phase(context, "done"))
    materialized_views.refresh(context, plan)
    switchover.refuse_left(context, switchover.FORTH)


def _close(follower: Follower, plan: Plan, hashing: Hashing, left: switchover.Left, servers: dict[str, str]) -> None:
    context = follower.context
    with context.beside("cutover") as locker, context.beside("opening", side="target") as opener:
        work = Work(
            before=partial(drain, follower),
            opening=partial(_begin_opening, context, opener),
            # The run is read before the lock: its plan is large where there are many tables.
            act=partial(_act, follower, plan, hashing, servers, context.run()),
        )
        table_lock.locked(context, locker, source_tables(context, plan), left.limits, work, left.until)


def drain(follower: Follower) -> None:
    """Apply what was logged while the lock was waited for."""
    while follow.one_pass(follower, touch=True).keys > follow.SMALL_BACKLOG:
        follower.context.check_lease()


def _begin_opening(context: Context, opener: Session, stack: ExitStack) -> Transaction:
    """The target's transaction, begun before the lock: its own first lock cancels autovacuum and blocks no writer."""
    opening = stack.enter_context(opener.transaction())
    runs.fence(opening, context.run_id, context.epoch)
    brief_lock(opening)
    tables = _acted_on(opening, context)
    if tables:
        names = sql.SQL(", ").join(sql.Identifier(r.schema, r.name) for r in tables)
        try:
            opening.pg.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(names))
        except LOCK_CONFLICTS as error:
            raise TryAgain("the target's tables could not be locked", "target", tables) from error
    # Once more before the lock, because the first look of a session at a thousand tables takes twice as long.
    _check_target(context, opening)
    return opening


def _check_target(context: Context, opening: Transaction) -> None:
    kinds = (*fingerprint.APPLIED, fingerprint.STORAGE, fingerprint.WRITE_BLOCK)
    fingerprint.refuse_changed(opening, context.schema, "target", kinds)


def _acted_on(tx: Transaction, context: Context) -> list[TableRef]:
    """The target tables that the opening changes."""
    kinds = ("foreign_key", "trigger")
    found = deferred_objects.of_run(tx, context.run_id)
    return sorted({d.table for d in found if d.kind in kinds and d.status != "back"})


def _act(
    follower: Follower,
    plan: Plan,
    hashing: Hashing,
    servers: dict[str, str],
    run: Run,
    source: Transaction,
    opening: Transaction | None,
    budget: Budget,
) -> None:
    """Under the lock: make both sides equal, prepare the opening, close the source; the caller commits."""
    context = follower.context
    assert opening is not None
    _equalise(follower, plan, hashing, source)
    with table_lock.prepared(budget, opening, "target", [t.target for t in plan.tables]):
        _check_target(context, opening)
        open_target(context, opening, plan, run, servers)
    failpoint("switch.opening_prepared")
    served = f"its data is served by: {context.target.database.public}"
    write_block.block(source, context.schema, "this database no longer takes writes", served)
    failpoint("switch.before_point_of_no_return")


def set_phase(context: Context, name: str | None, **values: object) -> None:
    """Record the phase for ``status`` only. Recovery reads the real state from the databases."""
    with context.fenced() as tx:
        runs.update(tx, context.run_id, cutover_phase=name, **values)
        failpoint("switch.phase.before_commit")


def prepare(context: Context, plan: Plan, hashing: Hashing, limits: Limits) -> None:
    """Everything that can be done before anything is locked: triggers on both sides, drain, compare, rehearse.

    :raises CutoverAborted: when a row differs, or sessions keep the locks that this needs.
    """
    reverse.install(context, plan)
    prepare_block(context, plan, limits)
    equalise(context, plan, hashing)
    rehearse_opening(context, plan, limits)


def prepare_block(context: Context, plan: Plan, limits: Limits) -> None:
    """The write block's triggers on the source, table by table; they let writes pass until the closing.

    :raises CutoverAborted: when sessions keep the locks that this needs; the source is still serving.
    """
    with context.fenced_source() as tx:
        if not write_block.exists(tx, context.schema):
            write_block.unblock(tx, context.schema)
        failpoint("switch.block.before_commit")
    with context.source.transaction(read_only=True) as tx:
        lacking = write_block.lacking(tx, context.schema, _sources(plan))
    deadline = time.monotonic() + limits.give_up_after
    for ref in lacking:
        work = partial(_install_block, context, ref)
        table_lock.within(context, "source", [ref], limits, deadline, work, readers=False)


def _install_block(context: Context, table: TableRef) -> None:
    with context.fenced_source() as tx:
        brief_lock(tx)
        write_block.install(tx, context.schema, table)
        failpoint("switch.block_table.before_commit")


def equalise(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Catch up and compare what changed, until little of it is left.

    :raises CutoverAborted: when a row differs.
    """
    apply.refuse_behind(context)
    follow.drain(context, plan, touch=True)
    _settle_touched(context, plan, hashing)
    follow.drain(context, plan, touch=True)


def rehearse_opening(context: Context, plan: Plan, limits: Limits) -> None:
    """Do what the opening does, and roll it back: what would fail fails here.

    :raises CutoverAborted: when sessions keep the locks that this needs.
    """
    tables = [t.target for t in plan.tables]
    deadline = time.monotonic() + limits.give_up_after
    work = partial(_rehearse_opening, context, plan)
    table_lock.within(context, "target", tables, limits, deadline, work, readers=True)


def _rehearse_opening(context: Context, plan: Plan) -> None:
    with context.target.rehearsal() as tx:
        runs.fence(tx, context.run_id, context.epoch)
        run = runs.get(tx, context.run_id)
        brief_lock(tx)
        open_target(context, tx, plan, run)


def _settle_touched(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Compare the keys that changed since their rows were verified, until few are left for the lock.

    Writes go on and touch more: each round takes less time than the one before, so fewer are left.
    A row that is ahead of the target agrees in a later round; one that differs while its source stands
    still is a suspect.
    """
    jobs = [(f, job) for f in apply.followed(context, plan) for job in f.jobs]
    before: dict[int, changed_keys.Hashes] = {}
    for _ in range(changed_keys.ROUNDS):
        wrong = {job.table.number: changed_keys.discard_equal(context, job, hashing) for _, job in jobs}
        for followed, job in jobs:
            now, then = wrong[job.table.number], before.get(job.table.number, {})
            stuck = [k for k, source in now.items() if k in then and then[k] == source]
            _refuse_stuck(context, plan, job, hashing, followed, stuck)
        few = sum(len(keys) for _, job in jobs for keys in changed_keys.batches(context, job)) <= changed_keys.FEW_KEYS
        if few and (before or not any(wrong.values())):
            return
        before = wrong
        follow.single(context, plan)


def _refuse_stuck(
    context: Context, plan: Plan, job: RunTable, hashing: Hashing, followed: Followed, keys: Sequence[Key]
) -> None:
    if keys:
        verdict = suspects.classify(
            context.source, context.target, job, hashing, followed, keys, lambda: follow.single(context, plan)
        )
        _refuse_differences(verdict.confirmed)


def _refuse_differences(found: Sequence[Difference]) -> None:
    if found:
        raise CutoverAborted(
            "cutover aborted: source and target differ",
            why=f"{len(found)} among the rows that changed last, the first: {found[0].subject} {found[0].key}",
            fix="the source is still serving; compare with `verify --again`, repair with `verify --repair`",
        )


def apply_last(follower: Follower, locked: Transaction) -> None:
    """Apply what is logged to tables that this transaction has locked: one pass takes everything.

    :raises TryAgain: when too much was logged since the last pass.
    """
    # The tables are locked: no other log gets a row. The follower's session has planned queries of the logs before.
    items = [f.item for f in follower.waiting()]
    if triggers.waiting(locked, items, MOST_UNDER_LOCK) > MOST_UNDER_LOCK:
        raise TryAgain("too many changes are waiting")
    follower.catch_up(touch=True)


def _equalise(follower: Follower, plan: Plan, hashing: Hashing, source: Transaction) -> None:
    """Under the lock: apply what is logged, compare the keys changed last, set the sequences.

    :raises TryAgain: when too much was logged since the last pass.
    :raises CutoverAborted: when a row differs.
    """
    context = follower.context
    apply_last(follower, source)
    for job in changed_keys.only(context, (j for f in follower.followed for j in f.jobs)):
        _refuse_differences(changed_keys.compare(context, job, hashing, context.check_lease))
    keyless.recopy(context, plan, hashing)
    if not follower.followed:
        fingerprint.refuse_changed(source, context.schema, "source", (*fingerprint.CAPTURED, *fingerprint.DATABASE))
    with context.fenced() as tx:
        sequences.set_all(context.source, tx, plan, margin=SEQUENCE_MARGIN)


def _sources(plan: Plan) -> list[TableRef]:
    return list(dict.fromkeys(t.source for t in plan.tables))


def finish(context: Context, plan: Plan) -> None:
    """Open the target once the source is closed, where the opening did not commit with the closing.

    Sessions that block it are named, and ended after a grace period: until the target opens, neither database takes
    writes.

    :raises CutoverUnfinished: when the source is not closed after all.
    """
    if not is_closed(context):
        raise CutoverUnfinished(
            "the target is not opened",
            why="the source still takes writes; both are never open",
            fix="run the same command again, then look at the source's triggers",
        )
    outwait(context, "target", [t.target for t in plan.tables], partial(_finish, context, plan), grace=GRACE_SECONDS)


def _finish(context: Context, plan: Plan) -> None:
    with context.fenced() as tx:  # foreign keys, triggers, write block and state change together
        run = runs.get(tx, context.run_id)
        if run.state == CUTOVER:
            return
        brief_lock(tx)
        open_target(context, tx, plan, run)
        failpoint("switch.before_open_commit")
    failpoint("switch.finished")


def open_target(context: Context, tx: Transaction, plan: Plan, run: Run, servers: dict[str, str] | None = None) -> None:
    """Declared foreign keys beside their substitutes, user triggers enabled, writes unblocked: catalog changes only.

    :param servers: this life of both servers, where every row is known to be equal; None where it is not known.
    """
    for item in deferred_objects.of_run(tx, context.run_id, "foreign_key"):
        if item.status == "interim" and item.interim is not None:
            foreign_keys.declare(tx, item)
        elif item.status == "off" and waits(plan, item):
            keyless.declare(tx, item)
            deferred_objects.set_status(tx, context.run_id, item, "interim")
    off = [item for item in deferred_objects.suspended(tx, context.run_id) if item.status != "back"]
    for item in off:
        suspended_objects.enable(tx, item)
    checks = [item.table for item in off if item.kind == "check"]
    if checks:
        # A constraint NOT VALID that returns may be NOT NULL, which is a fact of its column.
        fingerprint.record(tx, context.schema, fingerprint.roots_of(tx, checks), (fingerprint.COLUMNS,))
    deferred_objects.set_all_statuses(tx, context.run_id, deferred_objects.SUSPENDED, "back")
    write_block.unblock(tx, context.schema)
    transitions.fire(tx, run, "cutover", {"live": True})
    options = {k: v for k, v in run.options.items() if k != reverse_verify.OPTION}
    if servers is not None:
        options[reverse_verify.OPTION] = servers
    runs.update(tx, context.run_id, writes_served_by="target", cutover_phase="opened", options=options)


def settle_keys(context: Context, plan: Plan) -> None:
    """After the opening, at leisure: validate the declared keys, drop their substitutes."""
    with context.target.transaction(read_only=True) as tx:
        keys = [k for k in deferred_objects.of_run(tx, context.run_id, "foreign_key") if k.status == "interim"]
    for item in keys:
        waited = waits(plan, item)
        with context.fenced() as tx:
            keyless.drop_interim_key(tx, item) if waited else foreign_keys.validate_declared(tx, item)
        outwait(context, "target", [item.table], partial(_settle_key, context, item, waited=waited))


def _settle_key(context: Context, item: Deferred, *, waited: bool) -> None:
    with context.fenced() as tx:
        brief_lock(tx)
        if not waited:
            foreign_keys.drop_interim_key(tx, item)
        deferred_objects.set_status(tx, context.run_id, item, "back")
        failpoint("switch.key.before_commit")
