"""The write pause in the journal: as a rehearsal expects it, and as a cutover or rollback measured it.

The event ``closing`` is in the commit that precedes the lock. The event ``write pause`` is in a commit after writes are
accepted again. A command that is killed between the two leaves no measurement. The command that completes its work
then records the time since ``closing``: the pause was at most as long.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Literal

from confiture.journal import runs
from confiture.journal.model import PartDetail, PauseDetail, RehearsalDetail
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.schema_to_schema.outcomes import Limits, Part, Rehearsal
from confiture.schema_to_schema.stopwatch import Stopwatch

REHEARSED, CLOSING, MEASURED = "rehearsed", "closing", "write pause"
Command = Literal["cutover", "rollback"]


def record_rehearsal(context: Context, command: Command, found: Rehearsal, limit: float | None) -> None:
    """Record a rehearsal. The statements of blocking sessions and the keys that differ are not recorded.

    :param limit: seconds; None where the pause has no limit.
    """
    detail: RehearsalDetail = {
        "command": command,
        "parts": _parts(found.parts),
        "seconds": found.seconds,
        "limit": limit,
        "complete": found.complete,
        "lock_timeout": found.lock_timeout,
        "problem": None if found.problem is None else found.problem.what,
        "blockers": [{k: v for k, v in asdict(b).items() if k != "query"} for b in found.blockers],
    }
    # Durable: the rehearsal.
    with context.fenced("rehearsed") as tx:
        runs.note(tx, context.run_id, context.epoch, REHEARSED, detail)


def _parts(parts: Sequence[Part]) -> list[PartDetail]:
    return [{"name": part.name, "seconds": part.seconds} for part in parts]


def record(context: Context, command: Command, watch: Stopwatch, limits: Limits) -> None:
    """Record the write pause of a cutover or rollback, unless it is recorded already.

    :param watch: of this process; not started when an earlier process began the pause.
    """
    # Durable: the write pause.
    with context.fenced("pause.measured") as tx:
        closing = runs.last_event(tx, context.run_id, (CLOSING, MEASURED))
        if closing is None or closing.kind == MEASURED:
            return
        if watch.began is not None:
            note(tx, context, command, watch, limits.max_write_pause)
            return
        now = runs.clock(tx)
        detail = _detail(command, (), limits.max_write_pause, closing.at, now, complete=False)
        runs.note(tx, context.run_id, context.epoch, MEASURED, detail)


def note(tx: Transaction, context: Context, command: Command, watch: Stopwatch, limit: float | None) -> None:
    """Append the event of a pause that this process has measured.

    :param limit: seconds; None where the pause has no limit.
    """
    assert watch.began is not None
    clock, now = runs.clock(tx), time.monotonic()
    began, ended = (clock - timedelta(seconds=now - then) for then in (watch.began, watch.ended))
    detail = _detail(command, watch.parts, limit, began, ended, complete=True)
    runs.note(tx, context.run_id, context.epoch, MEASURED, detail)


def _detail(
    command: Command, parts: Sequence[Part], limit: float | None, began: datetime, ended: datetime, *, complete: bool
) -> PauseDetail:
    return {
        "command": command,
        "parts": _parts(parts),
        "seconds": (ended - began).total_seconds(),
        "limit": limit,
        "complete": complete,
        "began_at": began.isoformat(),
        "ended_at": ended.isoformat(),
    }
