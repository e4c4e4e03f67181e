"""The sessions that block the locks on tables, and terminating them, on request only.

A session of Confiture is never among them. It is recognised by the process ID and start time in the journal, not by
its application_name, which any application may set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg

from confiture.config import excerpt
from confiture.errors import Held, Refused
from confiture.journal import runs
from confiture.postgres.retry import LOCK_CONFLICTS, retry
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.schema_to_schema.outcomes import Blocker
from confiture.sql import load
from confiture.types import TableRef

_NAMED = load("cutover.sql")
#: Number of blockers that a message names. The others are named when these have ended.
SHOWN = 5
#: Seconds after which a transaction is reported as blocking a setup.
YOUNG_SECONDS = 1.0
#: Seconds after which waiting for a lock that is not urgent is aborted.
BRIEF_LOCK_SECONDS = 300

T = TypeVar("T")


def described(found: Sequence[Blocker]) -> str:
    """The first blockers for a message; empty when there are none."""
    return "; ".join(map(str, found[:SHOWN]))


def identities(found: Sequence[Blocker]) -> frozenset[object]:
    """The blockers without their figures, which change from attempt to attempt."""
    return frozenset((b.pid, b.started, b.gid) for b in found)


def find(context: Context, side: str, tables: Sequence[TableRef], *, readers: bool = False) -> list[Blocker]:
    """The sessions with a lock on tables of a side that conflicts with a lock against writers, the oldest first.

    :param side: ``source`` or ``target``.
    :param readers: include sessions that only read.
    """
    context.record_backends()
    assert context.recorded is not None
    ours = context.recorded.source if side == "source" else context.recorded.target
    values = {
        "schemas": [t.schema for t in tables],
        "names": [t.name for t in tables],
        "pids": [b.pid for b in ours],
        "starts": [b.started for b in ours],
        "readers": readers,
    }
    with (context.source if side == "source" else context.target).transaction(read_only=True) as tx:
        rows = tx.pg.execute(_NAMED["blockers"], values).fetchall()
    return [blocker_of(*row) for row in rows]


def lasting(tx: Transaction, tables: Sequence[TableRef]) -> list[Blocker]:
    """The sessions that would keep a setup from its locks now, the oldest first.

    A transaction that is younger than :data:`YOUNG_SECONDS` is not among them: a setup tries again.

    :param tx: of a session that has locked none of the tables against writers.
    """
    values = {"schemas": [t.schema for t in tables], "names": [t.name for t in tables]}
    rows = tx.pg.execute(_NAMED["blockers"], values | {"pids": [], "starts": [], "readers": False}).fetchall()
    return [b for b in (blocker_of(*row) for row in rows) if b.seconds is None or b.seconds >= YOUNG_SECONDS]


def wait_for_locks(
    context: Context,
    side: str,
    tables: Sequence[TableRef],
    work: Callable[[], T],
    *,
    readers: bool = True,
    grace: float | None = None,
) -> T:
    """Repeat ``work``, one transaction that starts with :func:`brief_lock`, until it acquires its locks.

    Progress names the sessions that block it.

    :param readers: False when sessions that only read do not block it.
    :param grace: seconds after which the sessions that block it are terminated; None for never.
    :raises Held: after :data:`BRIEF_LOCK_SECONDS`, naming the sessions.
    """
    names = ", ".join(map(str, tables[:SHOWN])) or f"the {side}'s catalog"
    said = None
    reported: frozenset[object] | None = None
    began = time.monotonic()

    def attempt() -> T:
        nonlocal said, reported
        try:
            return work()
        except LOCK_CONFLICTS:
            found = find(context, side, tables, readers=readers)
            now = described(found) or "sessions that have ended since"
            said = now
            if identities(found) != reported:
                reported = identities(found)
                context.progress.say(f"waiting for a lock on {names}, held by {now}")
            if grace is not None and time.monotonic() - began > grace:
                end(context, side, found)
            raise

    try:
        return retry(attempt, deadline=BRIEF_LOCK_SECONDS)
    except LOCK_CONFLICTS as error:
        raise Held(
            f"{names} of the {side} could not be locked for {BRIEF_LOCK_SECONDS // 60} minutes",
            why=f"blocked by {said}",
            fix="terminate these sessions or wait for them, then run the same command again",
        ) from error


def blocker_of(
    pid: int | None,
    started: str | None,
    user: str,
    application_name: str,
    state: str,
    seconds: float | None,
    query: str,
    kind: str,
    gid: str | None,
) -> Blocker:
    """A session from a row of a query of sessions; of its statement the beginning, without secrets."""
    return Blocker(pid, started, user, application_name, state, seconds, excerpt(query), kind, gid)


def end(context: Context, side: str, found: Sequence[Blocker]) -> int:
    """Terminate the sessions among ``found``, each reported and recorded in the journal first; their number.

    :raises Refused: when this role lacks the privilege, with the GRANT to run.
    """
    ending = [b for b in found if b.can_be_ended]
    for blocker in ending:
        context.progress.say(f"terminating {blocker}")
        # Durable before the session ends: the note of which session it was.
        with context.fenced("blockers.note") as tx:
            runs.note(tx, context.run_id, context.epoch, "terminate_blocker", _detail(blocker))
        fenced = context.fenced_source if side == "source" else context.fenced
        # Nothing is durable here: the fence keeps a runner whose run was taken over from terminating sessions.
        with fenced("blockers.ended") as tx:
            _terminate(tx, blocker)
    return len(ending)


def _detail(blocker: Blocker) -> dict[str, object]:
    return {
        "pid": blocker.pid,
        "user": blocker.user,
        "application_name": blocker.application_name,
        "state": blocker.state,
        "seconds": blocker.seconds,
        "query": blocker.query,
    }


def _terminate(tx: Transaction, blocker: Blocker) -> None:
    role = tx.pg.execute("SELECT quote_ident(current_user)").fetchone()
    try:
        tx.pg.execute(_NAMED["terminate"], {"pid": blocker.pid, "started": blocker.started})
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            "a blocking session could not be terminated",
            why=f"{blocker}: {error.diag.message_primary}",
            fix=f"GRANT pg_signal_backend TO {role[0] if role else 'the role'};"
            " only a superuser may terminate a superuser's session",
        ) from None
