"""Read what the runs of every medium have: their runner, tables, progress, limits, locks and errors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypedDict
from uuid import UUID

from psycopg.rows import dict_row

from confiture import config
from confiture.copy.throttle import from_json as throttle_from_json
from confiture.errors import ConfitureError
from confiture.journal import viewed
from confiture.journal.model import COPIED, LEASE_SECONDS, TablePhase
from confiture.postgres.session import Transaction
from confiture.states import State
from confiture.status.facts import (
    BuildReport,
    ErrorReport,
    LocksReport,
    ProgressReport,
    RunnerReport,
    SourceReport,
    TableReport,
    ThrottleReport,
    known,
    percent,
)
from confiture.status.media import BlockerReport
from confiture.status.severity import for_people
from confiture.types import Json

#: Percent below which the rate gives no reliable estimate.
ETA_FROM_PERCENT = 1.0


@dataclass(frozen=True, slots=True)
class ReadRun:
    """The facts of one run that do not depend on its medium.

    :ivar restarts: the number of takeovers from a runner that had died.
    :ivar paused: for how many seconds and since when it is to pause; None when it is not.
    :ivar waited: the seconds for which a limit has slowed the copy down, and which limit.
    """

    runner: RunnerReport
    restarts: int
    last_restart: datetime | None
    paused: tuple[float, datetime] | None
    progress: ProgressReport
    tables: tuple[TableReport, ...]
    builds: tuple[BuildReport, ...]
    throttle: ThrottleReport
    waited: tuple[float, str | None]
    locks: LocksReport
    errors: tuple[ErrorReport, ...]


class RunFields(TypedDict):
    """The fields that the reports of a move and of a sync share, by their names there."""

    id: str
    source: str
    target: str
    state: State
    state_since: datetime
    started_at: datetime
    blocked_reason: str | None
    runner: RunnerReport
    restarts: int
    last_restart: datetime | None
    progress: ProgressReport
    throttle: ThrottleReport
    paused_since: datetime | None
    builds: tuple[BuildReport, ...]
    locks: LocksReport
    errors: tuple[ErrorReport, ...]
    source_server: SourceReport


def fields(row: Json, found: ReadRun, project: Path) -> RunFields:
    """The fields of a report that do not depend on the medium.

    :param row: of the run.
    """
    return {
        "id": row["id"].hex[:8],
        "source": row["source_name"],
        "target": row["target_name"],
        "state": row["state"],
        "state_since": row["state_since"],
        "started_at": row["started_at"],
        "blocked_reason": row["blocked_reason"],
        "runner": found.runner,
        "restarts": found.restarts,
        "last_restart": found.last_restart,
        "progress": found.progress,
        "throttle": found.throttle,
        "paused_since": found.paused[1] if found.paused else None,
        "builds": found.builds,
        "locks": found.locks,
        "errors": found.errors,
        "source_server": source(row, project),
    }


def blocking(tx: Transaction, run: UUID) -> tuple[BlockerReport, ...]:
    """The sessions that a run's runner waits for."""
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(viewed.statements(tx, "media.sql")["blocking"], {"run": run}).fetchall()
    return tuple(
        {"pid": row["pid"], "role": row["role"], "application": row["application"], "seconds": row["seconds"]}
        for row in found
    )


def rows(tx: Transaction, block: str, **parameters: object) -> list[Json]:
    """The rows of a block of ``status.sql``, as the role of the session may read them."""
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(viewed.statements(tx, "status.sql")[block], parameters or None).fetchall()


def read(tx: Transaction, run: UUID, age: float, now: datetime) -> ReadRun:
    """The facts of one run.

    :param age: seconds since the run began.
    :param now: by the target's clock.
    """
    runner_row = next(iter(rows(tx, "runner", run=run)), None)
    table_rows = rows(tx, "tables", run=run)
    runner = _runner(runner_row, age)
    paused = tx.pg.execute(viewed.statements(tx, "status.sql")["paused"], {"run": run}).fetchone()
    tables = _tables(table_rows, rows(tx, "rebuilding", run=run))
    copying = table_rows if runner.alive and not paused else ()
    throttle, waited = _throttle(tx, run, waits=runner.alive and not paused)
    (locks,) = rows(tx, "locks", run=run)
    return ReadRun(
        runner=runner,
        restarts=runner_row["restarts"] if runner_row else 0,
        last_restart=runner_row["last_restart"] if runner_row else None,
        paused=paused,
        progress=_progress(copying, tables, now),
        tables=_with_rates(copying, tables, now),
        builds=tuple(_build(b) for b in rows(tx, "building", run=run)) if runner.alive else (),
        throttle=throttle,
        waited=waited,
        locks={"waiting_for_us": locks["waiting_for_us"], "we_wait": locks["we_wait"]},
        errors=tuple(_error(e) for e in rows(tx, "errors", run=run)),
    )


def _runner(row: Json | None, run_age: float) -> RunnerReport:
    """The last command that held the run.

    :param run_age: seconds since the run began, for a run that no command has held.
    """
    if row is None:
        return RunnerReport(None, None, None, None, None, None, alive=False, ended=True, absent_seconds=run_age)
    ended = row["ended_at"] is not None
    alive = not ended and not row["gone"] and row["silent"] <= LEASE_SECONDS
    return RunnerReport(
        row["host"],
        row["pid"],
        row["tool_version"],
        row["command"],
        row["heartbeat_at"],
        row["silent"],
        alive,
        ended,
        row["ended_at"],
        row["ended_why"],
        0.0 if alive else row["absent"],
    )


def _tables(planned: Sequence[Json], rebuilding: Sequence[Json]) -> tuple[TableReport, ...]:
    built = {r["target"]: (r["back"], r["taken"]) for r in rebuilding}
    found = []
    for row in planned:
        # A phase that a newer version added is reported as copying; the run is then UNKNOWN.
        phase = known(TablePhase, row["phase"]) or TablePhase.COPYING
        whole = row["sealed"] and phase in COPIED
        back, taken = built.get(row["target"], (0, 0))
        if phase is TablePhase.COPIED and back < taken:
            phase = TablePhase.INDEXING
        found.append(
            TableReport(
                row["source"],
                row["target"],
                phase,
                row["strategy"],
                row["rows_done"],
                row["rows_done"] if whole else max(row["estimate"], row["rows_done"]),
                not whole,
                _checkpoint(row),
                row["attempts"] or 0,
                row["failed"] or 0,
                row["last_error"],
                back,
                taken,
            )
        )
    return tuple(found)


def _build(row: Json) -> BuildReport:
    return {"name": row["name"], "table": row["table"], "phase": row["phase"], "percent": row["percent"]}


def _checkpoint(row: Json) -> str | None:
    if row["checkpoint"] is None:
        return None
    names = (row["key"] or "").split(", ")
    return ", ".join(f"{name}={value}" for name, value in zip(names, row["checkpoint"], strict=False))


def _progress(copying: Sequence[Json], tables: Sequence[TableReport], now: datetime) -> ProgressReport:
    done, total = sum(t.rows_done for t in tables), sum(t.rows_total for t in tables)
    rate = _rate(copying, now)
    share = percent(done, total) if tables else 0.0
    return ProgressReport(
        done, total, any(t.total_is_estimate for t in tables), share, rate, _eta(done, total, rate, now)
    )


def _rate(copying: Sequence[Json], now: datetime) -> float | None:
    """Rows a second that were copied of tables in the last ten minutes; None without any."""
    recent = sum(r["recent"] for r in copying)
    began = min((r["first_recent"] for r in copying if r["first_recent"] is not None), default=None)
    return recent / max((now - began).total_seconds(), 0.001) if began is not None and recent else None


def _eta(done: int, total: int, rate: float | None, now: datetime) -> datetime | None:
    reliable = rate and ETA_FROM_PERCENT <= percent(done, total) < 100
    return now + timedelta(seconds=(total - done) / rate) if rate and reliable else None


def _with_rates(copying: Sequence[Json], tables: Sequence[TableReport], now: datetime) -> tuple[TableReport, ...]:
    """The tables, those that are being copied with their rate and their expected end."""
    rates = {row["target"]: _rate([row], now) for row in copying}
    return tuple(
        replace(t, rows_per_second=rates[t.target], eta=_eta(t.rows_done, t.rows_total, rates[t.target], now))
        if t.phase is TablePhase.COPYING and t.target in rates
        else t
        for t in tables
    )


def _error(row: Json) -> ErrorReport:
    return {"at": row["at"], "kind": row["kind"], "text": for_people(row["text"])}


def _throttle(tx: Transaction, run: UUID, *, waits: bool) -> tuple[ThrottleReport, tuple[float, str | None]]:
    """Whether a limit slows the copy down, the limits, and the seconds since then with the reason.

    :param waits: False when no command is running or it is paused.
    """
    held = next(iter(rows(tx, "throttle", run=run)), None) if waits else None
    stored = [row["detail"] for row in rows(tx, "limits", run=run)]
    limits = throttle_from_json(stored[0] if stored else {}).as_json()
    if held is None or held["reason"] is None:
        return {"active": False, "reason": None, "since": None, "limits": limits}, (0.0, None)
    reason = held["reason"]
    return {"active": True, "reason": reason, "since": held["since"], "limits": limits}, (held["seconds"], reason)


def source(row: Json, project: Path) -> SourceReport:
    """The address of the source, without a connection to it."""
    known = row["source_identity"]
    conninfo = row["source_conninfo"]
    if row["source_name"] in config.environments(project):
        with suppress(ConfitureError):  # a fault of the environment is reported by the commands that use it
            conninfo = config.resolve(row["source_name"], project).public
    host, port = config.place(conninfo)
    return {"host": host, "port": port, "database": known["database"], "version": str(known["version"] // 10000)}
