"""Who keeps tables from being locked, and, on request only, ending those sessions.

A session of ours is never among them: it is known by the process id and start that the journal has recorded,
never by its application_name, which any application may set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from confiture.config import excerpt
from confiture.errors import Held, Refused
from confiture.failpoints import failpoint
from confiture.journal import runs
from confiture.postgres.retry import LOCK_CONFLICTS, retry
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.sql import load
from confiture.types import TableRef

_NAMED = load("cutover.sql")
#: Enough to act on; the rest shows when these are gone.
SHOWN = 5
#: Seconds after which the lock for something that is not urgent is given up.
BRIEF_LOCK_SECONDS = 300

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session, or a prepared transaction, that holds a lock in our way.

    :ivar pid: None for a prepared transaction.
    :ivar started: of its server process, as seconds since the epoch; None where it is hidden from us.
    :ivar state: empty where it is hidden from us, like ``seconds`` (None) and ``query``.
    :ivar seconds: since its transaction began.
    :ivar query: the first characters of its statement, secrets hidden.
    :ivar kind: the server's ``backend_type``.
    :ivar gid: of a prepared transaction, else None.
    """

    pid: int | None
    started: str | None
    user: str
    application_name: str
    state: str
    seconds: float | None
    query: str
    kind: str
    gid: str | None

    def __str__(self) -> str:
        if self.gid is not None:
            name = self.gid.replace("'", "''")
            return f"the prepared transaction '{name}' of {self.user}"
        age = f"{int(self.seconds)} s" if self.seconds is not None else "a time that is hidden"
        who = f"{self.user}, {self.application_name or 'no name'}, {self.state or 'state hidden'}"
        told = f", in a transaction for {age}"
        return f"pid {self.pid} ({who}{told}{f': {self.query}' if self.query else ''})"

    @property
    def can_be_ended(self) -> bool:
        """Whether it is an application's session; server workers and prepared transactions are not."""
        return self.pid is not None and self.kind in ("client backend", "")


def told(found: Sequence[Blocker]) -> str:
    """The first of them for an error; empty when there are none."""
    return "; ".join(map(str, found[:SHOWN]))


def find(context: Context, side: str, tables: Sequence[TableRef], *, readers: bool = False) -> list[Blocker]:
    """Who holds a lock that writers need on tables of a side (``source`` or ``target``), the oldest first.

    :param readers: also who only reads.
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
    return [_blocker(*row) for row in rows]


def outwait(
    context: Context,
    side: str,
    tables: Sequence[TableRef],
    work: Callable[[], T],
    *,
    readers: bool = True,
    grace: float | None = None,
) -> T:
    """Run ``work``, a whole transaction begun by :func:`brief_lock`, until it has its locks; blockers are named.

    :param readers: False where sessions that only read block nothing.
    :param grace: seconds after which the sessions that block it are ended; None never.
    :raises Held: after :data:`BRIEF_LOCK_SECONDS`, naming them.
    """
    names = ", ".join(map(str, tables[:SHOWN])) or f"the {side}'s catalog"
    said = None
    began = time.monotonic()

    def attempt() -> T:
        nonlocal said
        try:
            return work()
        except LOCK_CONFLICTS:
            found = find(context, side, tables, readers=readers)
            now = told(found) or "sessions that have ended since"
            if now != said:
                said = now
                context.progress.say(f"waiting for a lock on {names}, held by {now}")
            if grace is not None and time.monotonic() - began > grace:
                end(context, side, found)
            raise

    try:
        return retry(attempt, deadline=BRIEF_LOCK_SECONDS)
    except LOCK_CONFLICTS as error:
        raise Held(
            f"{names} of the {side} could not be locked for {BRIEF_LOCK_SECONDS // 60} minutes",
            why=f"in the way: {said}",
            fix="end them or wait for them, then run the same command again",
        ) from error


def _blocker(
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
    return Blocker(pid, started, user, application_name, state, seconds, excerpt(query), kind, gid)


def end(context: Context, side: str, found: Sequence[Blocker]) -> int:
    """End the sessions among ``found``, each named in progress and in the journal first; how many.

    :raises Refused: when the server does not let us, naming the GRANT.
    """
    ending = [b for b in found if b.can_be_ended]
    for blocker in ending:
        context.progress.say(f"ending {blocker}")
        with context.fenced() as tx:
            runs.note(tx, context.run_id, context.epoch, "terminate_blocker", _detail(blocker))
            failpoint("blockers.note.before_commit")
        with context.fenced_source() if side == "source" else context.fenced() as tx:
            _terminate(tx, blocker)
        failpoint("blockers.ended")
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
            "a session in the way could not be ended",
            why=f"{blocker}: {error.diag.message_primary}",
            fix=f"GRANT pg_signal_backend TO {role[0] if role else 'our role'};"
            " sessions of superusers are ended by a superuser only",
        ) from None
