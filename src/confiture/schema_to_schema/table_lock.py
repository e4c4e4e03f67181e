"""The lock against writers that a cutover or a rollback takes, under one deadline for all of its tables.

Each attempt drains the log first, because it grows while the lock is waited for. A waiting lock delays writers, so an
attempt is short, and the write pause counts from its beginning (docs/invariants.md, I-8.2 and I-8.10).
https://www.postgresql.org/docs/current/explicit-locking.html
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil

import psycopg
from psycopg import sql

from confiture.errors import CutoverAborted
from confiture.failpoints import failpoint
from confiture.postgres.budget import Budget
from confiture.postgres.retry import LOCK_CONFLICTS, repeated
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import holding_on
from confiture.runner.context import Context
from confiture.schema_to_schema import blockers
from confiture.schema_to_schema.blockers import Blocker
from confiture.types import TableRef

#: Seconds between two attempts: the first, the longest, and how much of it is left to chance.
FIRST_WAIT, LONGEST_WAIT, JITTER = 0.2, 5.0, 0.5
#: Seconds within which the server cancels an autovacuum that blocks us (deadlock_timeout and a little).
EVICTION_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to wait for the locks, in each attempt and altogether; and to delay writers.

    :ivar terminate_blockers: end the sessions that block an attempt.
    :ivar max_verification_age: seconds since the last complete verification began, at most; None for any.
    """

    lock_timeout: float = 0.5
    give_up_after: float = 30.0
    max_write_pause: float = 5.0
    terminate_blockers: bool = False
    max_verification_age: float | None = None


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables of one side that are locked against writes; ``names`` as SQL, ``command`` for errors."""

    side: str
    refs: tuple[TableRef, ...]
    names: sql.Composable
    fence: Callable[[Transaction], None]
    command: str = "cutover"


class TryAgain(Exception):
    """Raised under the lock: it is released, and taken again after the log is drained.

    :param side: where sessions block it; None when no session does.
    """

    def __init__(self, why: str, side: str | None = None, tables: Sequence[TableRef] = ()) -> None:
        super().__init__(why)
        self.side = side
        self.tables = tuple(tables)


@dataclass(frozen=True, slots=True)
class Work:
    """What a switch does around its lock.

    :ivar before: before each attempt, without any lock; drains the log.
    :ivar opening: the transaction on the other side, entered before the lock and committed after the lock's; None
        where there is none.
    :ivar act: under the lock, with what is left of the write pause; what it raises releases the lock.
    """

    before: Callable[[], None]
    opening: Callable[[ExitStack], Transaction | None]
    act: Callable[[Transaction, Transaction | None, Budget], None]


def locked(
    context: Context, locker: Session, what: Tables, limits: Limits, work: Work, until: float | None = None
) -> None:
    """Run ``work.act`` under the lock and commit; then the other side's transaction commits.

    :param until: of the write pause, by ``time.monotonic()``, where writers are held up already.
    :raises CutoverAborted: when the lock could not be acquired, or the write pause is used up; nothing has changed.
    """
    deadline = time.monotonic() + limits.give_up_after
    for tried in itertools.count():
        context.check_lease()
        work.before()
        side, tables, readers = what.side, what.refs, False
        try:
            _attempt(locker, what, limits, work, deadline, until)
            return
        except TryAgain as again:
            # Enabling a rule, for one, waits for readers too.
            side, tables, readers = again.side or side, again.tables or tables, again.side is not None
        except LOCK_CONFLICTS:
            pass
        _make_way(context, side, tables, limits, deadline, tried, readers=readers, command=what.command)


def _attempt(locker: Session, what: Tables, limits: Limits, work: Work, deadline: float, until: float | None) -> None:
    with ExitStack() as other:
        opening = work.opening(other)
        with locker.transaction() as tx:
            what.fence(tx)
            _evict_autovacuum(tx, what, limits, deadline)
            end = time.monotonic() + limits.max_write_pause
            with Budget(limits.lock_timeout, end if until is None else min(end, until)) as budget:
                budget.limit(tx.pg)
                try:
                    _lock_in(tx, what, "SHARE ROW EXCLUSIVE", limits.lock_timeout)
                    budget.limit(tx.pg)
                    failpoint("cutover.locked")
                    with holding_on():
                        work.act(tx, opening, budget)
                except psycopg.Error as error:
                    if budget.spent:
                        raise too_late(what.command) from error
                    raise
                if budget.spent:
                    raise too_late(what.command)
        failpoint("switch.after_point_of_no_return")
    failpoint("switch.after_open_commit")


@contextmanager
def prepared(budget: Budget, opening: Transaction, side: str, tables: Sequence[TableRef]) -> Iterator[None]:
    """Within what is left of the write pause, have the block change a side that opens with the other's closing.

    :raises TryAgain: when sessions there are in the way.
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
    """Run ``work``, a transaction begun by :func:`brief_lock` before anything is closed, until it has its locks.

    :param deadline: by ``time.monotonic()``.
    :param readers: whether sessions that only read block it too.
    :raises CutoverAborted: when it has not had them by then; the sessions in the way are named.
    """
    for tried in itertools.count():
        context.check_lease()
        try:
            repeated(work)
            return
        except LOCK_CONFLICTS:
            _make_way(context, side, tables, limits, deadline, tried, readers=readers)


def too_late(command: str) -> CutoverAborted:
    """The write pause has used up its budget."""
    return CutoverAborted(
        f"{command} aborted: the write pause would exceed --max-write-pause",
        why="the last changes were not applied and compared in time",
        fix="nothing has changed; retry when there is less load, or allow a longer --max-write-pause",
    )


def _evict_autovacuum(tx: Transaction, what: Tables, limits: Limits, deadline: float) -> None:
    """A lock that cancels autovacuum and blocks no writer, so that the next one waits for writers only."""
    patience = max(limits.lock_timeout, deadline - time.monotonic())
    if limits.terminate_blockers:  # what blocks after that is to be ended, not waited for
        patience = min(patience, max(limits.lock_timeout, EVICTION_SECONDS))
    _lock_in(tx, what, "SHARE UPDATE EXCLUSIVE", patience)


def _lock_in(tx: Transaction, what: Tables, mode: str, seconds: float) -> None:
    """One deadline for the statement: lock_timeout counts for each of its tables. What follows sets its own limits."""
    if not what.refs:
        return
    timeout = sql.Literal(f"{ceil(seconds * 1000)}ms")
    tx.pg.execute(sql.SQL("SET LOCAL lock_timeout = {0}; SET LOCAL statement_timeout = {0}").format(timeout))
    try:
        tx.pg.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(what.names, sql.SQL(mode)))
    except psycopg.errors.QueryCanceled as error:
        raise TryAgain("the tables could not be locked in time") from error


def _make_way(
    context: Context,
    side: str,
    tables: Sequence[TableRef],
    limits: Limits,
    deadline: float,
    tried: int,
    *,
    readers: bool,
    command: str = "cutover",
) -> None:
    """After an attempt that failed: name the sessions that block it, end or outwait them, abort past the deadline."""
    found = blockers.find(context, side, tables, readers=readers)
    if time.monotonic() >= deadline:
        raise _not_locked(found, side, limits, command)
    if limits.terminate_blockers and blockers.end(context, side, found):
        return
    if found:
        context.progress.say(f"waiting for locks held by {blockers.told(found)}")
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2**tried)
    time.sleep(min(random.uniform(JITTER, 1.0) * longest, max(0.0, deadline - time.monotonic())))


def _not_locked(found: Sequence[Blocker], side: str, limits: Limits, command: str) -> CutoverAborted:
    endable = any(b.can_be_ended for b in found) and not limits.terminate_blockers
    option = "; --terminate-blockers ends such sessions" if endable else ""
    return CutoverAborted(
        f"{command} aborted: the {side}'s tables could not be locked",
        why=f"blocked by {blockers.told(found) or 'sessions that have ended since'}",
        fix=f"end these sessions or wait for them, then run the same command again{option}; nothing has changed",
    )
