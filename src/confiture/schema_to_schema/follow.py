"""Capture installed, and the target kept fresh: within migrate, and by ``follow`` until the cutover."""

from __future__ import annotations

import time
from functools import partial

from confiture.capture import apply, triggers, write_block
from confiture.capture.apply import Follower, Pass
from confiture.capture.triggers import Captured
from confiture.failpoints import failpoint
from confiture.journal import catch_up, table_plans
from confiture.plan.planner import Plan
from confiture.postgres.retry import retry
from confiture.postgres.session import brief_lock
from confiture.postgres.yielding import yielding
from confiture.runner.context import Context
from confiture.schema_to_schema import background_verification
from confiture.schema_to_schema.background_verification import Rounds
from confiture.schema_to_schema.blockers import outwait
from confiture.schema_to_schema.plan_store import has_rows
from confiture.schema_to_schema.recheck import Recheck

#: A backlog of so many log rows is drained within the cutover's pause.
SMALL_BACKLOG = 1_000
#: Seconds between two passes of ``follow`` when there is little to do.
IDLE_SECONDS = 1.0


def install(context: Context, plan: Plan) -> None:
    """Capture on every source table, committed before any row is read; resumed table by table.

    A table of which nothing is copied gets its capture anew where it was disabled, dropped or outgrown. One that has
    rows does not: what was written meanwhile is not in its log.

    :raises Held: when writers keep a table from being captured for minutes.
    """
    with context.target.transaction(read_only=True) as tx:
        begun = {s.source for s in table_plans.of_run(tx, context.run_id) if has_rows(s)}
    for item in triggers.captured(plan.tables, context.schema):
        context.checkpoint()
        if item.table not in begun:
            outwait(context, "source", [item.table], partial(_install_one, context, item), readers=False)
    failpoint("capture.installed")


def _install_one(context: Context, item: Captured) -> None:
    with context.fenced_source() as tx:
        brief_lock(tx)
        if triggers.is_intact(tx, item):
            return
        triggers.remove(tx, item)
        triggers.install(tx, item)
        failpoint("capture.before_commit")
    failpoint("capture.after_commit")


def close_target(context: Context, plan: Plan) -> None:
    """Close the target to every session but those of Confiture (I-8.1)."""
    retry(partial(_close_target, context, plan))


def _close_target(context: Context, plan: Plan) -> None:
    with context.fenced() as tx:
        hint = f"it is the target of the running migration {context.schema}; write to the old database"
        message = "this database does not take writes yet"
        if not write_block.is_blocked(tx, context.schema):
            write_block.block(tx, context.schema, message, hint)
        for table in write_block.lacking(tx, context.schema, [t.target for t in plan.tables]):
            write_block.install(tx, context.schema, table)
        failpoint("close_target.before_commit")


def measure(context: Context, plan: Plan) -> int:
    """Look how far behind the target is, and write it down; log rows waiting."""
    rows, oldest = retry(partial(_backlog, context, plan))
    with context.fenced() as tx:
        catch_up.note_backlog(tx, context.run_id, rows, oldest)
    return rows


def _backlog(context: Context, plan: Plan) -> tuple[int, float]:
    with yielding(context.source), context.source.transaction(read_only=True) as tx:
        return triggers.backlog(tx, triggers.captured(plan.tables, context.schema))


def drain(context: Context, plan: Plan, *, touch: bool) -> int:
    """Catch up until the backlog is small; rows brought over."""
    brought = 0
    with Follower(context, apply.followed(context, plan)) as follower:
        while True:
            context.checkpoint()
            made = one_pass(follower, touch=touch)
            brought += made.rows
            if measure(context, plan) <= SMALL_BACKLOG:
                return brought


def single(context: Context, plan: Plan) -> Pass:
    """One pass that begins now: what was logged until now is applied."""
    with Follower(context, apply.followed(context, plan)) as follower:
        return one_pass(follower, touch=True)


def one_pass(follower: Follower, *, touch: bool) -> Pass:
    """A pass, again after errors that pass by themselves: it is idempotent."""
    return retry(lambda: follower.catch_up(touch=touch))


def follow(context: Context, plan: Plan, *, once: bool, verify_every: float | None = None) -> int:
    """Keep the target fresh until a signal, compare what changed since it was verified, and at a low rate every row.

    :param once: until the backlog is small and every such row was compared once; the rows brought over.
    :param verify_every: seconds from one complete verification to the next; 0 for none. None for the default, which
        with ``once`` is none; given with it, a round that is due is gone through as fast as can be.
    """
    apply.refuse_behind(context)
    with Follower(context, apply.followed(context, plan)) as follower:

        def catch_up() -> Pass:
            return one_pass(follower, touch=True)

        recheck = Recheck(context, plan, follower.followed, catch_up)
        every = (0.0 if once else background_verification.EVERY_SECONDS) if verify_every is None else verify_every
        share = 1.0 if once else background_verification.SHARE
        again = Rounds(context, plan, follower.followed, catch_up, every=every, share=share) if every else None
        if once:
            brought = drain(context, plan, touch=True)
            while recheck.some() or (again is not None and again.some()):
                context.checkpoint()
            return brought
        while True:
            context.checkpoint()
            made = catch_up()
            left = measure(context, plan)
            if made.keys:
                context.progress.say(f"pass {made.number}: {made.keys:,} keys, {made.rows:,} rows; {left:,} waiting")
            if left <= SMALL_BACKLOG and not recheck.some():
                if again is not None:
                    again.some()
                time.sleep(IDLE_SECONDS)


def remove(context: Context, plan: Plan) -> None:
    """Drop capture from the source."""
    for item in triggers.captured(plan.tables, context.schema):
        outwait(context, "source", [item.table], partial(_remove_one, context, item))


def _remove_one(context: Context, item: Captured) -> None:
    with context.fenced_source() as tx:
        brief_lock(tx)
        triggers.remove(tx, item)
        failpoint("capture.removed.before_commit")
