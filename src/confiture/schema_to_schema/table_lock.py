"""The lock against writers that a cutover or a rollback takes, under one deadline for all of its tables.

Each attempt drains the log first, because the log grows while the lock is awaited. A waiting lock delays writers.
Therefore an attempt is short, and the write pause counts from its beginning (docs/invariants.md, I-8.2 and I-8.10).
https://www.postgresql.org/docs/current/explicit-locking.html
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import ceil

import psycopg
from psycopg import sql

from confiture.errors import CutoverAborted
from confiture.failpoints import failpoint
from confiture.postgres.budget import Budget
from confiture.postgres.retry import LOCK_CONFLICTS, repeated
from confiture.postgres.session import Session, Transaction, limited
from confiture.postgres.yielding import holding_on
from confiture.runner.context import Context
from confiture.schema_to_schema import blockers
from confiture.schema_to_schema.outcomes import Blocker, Limits
from confiture.schema_to_schema.stopwatch import COMMIT, Stopwatch
from confiture.types import TableRef

#: Seconds between two attempts: the first and the longest; and the fraction of it from which jitter is drawn.
FIRST_WAIT, LONGEST_WAIT, JITTER = 0.2, 5.0, 0.5
#: Seconds within which the server cancels an autovacuum that blocks this session (deadlock_timeout with a margin).
EVICTION_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables of one side to lock against writes; ``names`` is SQL, ``command`` is for errors."""

    side: str
    refs: tuple[TableRef, ...]
    names: sql.Composable
    fence: Callable[[Transaction], None]
    command: str = "cutover"


class TryAgain(Exception):
    """Raised under the lock: the lock is released, and acquired again after the log is drained.

    :param side: the side where sessions block the attempt; None when no session does.
    """

    def __init__(self, why: str, side: str | None = None, tables: Sequence[TableRef] = ()) -> None:
        super().__init__(why)
        self.side = side
        self.tables = tuple(tables)


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a cutover or rollback around its lock.

    :ivar before: before each attempt, without any lock; drains the log.
    :ivar opening: the transaction on the other side, begun before the lock and committed after the lock's; None
        without such a transaction.
    :ivar act: under the lock, with the rest of the write pause; an exception releases the lock.
    :ivar sessions: the sessions that ``act`` uses besides the two of the context. Under the lock, each of their
        transactions is limited to the rest of the write pause.
    :ivar watch: measures the parts of the write pause; started here unless writers are paused already.
    """

    before: Callable[[], None]
    opening: Callable[[ExitStack], Transaction | None]
    act: Callable[[Transaction, Transaction | None, Budget], None]
    sessions: tuple[Session, ...] = ()
    watch: Stopwatch = field(default_factory=Stopwatch)


def locked(
    context: Context, locker: Session, what: Tables, limits: Limits, work: Work, until: float | None = None
) -> None:
    """Run ``work.act`` under the lock and commit; then the other side's transaction commits.

    :param until: end of the write pause by ``time.monotonic()``, when writers are already paused; else None.
    :raises CutoverAborted: when the lock could not be acquired, or the write pause is used up; nothing has changed.
    """
    deadline = time.monotonic() + limits.give_up_after
    reported: frozenset[object] = frozenset()
    for tried in itertools.count():
        context.check_lease()
        work.before()
        side, tables, readers = what.side, what.refs, False
        try:
            _attempt(context, locker, what, limits, work, deadline, until)
            return
        except TryAgain as again:
            # On the opening side, readers block as well: enabling a rule, for example, conflicts with them.
            side, tables, readers = again.side or side, again.tables or tables, again.side is not None
        except LOCK_CONFLICTS:
            pass
        reported = _after_failed_attempt(
            context, side, tables, limits, deadline, tried, readers=readers, command=what.command, reported=reported
        )


def _attempt(
    context: Context,
    locker: Session,
    what: Tables,
    limits: Limits,
    work: Work,
    deadline: float,
    until: float | None,
) -> None:
    with ExitStack() as other:
        opening = work.opening(other)
        with locker.transaction() as tx:
            what.fence(tx)
            _evict_autovacuum(tx, what, limits, deadline)
            if until is None:
                work.watch.start()
            end = time.monotonic() + limits.max_write_pause
            with Budget(limits.lock_timeout, end if until is None else min(end, until)) as budget:
                budget.limit(tx.pg)
                try:
                    _lock_in(tx, what, "SHARE ROW EXCLUSIVE", limits.lock_timeout)
                    work.watch.lap(f"lock the {what.side}")
                    budget.limit(tx.pg)
                    failpoint("cutover.locked")
                    with holding_on(), limited(budget, (context.source, context.target, *work.sessions)):
                        work.act(tx, opening, budget)
                except psycopg.Error as error:
                    if budget.spent:
                        raise too_late(what.command) from error
                    raise
                if budget.spent:
                    raise too_late(what.command)
        failpoint("switch.after_point_of_no_return")
    work.watch.lap(COMMIT)
    failpoint("switch.after_open_commit")


@contextmanager
def prepared(budget: Budget, opening: Transaction, side: str, tables: Sequence[TableRef]) -> Iterator[None]:
    """Limit the block, which prepares the opening of one side, to the rest of the write pause.

    :raises TryAgain: when sessions on that side block it.
    """
    budget.limit(opening.pg, idle=False)
    try:
        yield
    except LOCK_CONFLICTS as error:
        raise TryAgain(f"the {side}'s tables could not be locked", side, tables) from error
    finally:
        budget.release(opening.pg)


def within(
    context: Context,
    side: str,
    tables: Sequence[TableRef],
    limits: Limits,
    deadline: float,
    work: Callable[[], None],
    *,
    readers: bool,
) -> None:
    """Repeat ``work``, one transaction that starts with :func:`brief_lock` before a side is closed, until it succeeds.

    :param deadline: by ``time.monotonic()``.
    :param readers: whether sessions that only read block it as well.
    :raises CutoverAborted: when the locks were not acquired by the deadline; names the blocking sessions.
    """
    reported: frozenset[object] = frozenset()
    for tried in itertools.count():
        context.check_lease()
        try:
            repeated(work)
            return
        except LOCK_CONFLICTS:
            reported = _after_failed_attempt(
                context, side, tables, limits, deadline, tried, readers=readers, reported=reported
            )


def too_late(command: str) -> CutoverAborted:
    """The error for a write pause that would exceed its limit."""
    return CutoverAborted(
        f"{command} aborted: the write pause would exceed --max-write-pause",
        why="the last changes were not applied and compared in time",
        fix="nothing has changed; retry when there is less load, or allow a longer --max-write-pause",
    )


def _evict_autovacuum(tx: Transaction, what: Tables, limits: Limits, deadline: float) -> None:
    """Acquire a lock that cancels autovacuum and blocks no writer, so that the next lock waits for writers only."""
    patience = max(limits.lock_timeout, deadline - time.monotonic())
    if limits.terminate_blockers:  # sessions that block longer are terminated instead of awaited
        patience = min(patience, max(limits.lock_timeout, EVICTION_SECONDS))
    _lock_in(tx, what, "SHARE UPDATE EXCLUSIVE", patience)


def _lock_in(tx: Transaction, what: Tables, mode: str, seconds: float) -> None:
    """Lock with one deadline for all tables, because lock_timeout applies to each. Later statements set their own."""
    if not what.refs:
        return
    timeout = sql.Literal(f"{ceil(seconds * 1000)}ms")
    tx.pg.execute(sql.SQL("SET LOCAL lock_timeout = {0}; SET LOCAL statement_timeout = {0}").format(timeout))
    try:
        tx.pg.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(what.names, sql.SQL(mode)))
    except psycopg.errors.QueryCanceled as error:
        raise TryAgain("the tables could not be locked in time") from error


def _after_failed_attempt(
    context: Context,
    side: str,
    tables: Sequence[TableRef],
    limits: Limits,
    deadline: float,
    tried: int,
    *,
    readers: bool,
    command: str = "cutover",
    reported: frozenset[object],
) -> frozenset[object]:
    """Report the sessions that blocked an attempt; terminate them or wait; abort after the deadline.

    :param reported: the sessions that were reported last; the same sessions are not reported again.
    :returns: the sessions that were found now.
    :raises CutoverAborted: after the deadline.
    """
    found = blockers.find(context, side, tables, readers=readers)
    if time.monotonic() >= deadline:
        raise _not_locked(found, side, limits, command)
    now = blockers.identities(found)
    if limits.terminate_blockers and blockers.end(context, side, found):
        return now
    if found and now != reported:
        context.progress.say(f"waiting for locks held by {blockers.described(found)}")
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2**tried)
    time.sleep(min(random.uniform(JITTER, 1.0) * longest, max(0.0, deadline - time.monotonic())))
    return now or reported


def _not_locked(found: Sequence[Blocker], side: str, limits: Limits, command: str) -> CutoverAborted:
    endable = any(b.can_be_ended for b in found) and not limits.terminate_blockers
    option = "; --terminate-blockers terminates such sessions" if endable else ""
    return CutoverAborted(
        f"{command} aborted: the {side}'s tables could not be locked",
        why=f"blocked by {blockers.described(found) or 'sessions that have ended since'}",
        fix=f"terminate these sessions or wait for them, then run the same command again{option}; nothing has changed",
    )
