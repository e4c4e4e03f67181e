"""Capture, and applying changes to the target: within ``migrate``, and by ``follow`` until the cutover."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

import psycopg

from confiture import fingerprint
from confiture.capture import apply, triggers, write_block
from confiture.capture.apply import Follower, Pass
from confiture.capture.triggers import Captured
from confiture.errors import CannotConnect, GaveWay
from confiture.failpoints import failpoint
from confiture.journal import catch_up, table_plans
from confiture.plan.model import Plan
from confiture.postgres.retry import retry
from confiture.postgres.session import brief_lock
from confiture.postgres.yielding import yielding
from confiture.runner.capacity import cores
from confiture.runner.context import Context
from confiture.schema_to_schema import background_verification
from confiture.schema_to_schema.background_verification import Rounds
from confiture.schema_to_schema.blockers import wait_for_locks
from confiture.schema_to_schema.changed_key_verification import ChangedKeyVerification
from confiture.schema_to_schema.plan_store import has_rows
from confiture.types import counted

#: Number of log rows that the write pause of a cutover suffices to drain.
SMALL_BACKLOG = 1_000
#: Passes in a row that do not shrink the backlog, after which a drain ends.
STALLED_PASSES = 2
#: Seconds between two checks that the target still rejects writes, while no pass checks it.
CHECK_SECONDS = 10.0
#: Seconds between two passes of ``follow`` when the backlog is small.
IDLE_SECONDS = 1.0
#: Seconds between two measurements of the backlog beside other work, and the share of the time that they may take.
MEASURE_SECONDS, MEASURE_SHARE = 10.0, 0.02


class Draining:
    """Reports the passes of one drain, and decides when it ends.

    A drain ends when the backlog is small. It also ends when :data:`STALLED_PASSES` passes in a row have not shrunk the
    backlog, because an application that writes as fast as the passes apply would keep it from ending.

    :param name: of its passes, for progress.
    """

    def __init__(self, context: Context, name: str = "pass") -> None:
        self._context = context
        self._name = name
        self._least: int | None = None
        self._stalled = 0

    def is_done(self, made: Pass, left: int) -> bool:
        """Report a pass that left ``left`` log rows; whether it was the last one."""
        if made.keys:
            self._context.progress.say(described(self._name, made, left))
        if left <= SMALL_BACKLOG:
            return True
        self._stalled = self._stalled + 1 if self._least is not None and left >= self._least else 0
        self._least = left if self._least is None else min(left, self._least)
        if self._stalled < STALLED_PASSES:
            return False
        self._context.progress.say(
            f"the last {STALLED_PASSES} passes have not shrunk the backlog of {left:,} changes:"
            " the application writes as fast as they are applied"
        )
        return True


def described(name: str, made: Pass, left: int) -> str:
    """A pass as a line of progress; ``left`` log rows wait."""
    return f"{name} {made.number}: {counted(made.keys, 'key')}, {counted(made.rows, 'row')}; {left:,} waiting"


def install(context: Context, plan: Plan) -> None:
    """Create capture on every source table, committed before any row is read; resumable table by table.

    The capture of a table of which nothing is copied is created again if it was disabled, dropped or is incomplete. It
    is not created again for a table that has rows, because changes made in between are not in its log.

    :raises Held: when a table cannot be locked for minutes.
    """
    with context.target.transaction(read_only=True) as tx:
        begun = {s.source for s in table_plans.of_run(tx, context.run_id) if has_rows(s)}
    items = [item for item in triggers.captured(plan.tables, context.schema) if item.table not in begun]
    with context.source.transaction(read_only=True) as tx:
        # To replace the triggers of a table, a session waits for readers too.
        captured = fingerprint.recorded(tx, context.schema, fingerprint.CAPTURE)
        intact = triggers.intact(tx, items)
    for item in items:
        context.checkpoint()
        if item.table not in intact:
            work = partial(_install_one, context, item)
            wait_for_locks(context, "source", [item.table], work, readers=item.table in captured)
    failpoint("capture.installed")


def _install_one(context: Context, item: Captured) -> None:
    # Durable together: the table's log and its triggers.
    with context.fenced_source("capture") as tx:
        brief_lock(tx)
        if triggers.is_intact(tx, item):
            return
        triggers.remove(tx, item)
        triggers.install(tx, item)


def close_target(context: Context, plan: Plan) -> None:
    """Close the target to writes of every session except those of Confiture (I-8.1)."""
    retry(partial(_close_target, context, plan))


def _close_target(context: Context, plan: Plan) -> None:
    # Durable together: every planned table has the write block, and it rejects writes.
    with context.fenced("close_target") as tx:
        hint = f"it is the target of the running migration {context.schema}; write to the source"
        message = "this database does not accept writes yet"
        if not write_block.is_blocked(tx, context.schema):
            write_block.block(tx, context.schema, message, hint)
        write_block.install(tx, context.schema, [t.target for t in plan.tables])


def measure(context: Context, plan: Plan) -> int:
    """Measure the backlog of the target, record it for ``status``; the number of log rows that wait."""
    return _note(context, *retry(partial(_backlog, context, plan)))


class BacklogWatch:
    """Measures the backlog at intervals while other work takes the time of the passes: a copy, an index build."""

    def __init__(self, context: Context, plan: Plan) -> None:
        self._context = context
        self._plan = plan
        self._due = time.monotonic() + MEASURE_SECONDS

    def look(self) -> None:
        """Measure, if it is due. A source that does not answer, or must not be kept waiting, is measured later.

        :raises Held: when the run was taken over.
        """
        began = time.monotonic()
        if began < self._due:
            return
        with suppress(psycopg.Error, CannotConnect, GaveWay):
            _note(self._context, *_backlog(self._context, self._plan))
        now = time.monotonic()
        self._due = now + max(MEASURE_SECONDS, (now - began) / MEASURE_SHARE)


def _note(context: Context, began: float, found: tuple[int, float]) -> int:
    """Record a backlog that was read since ``began``; its log rows."""
    rows, oldest = found
    # Durable together: rows and age of the backlog, and up to when the target has every change.
    with context.fenced("follow.backlog") as tx:
        catch_up.note_backlog(tx, context.run_id, rows, oldest, oldest + time.monotonic() - began)
    return rows


def _backlog(context: Context, plan: Plan) -> tuple[float, tuple[int, float]]:
    """The backlog, and a moment by ``time.monotonic()`` before it was read.

    A change whose log row is older than every one that waits is in the target (docs/invariants.md, I-13.1).
    """
    began = time.monotonic()
    with yielding(context.source), context.source.transaction(read_only=True) as tx:
        return began, triggers.backlog(tx, triggers.captured(plan.tables, context.schema))


def with_helpers(context: Context, plan: Plan, jobs: int | None = None) -> Follower:
    """A follower of every table, whose large passes apply independent tables at the same time.

    :param jobs: groups of tables at the same time, if there are connections for them; None for one per core.
    """
    return Follower(context, apply.followed(context, plan), jobs or cores())


def drain(context: Context, plan: Plan, *, record_changed: bool, jobs: int | None = None) -> int:
    """Catch up until the backlog is small or no longer shrinks; the number of rows applied.

    :param record_changed: record the keys, because a verification has compared their rows.
    :param jobs: as in :func:`with_helpers`.
    """
    applied = 0
    draining = Draining(context)
    with with_helpers(context, plan, jobs) as follower:
        while True:
            context.checkpoint()
            made = one_pass(follower, record_changed=record_changed)
            applied += made.rows
            if draining.is_done(made, measure(context, plan)):
                return applied


def single(context: Context, plan: Plan) -> Pass:
    """One pass that begins now, so that every change logged so far is applied."""
    with with_helpers(context, plan) as follower:
        return one_pass(follower, record_changed=True)


def one_pass(follower: Follower, *, record_changed: bool) -> Pass:
    """One pass, repeated after transient errors: it is idempotent."""
    return retry(lambda: follower.catch_up(record_changed=record_changed))


def follow(context: Context, plan: Plan, *, once: bool, verify_every: float | None = None) -> int:
    """Apply changes to the target until a signal arrives, and compare: changed rows soon, every row at a low rate.

    :param once: end when the backlog is small and every changed row was compared once; the number of rows applied.
    :param verify_every: seconds from one complete verification to the next; 0 for none. None for the default, which is
        none with ``once``. With ``once``, a round that is due is completed without pauses.
    """
    apply.refuse_behind(context)
    with with_helpers(context, plan) as follower:

        def catch_up() -> Pass:
            return one_pass(follower, record_changed=True)

        changed = ChangedKeyVerification(context, plan, follower.followed, catch_up)
        every = (0.0 if once else background_verification.EVERY_SECONDS) if verify_every is None else verify_every
        share = 1.0 if once else background_verification.SHARE
        again = Rounds(context, plan, follower.followed, catch_up, every=every, share=share) if every else None
        if once:
            applied = drain(context, plan, record_changed=True)
            while changed.compare_next() or (again is not None and again.compare_next()):
                context.checkpoint()
            return applied
        checked = time.monotonic()
        while True:
            context.checkpoint()
            made = catch_up()
            left = measure(context, plan)
            if time.monotonic() - checked > CHECK_SECONDS:
                refuse_damaged_block(context)
                checked = time.monotonic()
            if made.keys:
                context.progress.say(described("pass", made, left))
            if left <= SMALL_BACKLOG and not changed.compare_next():
                if again is not None:
                    again.compare_next()
                time.sleep(IDLE_SECONDS)


def refuse_damaged_block(context: Context) -> None:
    """Check the target's write block, whether or not a pass has work (docs/invariants.md, I-13.3).

    :raises Blocked: when one of its triggers was disabled or dropped.
    """
    with yielding(context.target), context.target.transaction(read_only=True) as tx:
        write_block.refuse_damaged(tx, context.schema, "target")


def remove(context: Context, plan: Plan) -> None:
    """Drop capture from the source."""
    for item in triggers.captured(plan.tables, context.schema):
        wait_for_locks(context, "source", [item.table], partial(_remove_one, context, item))


def _remove_one(context: Context, item: Captured) -> None:
    # Durable together: the table has no capture.
    with context.fenced_source("capture.removed") as tx:
        brief_lock(tx)
        triggers.remove(tx, item)
