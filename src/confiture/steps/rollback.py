"""rollback: a cutover in the other direction, while the application writes to the target.

Bring home, lock, bring the last home, compare, close the target, open the source. The commit that closes the
target is the point of no return; where a rollback stands is probed there, never remembered (correctness.md, 8).
"""

from __future__ import annotations

from dataclasses import replace

import psycopg
from psycopg import sql

from confiture import machine, sequences
from confiture.capture import fences, home
from confiture.capture.home import Home
from confiture.compare.checksum import Hashing
from confiture.copy.base import Job
from confiture.db import Transaction, retry
from confiture.errors import CannotConnect, CutoverGivenUp
from confiture.faults import failpoint
from confiture.journal import progress, runs
from confiture.journal.verifications import Difference
from confiture.plan import Plan
from confiture.pooler import Gate
from confiture.runner import Context
from confiture.states import CUTOVER
from confiture.steps import foreign_keys, gates, switch, touched
from confiture.steps import home as going_home
from confiture.steps.cutover import Limits, locked_target

#: Phases of a rollback begin with this in the journal.
PHASE = gates.BACK.prefix


def is_halfway(context: Context) -> bool:
    """Whether the target takes no writes any more: only forward from here."""
    return gates.is_closed(context, gates.BACK)


def rollback(context: Context, plan: Plan, limits: Limits, gate: Gate | None = None) -> None:
    """The whole way back, from wherever a crash left it; the run is ``migrating`` again.

    :param gate: what the application's connections pass through; None where they are its own affair.
    :raises CutoverGivenUp: before the point of no return; the target serves on.
    :raises Refused: when a table has no way back.
    """
    if not is_halfway(context):
        going_home.refuse_no_way(plan)
        going_home.refuse_open_source(context)
        home.refuse_behind(context)
        hashing = touched.hashing_of(context, plan)
        switch.set_phase(context, PHASE + "preparing")
        _prepare(context, plan, hashing)
        try:
            with gates.held(context, gate, limits, gates.BACK) as left:
                switch.set_phase(context, PHASE + "closing")
                try:
                    locked_target(context, plan, left.limits, lambda tx: _close(context, tx, plan, hashing, left))
                except (psycopg.Error, CannotConnect) as error:
                    if not gates.passed(context, gates.BACK, error):
                        raise
        except CutoverGivenUp:
            switch.set_phase(context, "done")
            raise
        failpoint("rollback.after_point_of_no_return")
    with gates.only_forward(gates.BACK):
        retry(lambda: _open_source(context))
        retry(lambda: gates.lead(context, gate, gates.BACK))
        retry(lambda: _settle(context, plan))
    gates.refuse_left(context, gates.BACK)


def _prepare(context: Context, plan: Plan, hashing: Hashing) -> None:
    """Bring home and compare, until few keys are left for the lock.

    :raises CutoverGivenUp: when a row that came home is not what the target has.
    """
    for _ in range(touched.ROUNDS):
        going_home.drain(context, plan)
        left = 0
        for table in plan.tables:
            left += _compare(context, Job(table, context.schema), hashing)
        if left <= touched.FEW_KEYS:
            return


def _compare(context: Context, job: Job, hashing: Hashing) -> int:
    """Compare the keys brought home, and forget those that agree; how many are left."""
    left = touched.settle(context, job, hashing)
    if left:
        found = touched.compare(context, job, hashing, context.check_lease)
        # What was seen there had its log row taken before; only our passes take them.
        if _at_rest(context, job):
            _refuse_differences(found)
    return len(left)


def _at_rest(context: Context, job: Job) -> bool:
    """Whether nothing of the table waits to be brought home."""
    log = sql.Identifier(context.schema, f"log{job.table.number:04d}")
    with context.target.transaction(read_only=True) as tx:
        return tx.pg.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(log)).fetchone() is None


def _refuse_differences(found: list[Difference]) -> None:
    if found:
        raise CutoverGivenUp(
            "the rollback was given up: the old database would not have what the new one has",
            why=f"the first: {found[0].place}",
            fix="the target serves on; mend `reverse:` of that column, or that row",
        )


def _close(context: Context, target: Transaction, plan: Plan, hashing: Hashing, left: gates.Left) -> None:
    """Under the target's lock; ``target`` is the transaction that holds it and commits the point of no return."""
    deadline = left.deadline()
    with Home(context, plan) as follower:
        while follower.catch_up(touch=True).keys:
            switch.refuse_late(deadline)
    for table in plan.tables:
        job = Job(table, context.schema)
        _refuse_differences(touched.compare(context, job, hashing, lambda: switch.refuse_late(deadline)))
    _sequences_home(context, plan)
    switch.refuse_late(deadline)
    hint = f"the old database serves again: {context.source.database.public}"
    message = "this database no longer takes writes"
    fences.close(target, context.schema, [t.target for t in plan.tables], message, hint)
    failpoint("rollback.before_point_of_no_return")


def _sequences_home(context: Context, plan: Plan) -> None:
    turned = replace(plan, sequences=plan.back_sequences)
    with context.fenced_source() as tx:
        sequences.set_all(context.target, tx, turned, margin=switch.SEQUENCE_MARGIN)


def _open_source(context: Context) -> None:
    """Once the target is closed: one commit on the source, the same however often it is tried."""
    with context.fenced_source() as tx:  # triggers, keys and gate change together
        if fences.is_closed(tx, context.schema):
            going_home.restore_source(context, tx)
            fences.open_gate(tx, context.schema)
            failpoint("rollback.before_open_commit")
    failpoint("rollback.after_open_commit")
    switch.set_phase(context, PHASE + "opened", writes_served_by="source")


def _settle(context: Context, plan: Plan) -> None:
    """The source's keys as declared; the target as it was while it was being filled; then the state."""
    going_home.settle_source(context)
    with context.target.transaction(read_only=True) as tx:
        taken = [d for d in progress.deferred(tx, context.run_id) if d.status == "back"]
    for item in taken:
        if item.kind in ("foreign_key", "trigger"):
            with context.fenced() as tx:
                _off_again(context, tx, item)
                failpoint("rollback.settle.before_commit")
    with context.fenced() as tx:
        run = runs.get(tx, context.run_id)
        assert run is not None
        if run.state != CUTOVER:
            return  # done by a commit whose answer was lost
        fences.drop_opened(tx, context.schema, [t.target for t in plan.tables])
        machine.fire(tx, run, "rollback")
        runs.update(tx, context.run_id, writes_served_by="source", cutover_phase=None)
        failpoint("rollback.state.before_commit")
    failpoint("rollback.state.after_commit")


def _off_again(context: Context, tx: Transaction, item: progress.Deferred) -> None:
    if item.kind == "trigger":
        statement = sql.SQL("ALTER TABLE ONLY {} DISABLE TRIGGER {}")
        table = sql.Identifier(item.table.schema, item.table.name)
        tx.pg.execute(statement.format(table, sql.Identifier(item.name)))
        progress.set_deferred(tx, context.run_id, item, "off")
    else:
        foreign_keys.relax(tx, item)
        if (item.detail or {}).get("validated") and item.interim is not None:
            foreign_keys.validate(tx, item)
        progress.set_deferred(tx, context.run_id, item, "interim")
