"""cutover for an application that is stopped: lock, verify again under the lock, switch.

Before the state's commit nothing has happened that the source would notice; after it there is only
forward. The source stays locked against writes until that commit is durable (correctness.md, 8).
"""

from __future__ import annotations

import random
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture import machine, sequences
from confiture.db import Session, Transaction
from confiture.errors import CutoverGivenUp, Refused
from confiture.faults import failpoint
from confiture.journal import progress, runs, verifications
from confiture.journal.progress import Deferred
from confiture.plan import Plan
from confiture.projection import raw
from confiture.runner import Context, check_source_fence
from confiture.states import CUTOVER, VERIFIED
from confiture.steps import finish, verify
from confiture.steps.journaled import Step, run_steps
from confiture.types import TableRef

_ENABLE = {"O": "ENABLE TRIGGER", "A": "ENABLE ALWAYS TRIGGER", "R": "ENABLE REPLICA TRIGGER"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to wait for the source's locks, each try and all together; and to hold writers up under them."""

    lock_timeout: float = 0.5
    give_up_after: float = 30.0
    max_write_pause: float = 5.0


def cutover(context: Context, plan: Plan, limits: Limits) -> None:
    """Switch to the target. Killed before the state is written, the source serves on.

    :raises Refused: when the run is not verified.
    :raises CutoverGivenUp: when the lock was not had, or anything differs under it.
    """
    refuse_unverified(context, plan)
    _as_declared(context)
    locked(context, plan, limits, lambda source: _under_lock(context, source, plan))


def refuse_unverified(context: Context, plan: Plan) -> None:
    """:raises Refused: when the run is not verified, or not by this plan."""
    run = context.run()
    if run.state not in (VERIFIED, CUTOVER):
        raise Refused(
            f"the run is in state {run.state}, not verified",
            why="only what was verified is cut over",
            fix=f"confiture migrate schema-to-schema verify --target {run.target_name}",
        )
    _refuse_stale(context, plan)


def _refuse_stale(context: Context, plan: Plan) -> None:
    with context.target.transaction(read_only=True) as tx:
        last = verifications.latest(tx, context.run_id, "verify")
    if last is None or last.verdict != "equal" or last.plan_hash != plan.hash:
        raise Refused("the verification is stale", why="the plan changed since", fix="verify again")


def _as_declared(context: Context) -> None:
    """Foreign keys as declared, each in a step of its own, before anything is locked."""
    with context.target.transaction(read_only=True) as tx:
        keys = progress.deferred(tx, context.run_id, "foreign_key")
    steps = [Step(f"foreign key {k.name} on {k.table} as declared", act=_declare(k)) for k in keys]
    run_steps(context, "cutover", steps)


def _table(ref: TableRef) -> sql.Identifier:
    return sql.Identifier(ref.schema, ref.name)


def _declare(item: Deferred) -> Callable[[Context, Transaction], None]:
    def act(context: Context, tx: Transaction) -> None:
        detail = item.detail or {}
        if item.interim is not None and detail["plain"] and not detail["partitioned"]:
            mode = "NOT DEFERRABLE" if not detail["deferrable"] else "DEFERRABLE INITIALLY IMMEDIATE"
            if not detail["deferred"]:
                statement = sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} {}")
                tx.pg.execute(statement.format(_table(item.table), sql.Identifier(item.name), sql.SQL(mode)))
        elif item.interim is not None:
            _replace(tx, item)
        progress.set_deferred(tx, context.run_id, item, "back")

    return act


def _replace(tx: Transaction, item: Deferred) -> None:
    """The declared key beside its substitute, validated, then in its place: never without one."""
    table, name = _table(item.table), sql.Identifier(item.name)
    interim = sql.Identifier("confiture_interim")
    statement = sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}")
    tx.pg.execute(statement.format(table, name, interim))
    tx.pg.execute(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, raw(item.definition)))
    tx.pg.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, interim))
    finish.comment_on(tx, item)


def locked(context: Context, plan: Plan, limits: Limits, act: Callable[[Transaction], None]) -> None:
    """Run ``act`` under the source's lock and commit; whatever it raises releases the source untouched."""
    with Session(context.source.database, "cutover", context.schema[-8:]) as locker:
        _try_locked(context, locker, plan, limits, act)


def _try_locked(
    context: Context, locker: Session, plan: Plan, limits: Limits, act: Callable[[Transaction], None]
) -> None:
    deadline = time.monotonic() + limits.give_up_after
    while True:
        context.check_lease()
        try:
            with locker.transaction() as source:
                check_source_fence(source, context.schema, context.epoch)
                _lock(source, plan, limits)
                failpoint("cutover.locked")
                act(source)
            return
        except psycopg.errors.LockNotAvailable:
            blockers = _blockers(context, plan)
            if time.monotonic() > deadline:
                raise CutoverGivenUp(
                    "the cutover was given up: the source's tables could not be locked",
                    why=f"in the way: {blockers or 'sessions that ended meanwhile'}",
                    fix="end those sessions or wait for them, then run the same command again; the source serves on",
                ) from None
            context.progress.say(f"waiting for locks held by {blockers or 'somebody'}")
            time.sleep(random.uniform(0.2, 1.0))


def _lock(source: Transaction, plan: Plan, limits: Limits) -> None:
    if not plan.tables:
        return
    tables = verify.lock_list(plan)
    # The first keeps autovacuum away and blocks no writer, so the second waits for writers only.
    for mode, timeout in (
        ("SHARE UPDATE EXCLUSIVE", limits.give_up_after),
        ("SHARE ROW EXCLUSIVE", limits.lock_timeout),
    ):
        source.pg.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{int(timeout * 1000)}ms")))
        source.pg.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(tables, sql.SQL(mode)))


def _blockers(context: Context, plan: Plan) -> str:
    """Who holds a lock on the source's tables that writers need."""
    names = [f"{t.source.schema}.{t.source.name}" for t in plan.tables]
    with context.source.transaction() as tx:
        rows = tx.pg.execute(
            "SELECT DISTINCT a.pid, a.usename, a.application_name, a.state,"
            " date_trunc('second', clock_timestamp() - a.xact_start)::text"
            " FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_stat_activity a ON a.pid = l.pid"
            " WHERE l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')"
            " AND n.nspname || '.' || c.relname = ANY (%s) AND a.application_name !~ '^confiture '",
            (names,),
        ).fetchall()
    return "; ".join(f"pid {r[0]} ({r[1]}, {r[2] or 'no name'}, {r[3]}, {r[4]})" for r in rows[:5])


def _under_lock(context: Context, source: Transaction, plan: Plan) -> None:
    result = verify.verify(context, plan, purpose="cutover")
    if not result.equal:
        raise CutoverGivenUp(
            "the cutover was given up: source and target differ",
            why=f"{len(result.differences)} differences under the lock, the first in "
            f"{result.differences[0].subject if result.differences else 'the counts'}",
            fix="the source serves on; stop the application's writes, then migrate and verify again",
        )
    with context.fenced() as tx:  # sequences, triggers and the state change together
        sequences.set_all(context.source, tx, plan)
        for item in progress.deferred(tx, context.run_id, "trigger"):
            _enable(tx, item)
            progress.set_deferred(tx, context.run_id, item, "back")
        run = runs.get(tx, context.run_id)
        assert run is not None
        machine.fire(tx, run, "cutover", {"verification": result.number})
        runs.update(tx, context.run_id, writes_served_by="target")
        failpoint("cutover.before_commit")
    failpoint("cutover.after_commit")


def _enable(tx: Transaction, item: Deferred) -> None:
    how = _ENABLE[(item.detail or {}).get("enabled", "O")]
    statement = sql.SQL("ALTER TABLE {} {} {}")
    tx.pg.execute(statement.format(_table(item.table), sql.SQL(how), sql.Identifier(item.name)))


def run_hook(command: str, environment: dict[str, str]) -> int:
    """Run the operator's command without a shell; its exit code.

    :param environment: the whole environment it gets; no secret of ours is in it.
    """
    return subprocess.run(shlex.split(command), env=environment, check=False).returncode
