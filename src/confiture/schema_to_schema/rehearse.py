"""cutover --dry-run: everything up to the lock, with each part of the write pause measured.

A condition that aborts a cutover is the problem of its rehearsal, with the same error. The rehearsal catches up and
compares, as ``follow`` and ``verify`` do at any time. All other changes are made in transactions that are rolled back,
and no lock is taken that blocks a writer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from psycopg import sql

from confiture.capture import apply, write_block
from confiture.capture.apply import Follower
from confiture.capture.reverse_apply import ReverseFollower
from confiture.compare import changed_keys
from confiture.compare.checksum import Hashing
from confiture.copy.run_table import RunTable
from confiture.errors import CutoverAborted
from confiture.journal import runs
from confiture.journal import source as run_schema
from confiture.plan.model import Plan
from confiture.postgres.retry import LOCK_CONFLICTS
from confiture.runner.context import Context
from confiture.schema_to_schema import (
    blockers,
    cutover,
    cutover_offline,
    follow,
    keyless,
    large_objects,
    rollback,
    sequences,
    verify,
)
from confiture.schema_to_schema.cutover_offline import Differs
from confiture.schema_to_schema.outcomes import Blocker, Limits, Part, Rehearsal
from confiture.schema_to_schema.stopwatch import Stopwatch
from confiture.schema_to_schema.table_lock import Tables
from confiture.types import counted

#: Time to wait for the lock that permits writers. The sessions that block it are reported.
LOCK_TIMEOUT = "100ms"


def rehearse(context: Context, plan: Plan, limits: Limits, *, ignore_blockers: bool = False) -> Rehearsal:
    """Rehearse the cutover of an application that writes.

    :param ignore_blockers: sessions that block the lock now are no problem.
    """

    def measure(watch: Stopwatch) -> None:
        cutover_offline.refuse_stale(context, plan)
        hashing = changed_keys.hashing_of(context, plan)
        cutover.synchronise(context, plan, hashing)
        _lock(context, cutover.tables_to_lock(context, plan), watch)
        followed = apply.followed(context, plan)
        jobs = [j for f in followed for j in f.jobs]
        _last_changes(Follower(context, followed), "catch up", jobs, hashing, watch)
        if again := sum(t.recopied for t in plan.tables):
            with watch.measuring(f"copy {counted(again, 'table')} without a key"):
                keyless.rehearse(context, plan, hashing)
        if plan.large_objects is not None:
            with watch.measuring("compare the large objects"):
                large_objects.synchronise(context, plan)
        _sequences(context, plan, watch)
        _close_source(context, watch)
        with watch.measuring("open the target"):
            cutover.rehearse_opening(context, plan, limits)

    parts, problem = _measured(measure)
    found = Rehearsal(parts, _blockers(context, plan), limits.lock_timeout, problem, problem is None)
    return _judged(found, limits, ignore_blockers)


def rehearse_rollback(context: Context, plan: Plan, limits: Limits, *, ignore_blockers: bool = False) -> Rehearsal:
    """Rehearse a rollback up to its lock.

    :param ignore_blockers: as in :func:`rehearse`.
    :raises Refused: when a rollback is not possible.
    """

    def measure(watch: Stopwatch) -> None:
        hashing = changed_keys.hashing_of(context, plan)
        rollback.prepare(context, plan, hashing)
        _lock(context, rollback.target_tables(context, plan), watch)
        jobs = [RunTable(t, context.schema) for t in plan.tables]
        _last_changes(ReverseFollower(context, plan), "apply the last changes", jobs, hashing, watch)
        if plan.large_objects is not None:
            with watch.measuring("compare the large objects"):
                large_objects.synchronise_back(context, plan)
        with watch.measuring("open the source"):
            rollback.rehearse_opening(context)
        with context.target.rehearsal() as tx:
            runs.fence(tx, context.run_id, context.epoch)
            with watch.measuring("close the target"):
                write_block.block(tx, context.schema, "", "")

    parts, problem = _measured(measure)
    blocking = tuple(blockers.find(context, "target", [t.target for t in plan.tables]))
    found = Rehearsal(parts, blocking, limits.lock_timeout, problem, problem is None)
    return _judged(found, limits, ignore_blockers)


def _measured(measure: Callable[[Stopwatch], None]) -> tuple[tuple[Part, ...], CutoverAborted | None]:
    """The parts that were measured, and what ended the measurement; None when it was completed."""
    watch = Stopwatch()
    try:
        measure(watch)
    except CutoverAborted as error:
        return watch.parts, error
    return watch.parts, None


def rehearse_stopped(context: Context, plan: Plan, limits: Limits, *, ignore_blockers: bool = False) -> Rehearsal:
    """Rehearse the cutover of a stopped application, whose pause is the comparison of every row.

    :param ignore_blockers: as in :func:`rehearse`.
    """

    def measure(watch: Stopwatch) -> None:
        cutover_offline.refuse_stale(context, plan)
        _lock(context, cutover_offline.source_tables(context, plan), watch)
        with watch.measuring("compare every row"):
            result = verify.compare(context, plan)
        if not result.equal:
            raise Differs(result)
        _sequences(context, plan, watch)
        cutover_offline.rehearse_declaring(context)
        with watch.measuring("switch"):
            cutover_offline.rehearse_switch(context)

    parts, problem = _measured(measure)
    found = Rehearsal(parts, _blockers(context, plan), limits.lock_timeout, problem, problem is None)
    return replace(found, problem=problem or _blocked(found, limits, ignore_blockers))


def _blockers(context: Context, plan: Plan) -> tuple[Blocker, ...]:
    return tuple(blockers.find(context, "source", [t.source for t in plan.tables]))


def _lock(context: Context, what: Tables, watch: Stopwatch) -> None:
    """Measure the connection and a lock that permits writers, which needs the same privilege as the real one."""
    with watch.measuring(f"lock the {what.side}"), context.beside("rehearsal", side=what.side) as locker:
        try:
            with locker.rehearsal() as tx:
                what.fence(tx)
                tx.pg.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
                if what.refs:
                    tx.pg.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(what.names))
        except LOCK_CONFLICTS:
            return  # the session that holds it is among the blockers


def _last_changes(follower: Follower, name: str, jobs: Sequence[RunTable], hashing: Hashing, watch: Stopwatch) -> None:
    """Measure a pass over the changes since the last one, and the comparison of the keys that changed."""
    with follower:
        follow.one_pass(follower, record_changed=True)  # opens its sessions, as a cutover does before the lock
        with watch.measuring(name):
            follow.one_pass(follower, record_changed=True)
    _compare_keys(follower.context, jobs, hashing, watch)


def _compare_keys(context: Context, jobs: Sequence[RunTable], hashing: Hashing, watch: Stopwatch) -> None:
    """Measure the comparison of the last changes. Writes continue, so that a difference is not an error here."""
    keys = 0
    began = time.monotonic()
    for job in changed_keys.only(context, jobs):
        for some in changed_keys.batches(context, job):
            changed_keys.differing(context, job, hashing, some)
            keys += len(some)
    watch.add(f"compare {counted(keys, 'key')}", time.monotonic() - began)


def _sequences(context: Context, plan: Plan, watch: Stopwatch) -> None:
    """Measure reading the sequences, twice: setting them takes as long, and cannot be rolled back."""
    began = time.monotonic()
    with context.source.transaction(read_only=True) as a, context.target.transaction(read_only=True) as b:
        sequences.wanted(a, b, plan.sequences, margin=cutover.SEQUENCE_MARGIN)
    watch.add(f"set {counted(len(plan.sequences), 'sequence')}", 2 * (time.monotonic() - began))


def _close_source(context: Context, watch: Stopwatch) -> None:
    """Measure replacing the write block's function; rolled back."""
    with context.source.rehearsal() as tx:
        run_schema.fence(tx, context.schema, context.epoch)
        with watch.measuring("close the source"):
            write_block.block(tx, context.schema, "", "")


def _judged(found: Rehearsal, limits: Limits, ignore_blockers: bool) -> Rehearsal:
    """The rehearsal with the first problem of a switch that began now."""
    blocked = _blocked(found, limits, ignore_blockers)
    return replace(found, problem=found.problem or _too_long(found, limits) or blocked)


def _too_long(found: Rehearsal, limits: Limits) -> CutoverAborted | None:
    if found.seconds <= limits.max_write_pause:
        return None
    longest = max(found.parts, key=lambda p: p.seconds)
    return CutoverAborted(
        "a switch now would be aborted: the write pause would exceed --max-write-pause",
        why=f"measured {found.seconds:.2f} s, --max-write-pause is {limits.max_write_pause:g} s;"
        f" the longest part: {longest.name}, {longest.seconds:.2f} s",
        fix="retry when there is less load, or allow a longer --max-write-pause",
    )


def _blocked(found: Rehearsal, limits: Limits, ignore_blockers: bool) -> CutoverAborted | None:
    # A transaction that ends within the lock timeout delays an attempt and does not fail it.
    lasting = [b for b in found.blockers if b.seconds is None or b.seconds >= found.lock_timeout]
    if limits.terminate_blockers:
        lasting = [b for b in lasting if not b.can_be_ended]
    if ignore_blockers or not lasting:
        return None
    end = ", or switch with --terminate-blockers" if any(b.can_be_ended for b in lasting) else ""
    ended = "it has ended" if len(lasting) == 1 else "they have ended"
    return CutoverAborted(
        "a switch now would not acquire its lock",
        why=f"blocked by {blockers.described(lasting)}",
        fix=f"wait until {ended}{end}; --ignore-blockers rehearses without this check",
    )
