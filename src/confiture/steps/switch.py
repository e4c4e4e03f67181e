"""cutover while the application writes: lock, drain, compare what changed last, close the source, open the target.

Before the source's commit nothing has happened that anybody would notice; after it there is only
forward. Where a run stands is probed on the source, never remembered (correctness.md, 8).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from psycopg import sql

from confiture import machine, sequences
from confiture.capture import apply, fences
from confiture.capture.apply import Followed, Follower
from confiture.compare import checksum, suspects
from confiture.compare.checksum import Hashing
from confiture.compare.suspects import Key
from confiture.copy.base import Job
from confiture.db import Transaction
from confiture.errors import CutoverGivenUp, CutoverHalfway
from confiture.faults import failpoint
from confiture.journal import catchup, progress, runs
from confiture.journal.progress import Deferred
from confiture.journal.verifications import Difference
from confiture.plan import Plan
from confiture.projection import raw
from confiture.runner import Context, reading
from confiture.states import CUTOVER
from confiture.steps import follow, verify
from confiture.steps.cutover import Limits, enable, locked, refuse_stale, replace_key
from confiture.steps.finish import comment_on
from confiture.types import TableRef

#: Touched keys compared with one statement.
KEYS_AT_ONCE = 500
#: So few are compared in an instant under the lock; so often it is tried to get there.
FEW_KEYS = 2_000
ROUNDS = 10
#: Values a sequence is set ahead, because reading it is not transactional.
SEQUENCE_MARGIN = 100


def is_closed(context: Context) -> bool:
    """Whether the source takes no writes any more: the point of no return is behind us."""
    with context.source.transaction(read_only=True) as tx:
        return fences.is_closed(tx, context.schema)


def switch(context: Context, plan: Plan, limits: Limits) -> None:
    """The whole cutover, from wherever a crash left it.

    :raises CutoverGivenUp: before the point of no return; the source serves on.
    """
    if not is_closed(context):
        refuse_stale(context, plan)
        hashing = verify.hashing_of(context, plan)
        _phase(context, "preparing")
        prepare(context, plan, hashing)
        _phase(context, "closing")
        locked(context, plan, limits, lambda source: _close(context, source, plan, hashing, limits))
        failpoint("switch.after_point_of_no_return")
    finish(context, plan)
    settle_keys(context)
    _phase(context, "done")


def _close(context: Context, source: Transaction, plan: Plan, hashing: Hashing, limits: Limits) -> None:
    under_lock(context, source, plan, hashing, time.monotonic() + limits.max_write_pause)


def _phase(context: Context, name: str) -> None:
    with context.fenced() as tx:
        runs.update(tx, context.run_id, cutover_phase=name)
        failpoint("switch.phase.before_commit")


def prepare(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Everything that can be done before anything is locked: drain, compare what changed, rehearse the opening.

    :raises CutoverGivenUp: when a row differs.
    """
    apply.refuse_behind(context)
    follow.drain(context, plan, touch=True)
    _settle_touched(context, plan, hashing)
    follow.drain(context, plan, touch=True)
    # What is only forward must not fail: done once and rolled back.
    with context.target.rehearsal() as tx:
        runs.fence(tx, context.run_id, context.epoch)
        _open(context, tx, plan)


def _settle_touched(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Compare the keys that changed since their rows were verified, until few are left for the lock.

    Writes go on and touch more: each round takes less time than the one before, so fewer are left.
    """
    for _ in range(ROUNDS):
        left = 0
        for followed in apply.followed(context, plan):
            for job in followed.jobs:
                _settle_job(context, plan, job, hashing, followed)
                left += len(_touched(context, job))
        if left <= FEW_KEYS:
            return


def _settle_job(context: Context, plan: Plan, job: Job, hashing: Hashing, followed: Followed) -> None:
    keys = _touched(context, job)
    for at in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[at : at + KEYS_AT_ONCE]
        differing = _differing(context, job, hashing, some)
        # What agrees is done with: a change that comes later is logged, and touches its key again.
        _forget(context, job, [k for k in some if k not in differing])
        if not differing:
            continue
        verdict = suspects.settle(
            context.source,
            context.target,
            job,
            hashing,
            followed,
            list(differing),
            lambda: follow.drain(context, plan, touch=True),
        )
        _refuse_differences(verdict.confirmed)


def _differing(context: Context, job: Job, hashing: Hashing, keys: Sequence[Key]) -> set[Key]:
    where = suspects.among(job, keys)
    with reading(context.source, job.source) as a, context.target.transaction(read_only=True) as b:
        x = checksum.hashes(a, job, "source", hashing, where["source"])
        y = checksum.hashes(b, job, "target", hashing, where["target"])
    return {k for k in keys if x.get(k) != y.get(k)}


def _forget(context: Context, job: Job, keys: Sequence[Key]) -> None:
    with context.fenced() as tx:
        catchup.forget_touched(tx, context.run_id, job.table.number, [list(k) for k in keys])


def _touched(context: Context, job: Job) -> list[Key]:
    with context.target.transaction(read_only=True) as tx:
        found = catchup.touched_keys(tx, context.run_id, job.table.number)
    return [tuple(key) for key in found]


def _refuse_differences(found: Sequence[Difference]) -> None:
    if found:
        raise CutoverGivenUp(
            "the cutover was given up: source and target differ",
            why=f"{len(found)} among the rows changed last, the first: {found[0].subject} {found[0].key}",
            fix="the source serves on; look with `verify --again`, heal with `verify --repair`",
        )


def under_lock(context: Context, source: Transaction, plan: Plan, hashing: Hashing, deadline: float) -> None:
    """Drain to empty, compare the last changed keys, set the sequences; then close the source.

    ``source`` is the transaction that holds the lock; its commit, by the caller, is the point of no return.

    :param deadline: of the write pause, by ``time.monotonic()``.
    :raises CutoverGivenUp: over the budget, or when a row differs; the lock goes with the rollback.
    """
    with Follower(context, apply.followed(context, plan)) as follower:
        while follower.catch_up(touch=True).keys:
            _refuse_late(deadline)
    for followed in apply.followed(context, plan):
        for job in followed.jobs:
            _compare_last(context, job, hashing, deadline)
    with context.fenced() as tx:
        sequences.set_all(context.source, tx, plan, margin=SEQUENCE_MARGIN)
    _refuse_late(deadline)
    served = f"its data is served by: {context.target.database.public}"
    fences.close(source, context.schema, _sources(plan), "this database no longer takes writes", served)
    failpoint("switch.before_point_of_no_return")


def _refuse_late(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise CutoverGivenUp(
            "the cutover was given up: it would have held writes up for too long",
            why="--max-write-pause ran out before the target was even",
            fix="the source serves on; wait for a quieter moment, or allow a longer --max-write-pause",
        )


def _compare_last(context: Context, job: Job, hashing: Hashing, deadline: float) -> None:
    keys = _touched(context, job)
    for at in range(0, len(keys), KEYS_AT_ONCE):
        _refuse_late(deadline)
        some = keys[at : at + KEYS_AT_ONCE]
        differing = _differing(context, job, hashing, some)
        if differing:
            where = suspects.among(job, sorted(differing))
            with context.source.transaction(read_only=True) as a, context.target.transaction(read_only=True) as b:
                _refuse_differences(checksum.differences(a, b, job, hashing, where))
        _forget(context, job, some)


def _sources(plan: Plan) -> list[TableRef]:
    return list(dict.fromkeys(t.source for t in plan.tables))


def finish(context: Context, plan: Plan) -> None:
    """Open the target, once the source is closed: one commit, the same however often it is tried.

    :raises CutoverHalfway: when it cannot be opened now; the same command tries again.
    """
    if not is_closed(context):
        raise CutoverHalfway(
            "the target is not opened",
            why="the source still takes writes; both are never open",
            fix="run the same command again, then look at the source's triggers",
        )
    with context.fenced() as tx:  # keys, triggers, gate and state change together
        run = runs.get(tx, context.run_id)
        assert run is not None
        if run.state == CUTOVER:
            return
        _open(context, tx, plan)
        machine.fire(tx, run, "cutover", {"live": True})
        runs.update(tx, context.run_id, writes_served_by="target", cutover_phase="opened")
        failpoint("switch.before_open_commit")
    failpoint("switch.after_open_commit")


def _open(context: Context, tx: Transaction, plan: Plan) -> None:
    """Declared foreign keys beside their substitutes, user triggers on, the gate open: catalog changes only."""
    for item in progress.deferred(tx, context.run_id, "foreign_key"):
        if item.status == "interim" and item.interim is not None:
            _declare(tx, item)
    for item in progress.deferred(tx, context.run_id, "trigger"):
        enable(tx, item)
        progress.set_deferred(tx, context.run_id, item, "back")
    fences.open_gate(tx, context.schema)


def _declare(tx: Transaction, item: Deferred) -> None:
    """The declared action holds from the opening on; rows are validated after."""
    detail = item.detail or {}
    table, name = sql.Identifier(item.table.schema, item.table.name), sql.Identifier(item.name)
    if detail["plain"] and not detail["partitioned"]:
        return  # nothing but deferrability differs; put back after the opening
    if detail["partitioned"]:
        return  # NOT VALID is refused there; put back after the opening
    tx.pg.execute(sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(table, name, interim_name(item)))
    definition = item.definition.removesuffix(" NOT VALID") + " NOT VALID"
    tx.pg.execute(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, raw(definition)))


def interim_name(item: Deferred) -> sql.Identifier:
    """What the substitute is called while the declared key stands beside it."""
    return sql.Identifier("confiture_interim_" + item.name[:40])


def settle_keys(context: Context) -> None:
    """After the opening, at leisure: validate the declared keys, drop their substitutes."""
    with context.target.transaction(read_only=True) as tx:
        keys = [k for k in progress.deferred(tx, context.run_id, "foreign_key") if k.status == "interim"]
    for item in keys:
        with context.fenced() as tx:
            _settle_key(tx, item)
            progress.set_deferred(tx, context.run_id, item, "back")
            failpoint("switch.key.before_commit")


def _settle_key(tx: Transaction, item: Deferred) -> None:
    detail = item.detail or {}
    table, name = sql.Identifier(item.table.schema, item.table.name), sql.Identifier(item.name)
    if item.interim is None:
        return
    if detail["plain"] and not detail["partitioned"]:
        if not detail["deferred"]:
            mode = "NOT DEFERRABLE" if not detail["deferrable"] else "DEFERRABLE INITIALLY IMMEDIATE"
            tx.pg.execute(sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} {}").format(table, name, sql.SQL(mode)))
        return
    if detail["partitioned"]:
        replace_key(tx, item)
        return
    if detail["validated"]:
        tx.pg.execute(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, name))
    tx.pg.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, interim_name(item)))
    comment_on(tx, item)
