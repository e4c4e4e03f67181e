"""cutover while the application writes: lock, drain, compare the last changes, close the source, open the target.

The opening is prepared in a transaction of the target that stays uncommitted while the source's closing commits, so
that nothing after the point of no return can wait or fail. Where a run stands is read from the databases, never from a
record (docs/invariants.md, I-8.8 and I-8.9).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
from confiture.errors import CannotConnect, ConfitureError, CutoverAborted, CutoverUnfinished
from confiture.failpoints import failpoint
from confiture.journal import approvals, catch_up, deferred_objects, runs
from confiture.journal import source as run_schema
from confiture.journal.model import (
    SUSPENDED,
    DeferredCheck,
    DeferredForeignKey,
    DeferredStatus,
    DeferredTrigger,
    Difference,
    Run,
)
from confiture.plan.model import Plan
from confiture.pooler import Pooler
from confiture.postgres.budget import Budget
from confiture.postgres.retry import LOCK_CONFLICTS, retry
from confiture.postgres.session import Session, Transaction, brief_lock
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.schema_to_schema import (
    follow,
    keyless,
    large_objects,
    materialized_views,
    reverse,
    reverse_verify,
    sequences,
    switchover,
    table_lock,
    verify,
    write_pause,
)
from confiture.schema_to_schema.blockers import wait_for_locks
from confiture.schema_to_schema.cutover_offline import refuse_closed, refuse_stale, source_tables
from confiture.schema_to_schema.deferred_objects import foreign_keys, restore
from confiture.schema_to_schema.keyless import off_until_cutover
from confiture.schema_to_schema.outcomes import Limits
from confiture.schema_to_schema.stopwatch import Stopwatch
from confiture.schema_to_schema.switchover import FORWARD, Direction, Remaining
from confiture.schema_to_schema.table_lock import Tables, TryAgain, Work
from confiture.states import CLOSING, CUTOVER, CutoverPhase
from confiture.types import TableRef

#: Number of values that a sequence is set ahead, because reading it is not transactional.
SEQUENCE_MARGIN = 100
#: Log rows that may be applied under the lock. With more, the lock is released and the log drained first.
MOST_UNDER_LOCK = 10_000
#: Seconds that readers may block the opening of the target once the source is closed. Then they are terminated.
GRACE_SECONDS = 10.0


def switch(context: Context, plan: Plan, limits: Limits, pooler: Pooler | None = None) -> None:
    """The whole cutover, from any point where a crash interrupted it.

    :param pooler: those in front of the application; None when the operator redirects the application.
    :raises CutoverAborted: before the point of no return; the source is still serving.
    """
    watch = Stopwatch()
    if not switchover.is_past_point_of_no_return(context, FORWARD):
        refuse_stale(context, plan)
        verify.refuse_changed(context)
        hashing = changed_keys.hashing_of(context, plan)
        set_phase(context, CutoverPhase.PREPARING)
        with phase_after_failure(context, FORWARD):
            prepare(context, plan, hashing, limits)
            servers = verify.servers(context)
            # The first pass opens the sessions and fills their caches before the application waits for the lock.
            with Follower(context, apply.followed(context, plan)) as follower:
                follow.one_pass(follower, record_changed=True)
                for job in (j for f in follower.followed for j in f.jobs):
                    changed_keys.discard_equal(context, job, hashing)
                with switchover.paused(context, pooler, limits, FORWARD, watch) as remaining:
                    set_phase(context, CutoverPhase.CLOSING)
                    try:
                        _close(follower, plan, hashing, remaining, servers, watch)
                    except (psycopg.Error, CannotConnect) as error:
                        if not switchover.was_passed_despite(context, FORWARD, error):
                            raise
    with switchover.unfinished_on_lost_connection(FORWARD):
        complete_opening(context, plan)
        switchover.resume(context, pooler, FORWARD, watch, limits)
    # The target is serving. The rest may be interrupted; the same command continues it.
    drop_interim_keys(context, plan)
    reverse.prepare_source(context, plan)
    retry(lambda: set_phase(context, CutoverPhase.DONE))
    materialized_views.refresh(context, plan)
    switchover.refuse_paused_poolers(context, FORWARD)


@contextmanager
def phase_after_failure(context: Context, direction: Direction) -> Iterator[None]:
    """When the block fails before the point of no return, record that nothing has switched.

    The record stays as it is while a server is not available: whether the point has passed is not known then.
    """
    try:
        yield
    except (psycopg.Error, ConfitureError):
        with suppress(psycopg.Error, ConfitureError):
            if not switchover.is_past_point_of_no_return(context, direction):
                set_phase(context, direction.aborted_phase)
        raise


def _close(
    follower: Follower,
    plan: Plan,
    hashing: Hashing,
    remaining: Remaining,
    servers: dict[str, str],
    watch: Stopwatch,
) -> None:
    context = follower.context
    with context.beside("cutover") as locker, context.beside("opening", side="target") as opener:
        work = Work(
            before=partial(drain, follower),
            opening=partial(_begin_opening, context, opener),
            # The run is read before the lock, because a plan of many tables is large.
            act=partial(_act, follower, plan, hashing, servers, context.run(), watch),
            sessions=(follower.source, follower.target),
            watch=watch,
        )
        table_lock.locked(context, locker, tables_to_lock(context, plan), remaining.limits, work, remaining.until)


def tables_to_lock(context: Context, plan: Plan) -> Tables:
    """The tables that the cutover locks while the application writes, with the catalogs of large objects."""
    with context.source.transaction(read_only=True) as tx:
        return large_objects.with_lock(source_tables(context, plan), tx, plan)


def drain(follower: Follower) -> None:
    """Apply the changes that were logged while the lock was awaited; under the lock, their number is checked again."""
    draining = follow.Draining(follower.context)
    while True:
        made = follow.one_pass(follower, record_changed=True)
        # As many changes as a pass has applied may have been logged since.
        if made.keys <= follow.SMALL_BACKLOG or draining.is_done(made, made.keys):
            return
        follower.context.check_lease()


def _begin_opening(context: Context, opener: Session, stack: ExitStack) -> Transaction:
    """Begin the target's transaction before the source is locked.

    The first lock of this transaction cancels autovacuum and blocks no writer.
    """
    opening = stack.enter_context(opener.transaction())
    runs.fence(opening, context.run_id, context.epoch)
    brief_lock(opening)
    tables = _acted_on(opening, context)
    if tables:
        names = sql.SQL(", ").join(r.identifier for r in tables)
        try:
            opening.pg.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(names))
        except LOCK_CONFLICTS as error:
            raise TryAgain("the target's tables could not be locked", "target", tables) from error
    # Checked here as well, because the first check of a session on a thousand tables takes twice as long.
    _check_target(context, opening)
    return opening


def _check_target(context: Context, opening: Transaction) -> None:
    kinds = (*fingerprint.APPLIED, fingerprint.STORAGE, fingerprint.WRITE_BLOCK)
    fingerprint.refuse_changed(opening, context.schema, "target", kinds)


def _acted_on(tx: Transaction, context: Context) -> list[TableRef]:
    """The target tables that the opening changes."""
    return sorted(
        {
            d.table
            for d in deferred_objects.of_run(tx, context.run_id)
            if isinstance(d, DeferredForeignKey | DeferredTrigger) and d.status is not DeferredStatus.BACK
        }
    )


def _act(
    follower: Follower,
    plan: Plan,
    hashing: Hashing,
    servers: dict[str, str],
    run: Run,
    watch: Stopwatch,
    source: Transaction,
    opening: Transaction | None,
    budget: Budget,
) -> None:
    """Under the lock: synchronise both sides, prepare the opening, close the source; the caller commits."""
    context = follower.context
    assert opening is not None
    refuse_closed(context, plan, source)
    _synchronise(follower, plan, hashing, source, watch)
    with table_lock.prepared(budget, opening, "target", [t.target for t in plan.tables]):
        # Under the fence of the transaction that opens the target, so that nothing found since is missed (I-15.2).
        approvals.refuse_unapproved(opening, run, always=context.facts.target.require_approval)
        _check_target(context, opening)
        open_target(context, opening, plan, run, servers)
    watch.lap("open the target")
    failpoint("switch.opening_prepared")
    served = f"its data is served by: {context.target.database.public}"
    write_block.block(source, context.schema, "this database no longer takes writes", served)
    watch.lap("close the source")
    failpoint("switch.before_point_of_no_return")


def set_phase(context: Context, name: CutoverPhase | None, **values: object) -> None:
    """Record the phase for ``status`` only. Recovery reads the real state from the databases."""
    # Durable together: the phase, the run's other values of this call, and the moment before the lock.
    with context.fenced("switch.phase") as tx:
        runs.update(tx, context.run_id, cutover_phase=name, **values)
        if name in CLOSING:
            runs.note(tx, context.run_id, context.epoch, write_pause.CLOSING)


def prepare(context: Context, plan: Plan, hashing: Hashing, limits: Limits) -> None:
    """All that is possible before anything is locked: triggers on both sides, drain, compare, rehearse.

    :raises CutoverAborted: when a row differs, or sessions block the locks that this needs.
    """
    with context.source.transaction(read_only=True) as tx:
        refuse_closed(context, plan, tx)
    reverse.install(context, plan)
    prepare_block(context, plan, limits)
    synchronise(context, plan, hashing)
    rehearse_opening(context, plan, limits)


def prepare_block(context: Context, plan: Plan, limits: Limits) -> None:
    """Create the write block's triggers on the source, table by table; they permit writes until the source is closed.

    :raises CutoverAborted: when sessions block the locks that this needs; the source is still serving.
    """
    # Durable: a write block that permits writes.
    with context.fenced_source("switch.block") as tx:
        if not write_block.exists(tx, context.schema):
            write_block.unblock(tx, context.schema)
    with context.source.transaction(read_only=True) as tx:
        lacking = write_block.lacking(tx, context.schema, _sources(plan))
        # To replace the triggers of a table, a session waits for readers too.
        damaged = fingerprint.recorded(tx, context.schema, fingerprint.WRITE_BLOCK)
    deadline = time.monotonic() + limits.give_up_after
    for ref in lacking:
        work = partial(_install_block, context, ref)
        table_lock.within(context, "source", [ref], limits, deadline, work, readers=ref in damaged)


def _install_block(context: Context, table: TableRef) -> None:
    # Durable together: the table has every trigger of the write block.
    with context.fenced_source("switch.block_table") as tx:
        brief_lock(tx)
        write_block.install(tx, context.schema, [table])


def synchronise(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Catch up and compare the rows that changed, until few of them remain.

    :raises CutoverAborted: when a row differs.
    """
    apply.refuse_behind(context)
    follow.drain(context, plan, record_changed=True)
    _compare_changed(context, plan, hashing)
    large_objects.synchronise(context, plan)
    follow.drain(context, plan, record_changed=True)


def rehearse_opening(context: Context, plan: Plan, limits: Limits) -> None:
    """Open the target, and roll that back: an opening that would fail fails here.

    :raises CutoverAborted: when sessions block the locks that this needs.
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


def _compare_changed(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Compare the keys that changed since their rows were verified, until few remain for the lock.

    Writes continue and change more keys. Each round takes less time than the one before, so that fewer remain.
    A row that is ahead of the target is equal in a later round. A row that differs while its source has not changed
    is a suspect.
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
    """Apply the whole log of the tables that this transaction has locked, in one pass.

    :raises TryAgain: when too many changes were logged since the last pass.
    """
    # The tables are locked, so that only these logs have rows. The follower's session has prepared their queries.
    items = [f.item for f in follower.waiting()]
    if triggers.waiting(locked, items, MOST_UNDER_LOCK) > MOST_UNDER_LOCK:
        raise TryAgain("too many changes are waiting")
    follower.catch_up(record_changed=True)


def _synchronise(follower: Follower, plan: Plan, hashing: Hashing, source: Transaction, watch: Stopwatch) -> None:
    """Under the lock: apply the log, compare the keys changed last, set the sequences.

    :raises TryAgain: when too many changes were logged since the last pass.
    :raises CutoverAborted: when a row differs.
    """
    context = follower.context
    apply_last(follower, source)
    watch.lap("catch up")
    for job in changed_keys.only(context, (j for f in follower.followed for j in f.jobs)):
        _refuse_differences(changed_keys.compare(context, job, hashing, context.check_lease))
    watch.lap("compare the changed keys")
    if any(table.recopied for table in plan.tables):
        keyless.recopy(context, plan, hashing)
        watch.lap("copy the tables without a key")
    if plan.large_objects is not None:
        large_objects.synchronise(context, plan, source)
        watch.lap("compare the large objects")
    if not follower.followed:
        fingerprint.refuse_changed(source, context.schema, "source", (*fingerprint.CAPTURED, *fingerprint.DATABASE))
    # Durable whether or not this commits: the values of the sequences. Harmless while the source is serving.
    # Durable: the number of the closing, which the source records when it closes. It is the last commit of the
    # target before that, so that a target that has it has lost nothing.
    with context.fenced("switch.numbered") as tx:
        sequences.set_all(context.source, tx, plan, margin=SEQUENCE_MARGIN)
        number = run_schema.last_pass(source, context.schema) + 1
        catch_up.advance(tx, context.run_id, number, keys=0, rows=0)
    run_schema.set_last_pass(source, context.schema, number)
    watch.lap("set the sequences")


def _sources(plan: Plan) -> list[TableRef]:
    return list(dict.fromkeys(t.source for t in plan.tables))


def complete_opening(context: Context, plan: Plan) -> None:
    """Open the target when the source is closed but the prepared opening did not commit.

    Progress names the sessions that block it. They are terminated after a grace period, because neither database
    accepts writes until the target is open.

    :raises CutoverUnfinished: when the source is not closed.
    :raises Blocked: when the target has lost changes.
    """
    if not switchover.is_past_point_of_no_return(context, FORWARD):
        raise CutoverUnfinished(
            "the target is not opened",
            why="the source still accepts writes; both databases must not be open at once",
            fix="run the same command again; if this repeats, check the write block's triggers on the source",
        )
    if switchover.lacks_closing(context, FORWARD):
        set_phase(context, CutoverPhase.CLOSING)  # the record of the phase may be lost too
        raise switchover.lost_closing(FORWARD)
    wait_for_locks(
        context, "target", [t.target for t in plan.tables], partial(_open_target, context, plan), grace=GRACE_SECONDS
    )


def _open_target(context: Context, plan: Plan) -> None:
    # Durable together: foreign keys, suspended objects, write block and state.
    with context.fenced("switch.open") as tx:
        run = runs.get(tx, context.run_id)
        if run.state == CUTOVER:
            return
        brief_lock(tx)
        open_target(context, tx, plan, run)


def open_target(context: Context, tx: Transaction, plan: Plan, run: Run, servers: dict[str, str] | None = None) -> None:
    """Add the declared foreign keys beside their interims, restore suspended objects, permit writes.

    These are catalog changes only.

    :param servers: the start of both servers, when every row is known to be equal; None when that is not known.
    """
    for key in deferred_objects.of_kind(tx, context.run_id, DeferredForeignKey):
        if key.status is DeferredStatus.INTERIM and key.interim is not None:
            foreign_keys.declare(tx, key)
        elif key.status is DeferredStatus.OFF and off_until_cutover(plan, key):
            foreign_keys.restore_not_valid(tx, key)
            deferred_objects.set_status(tx, context.run_id, key, DeferredStatus.INTERIM)
    off = [item for item in deferred_objects.suspended(tx, context.run_id) if item.status is not DeferredStatus.BACK]
    for item in off:
        restore(tx, item)
    checks = [item.table for item in off if isinstance(item, DeferredCheck)]
    if checks:
        # A restored constraint NOT VALID may be NOT NULL, which changes the fingerprint of its column.
        fingerprint.record(tx, context.schema, fingerprint.roots_of(tx, checks), (fingerprint.COLUMNS,))
    deferred_objects.set_all_statuses(tx, context.run_id, SUSPENDED, DeferredStatus.BACK)
    write_block.unblock(tx, context.schema)
    transitions.fire(tx, run, "cutover", {"live": True})
    options = {k: v for k, v in run.options.items() if k != reverse_verify.SERVERS_OPTION}
    if servers is not None:
        options[reverse_verify.SERVERS_OPTION] = servers
    runs.update(tx, context.run_id, writes_served_by="target", cutover_phase=CutoverPhase.OPENED, options=options)
    # Whatever blocked the run was checked again before the source was closed.
    runs.unblock(tx, context.run_id)


def drop_interim_keys(context: Context, plan: Plan) -> None:
    """After the opening, without a time limit: validate the declared keys, drop their interims."""
    with context.target.transaction(read_only=True) as tx:
        keys = deferred_objects.of_kind(tx, context.run_id, DeferredForeignKey)
    for item in (k for k in keys if k.status is DeferredStatus.INTERIM):
        beside_interim = not off_until_cutover(plan, item)
        # Durable: the declared key is validated. Its interim remains.
        with context.fenced("switch.key_validated") as tx:
            foreign_keys.validate_declared(tx, item) if beside_interim else foreign_keys.validate_restored(tx, item)
        wait_for_locks(
            context, "target", item.tables, partial(_drop_interim, context, item, beside_interim=beside_interim)
        )


def _drop_interim(context: Context, item: DeferredForeignKey, *, beside_interim: bool) -> None:
    # Durable together: the interim is dropped, and the key is recorded as declared.
    with context.fenced("switch.key") as tx:
        brief_lock(tx)
        if beside_interim:
            foreign_keys.drop_interim(tx, item)
        deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.BACK)
