"""cutover while the application writes: lock, drain, compare what changed last, close the source, open the target.

Before the source's commit nothing has happened that anybody would notice; after it there is only
forward. Where a run stands is probed on the source, never remembered (correctness.md, 8).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import psycopg

from confiture import machine, sequences
from confiture.capture import apply, fences
from confiture.capture.apply import Followed, Follower
from confiture.compare import suspects
from confiture.compare.checksum import Hashing
from confiture.compare.suspects import Key
from confiture.copy.base import Job
from confiture.db import Transaction, brief_lock, retry
from confiture.errors import CannotConnect, CutoverGivenUp, CutoverHalfway
from confiture.faults import failpoint
from confiture.journal import progress, runs
from confiture.journal.progress import Deferred
from confiture.journal.runs import Run
from confiture.journal.verifications import Difference
from confiture.plan import Plan
from confiture.pooler import Gate
from confiture.runner import Context
from confiture.states import CUTOVER
from confiture.steps import follow, foreign_keys, gates, home, recopy, touched
from confiture.steps.blockers import outwait
from confiture.steps.cutover import Limits, enable, locked, refuse_stale
from confiture.steps.finish import waits
from confiture.types import TableRef

#: Values a sequence is set ahead, because reading it is not transactional.
SEQUENCE_MARGIN = 100


def is_closed(context: Context) -> bool:
    """Whether the source takes no writes any more: the point of no return is behind us."""
    return gates.is_closed(context, gates.FORTH)


def switch(context: Context, plan: Plan, limits: Limits, gate: Gate | None = None) -> None:
    """The whole cutover, from wherever a crash left it.

    :param gate: what the application's connections pass through; None where they are its own affair.
    :raises CutoverGivenUp: before the point of no return; the source serves on.
    """
    if not is_closed(context):
        refuse_stale(context, plan)
        hashing = touched.hashing_of(context, plan)
        set_phase(context, "preparing")
        prepare(context, plan, hashing)
        off = home.user_triggers(context, plan) if plan.back else []
        try:
            # Its sessions are open and warm before anybody waits for the lock.
            with Follower(context, apply.followed(context, plan)) as follower:
                follow.one_pass(follower, touch=True)
                for job in (j for f in follower.followed for j in f.jobs):
                    touched.settle(context, job, hashing)
                with gates.held(context, gate, limits, gates.FORTH) as left:
                    set_phase(context, "closing")
                    closing = partial(_close, follower, plan, hashing, left, off)
                    try:
                        locked(context, plan, left.limits, closing)
                    except (psycopg.Error, CannotConnect) as error:
                        if not gates.passed(context, gates.FORTH, error):
                            raise
        except CutoverGivenUp:
            set_phase(context, None)
            raise
        failpoint("switch.after_point_of_no_return")
    with gates.only_forward(gates.FORTH):
        retry(lambda: finish(context, plan))
        retry(lambda: gates.lead(context, gate, gates.FORTH))
        retry(lambda: settle_keys(context, plan))
        retry(lambda: home.prepare_source(context, plan))
        retry(lambda: set_phase(context, "done"))
    gates.refuse_left(context, gates.FORTH)


def _close(
    follower: Follower, plan: Plan, hashing: Hashing, left: gates.Left, off: list[Deferred], source: Transaction
) -> None:
    context, deadline = follower.context, left.deadline()
    _even(follower, plan, hashing, deadline)
    home.triggers_off(source, context.schema, off)
    served = f"its data is served by: {context.target.database.public}"
    fences.close(source, context.schema, _sources(plan), "this database no longer takes writes", served)
    failpoint("switch.before_point_of_no_return")


def set_phase(context: Context, name: str | None, **values: object) -> None:
    """Write down how far it is, for who looks; where it stands is probed."""
    with context.fenced() as tx:
        runs.update(tx, context.run_id, cutover_phase=name, **values)
        failpoint("switch.phase.before_commit")


def prepare(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Everything that can be done before anything is locked: drain, compare what changed, rehearse the opening.

    :raises CutoverGivenUp: when a row differs.
    """
    home.install(context, plan)
    even_out(context, plan, hashing)
    rehearse_opening(context, plan)


def even_out(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Catch up and compare what changed, until little of it is left.

    :raises CutoverGivenUp: when a row differs.
    """
    apply.refuse_behind(context)
    follow.drain(context, plan, touch=True)
    _settle_touched(context, plan, hashing)
    follow.drain(context, plan, touch=True)


def rehearse_opening(context: Context, plan: Plan) -> None:
    """What is only forward must not fail: done once and rolled back."""
    retry(partial(_rehearse_opening, context, plan))


def _rehearse_opening(context: Context, plan: Plan) -> None:
    with context.target.rehearsal() as tx:
        runs.fence(tx, context.run_id, context.epoch)
        run = runs.get(tx, context.run_id)
        assert run is not None
        _open(context, tx, plan, run)


def _settle_touched(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Compare the keys that changed since their rows were verified, until few are left for the lock.

    Writes go on and touch more: each round takes less time than the one before, so fewer are left.
    A row that is ahead of the target agrees in a later round; one that differs while its source stands
    still is a suspect.
    """
    jobs = [(f, job) for f in apply.followed(context, plan) for job in f.jobs]
    before: dict[int, touched.Hashes] = {}
    for _ in range(touched.ROUNDS):
        wrong = {job.table.number: touched.settle(context, job, hashing) for _, job in jobs}
        for followed, job in jobs:
            now, then = wrong[job.table.number], before.get(job.table.number, {})
            stuck = [k for k, source in now.items() if k in then and then[k] == source]
            _refuse_stuck(context, plan, job, hashing, followed, stuck)
        few = sum(len(keys) for _, job in jobs for keys in touched.batches(context, job)) <= touched.FEW_KEYS
        if few and (before or not any(wrong.values())):
            return
        before = wrong
        follow.single(context, plan)


def _refuse_stuck(
    context: Context, plan: Plan, job: Job, hashing: Hashing, followed: Followed, keys: Sequence[Key]
) -> None:
    if keys:
        verdict = suspects.settle(
            context.source, context.target, job, hashing, followed, keys, lambda: follow.single(context, plan)
        )
        _refuse_differences(verdict.confirmed)


def _refuse_differences(found: Sequence[Difference]) -> None:
    if found:
        raise CutoverGivenUp(
            "the cutover was given up: source and target differ",
            why=f"{len(found)} among the rows changed last, the first: {found[0].subject} {found[0].key}",
            fix="the source serves on; look with `verify --again`, heal with `verify --repair`",
        )


def _even(follower: Follower, plan: Plan, hashing: Hashing, deadline: float) -> None:
    """Under the lock: drain to empty, compare the last changed keys, set the sequences.

    :param deadline: of the write pause, by ``time.monotonic()``.
    :raises CutoverGivenUp: over the budget, or when a row differs; the lock goes with the rollback.
    """
    context = follower.context
    while follower.catch_up(touch=True).keys:
        refuse_late(deadline)
    for followed in follower.followed:
        for job in followed.jobs:
            _refuse_differences(touched.compare(context, job, hashing, lambda: refuse_late(deadline)))
    recopy.recopy(context, plan, hashing, deadline)
    with context.fenced() as tx:
        sequences.set_all(context.source, tx, plan, margin=SEQUENCE_MARGIN)
    refuse_late(deadline)


def refuse_late(deadline: float) -> None:
    """:raises CutoverGivenUp: when the write pause has used up its budget."""
    if time.monotonic() > deadline:
        raise CutoverGivenUp(
            "given up: it would have held writes up for too long",
            why="--max-write-pause ran out before both sides were even",
            fix="who served serves on; wait for a quieter moment, or allow a longer --max-write-pause",
        )


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
        _open(context, tx, plan, run)
        failpoint("switch.before_open_commit")
    failpoint("switch.after_open_commit")


def _open(context: Context, tx: Transaction, plan: Plan, run: Run) -> None:
    """Declared foreign keys beside their substitutes, user triggers on, the gate open: catalog changes only."""
    for item in progress.deferred(tx, context.run_id, "foreign_key"):
        if item.status == "interim" and item.interim is not None:
            foreign_keys.declare(tx, item)
        elif item.status == "off" and waits(plan, item):
            recopy.declare(tx, item)
            progress.set_deferred(tx, context.run_id, item, "interim")
    for item in progress.deferred(tx, context.run_id, "trigger"):
        enable(tx, item)
        progress.set_deferred(tx, context.run_id, item, "back")
    fences.open_gate(tx, context.schema)
    machine.fire(tx, run, "cutover", {"live": True})
    runs.update(tx, context.run_id, writes_served_by="target", cutover_phase="opened")


def settle_keys(context: Context, plan: Plan) -> None:
    """After the opening, at leisure: validate the declared keys, drop their substitutes."""
    with context.target.transaction(read_only=True) as tx:
        keys = [k for k in progress.deferred(tx, context.run_id, "foreign_key") if k.status == "interim"]
    for item in keys:
        waited = waits(plan, item)
        with context.fenced() as tx:
            recopy.settle(tx, item) if waited else foreign_keys.validate_declared(tx, item)
        outwait(context, "target", [item.table], partial(_settle_key, context, item, waited=waited))


def _settle_key(context: Context, item: Deferred, *, waited: bool) -> None:
    with context.fenced() as tx:
        brief_lock(tx)
        if not waited:
            foreign_keys.settle(tx, item)
        progress.set_deferred(tx, context.run_id, item, "back")
        failpoint("switch.key.before_commit")
