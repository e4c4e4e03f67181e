"""What is going on, for whoever is on call: facts read in one transaction, judged by pure functions.

Severity follows monitoring practice: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. Nothing is written, no row is
locked, and the source is never connected to: the target's journal knows enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row

from confiture import config
from confiture.config import Database
from confiture.db import Session, Transaction
from confiture.errors import CannotConnect, ConfitureError, UsageError
from confiture.journal import runners, schema
from confiture.sql import load
from confiture.states import CLEANED, CUTOVER, FINAL, MIGRATING, SETUP, VERIFIED
from confiture.throttle import from_json as throttle_from_json
from confiture.types import shell_word

Json = dict[str, Any]
#: Of the JSON; raised when a field goes or changes its meaning.
SCHEMA_VERSION = 1
TIMEOUT = "2s"
PAUSED_TOO_LONG_SECONDS = 3600
THROTTLED_TOO_LONG_SECONDS = 300
#: Below it a rate says nothing yet.
ETA_FROM_PERCENT = 1.0


class Severity(IntEnum):
    """As monitoring systems count."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """Who runs it; ``alive`` by its lease, None fields when nobody ever did."""

    host: str | None
    pid: int | None
    version: str | None
    command: str | None
    heartbeat_at: datetime | None
    silent_seconds: float | None
    alive: bool
    ended: bool


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """Rows of all tables; ``eta`` None where it would be a guess."""

    rows_done: int
    rows_total: int
    total_is_estimate: bool
    percent: float
    rows_per_second: float | None
    eta: datetime | None


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table; ``checkpoint`` is the key up to which its last done chunk goes."""

    source: str
    target: str
    phase: str
    strategy: str | None
    rows_done: int
    rows_total: int
    total_is_estimate: bool
    checkpoint: str | None
    attempts: int
    failed_chunks: int
    last_error: str | None
    rebuilt: int
    to_rebuild: int

    @property
    def percent(self) -> float:
        """Never over 100."""
        return _percent(self.rows_done, self.rows_total)


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything asked of one run, in the order it is asked."""

    id: str
    source: str
    target: str
    state: str
    state_since: datetime
    started_at: datetime
    writes_served_by: str
    blocked_reason: str | None
    severity: int
    reasons: tuple[str, ...]
    runner: RunnerReport
    restarts: int
    last_restart: datetime | None
    progress: ProgressReport
    throttle: Json
    paused_since: datetime | None
    tables: tuple[TableReport, ...]
    changes: Json
    locks: Json
    verification: Json
    rollback: Json
    errors: tuple[Json, ...]
    leave_alone: str
    undo: str
    next: Json
    server: Json


#: Phases of a cutover or a rollback in which nothing is closed; None before the first.
QUIET_PHASES = (None, "done", "preparing", "rollback preparing")


@dataclass(frozen=True, slots=True)
class Report:
    """All runs that were asked for, and the targets that could not be."""

    generated_at: datetime
    runs: tuple[RunReport, ...]
    unknown: tuple[str, ...] = field(default=())

    @property
    def severity(self) -> Severity:
        """The worst of all; what could not be reached counts only when nothing worse is known."""
        worst = max((Severity(r.severity) for r in self.runs), default=Severity.OK)
        if self.unknown and worst is not Severity.CRITICAL:
            return Severity.UNKNOWN
        return worst

    @property
    def summary(self) -> str:
        """One line."""
        if self.unknown:
            return self.unknown[0]
        if not self.runs:
            return "no run"
        worst = max(self.runs, key=lambda r: r.severity)
        why = f": {worst.reasons[0]}" if worst.reasons else ""
        return f"{worst.source} -> {worst.target} {worst.state} {worst.progress.percent:.1f} %{why}"

    def as_json(self) -> Json:
        """The contract: ``schemas/status.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "generated_at": self.generated_at.isoformat(),
            "severity": self.severity.name,
            "summary": self.summary,
            "unknown": list(self.unknown),
            "runs": [_plain(asdict(run)) for run in self.runs],
        }


def _plain(value: Any) -> Any:
    """Times as ISO 8601, severities by name; everything else as it is."""
    if isinstance(value, dict):
        return {k: Severity(v).name if k == "severity" else _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.isoformat() if isinstance(value, datetime) else value


# Asking --------------------------------------------------------------------------------------------


def report(target: str | None, project: Path, *, every: bool = False) -> Report:
    """The runs of one target, or of every environment of the project.

    :param every: also runs that are over and were followed by another.
    :raises UsageError: when no target is named and the project knows no environment.
    """
    if target is not None:
        return _of(config.resolve(target, project), every, quiet=False)
    names = config.environments(project)
    if not names:
        raise UsageError(
            "which target?", why=f"{project} has no db/environments", fix="name it: confiture status --target NAME"
        )
    found = [_of_environment(name, project, every) for name in names]
    return Report(
        max(r.generated_at for r in found),
        tuple(run for r in found for run in r.runs),
        tuple(text for r in found for text in r.unknown),
    )


def _of_environment(name: str, project: Path, every: bool) -> Report:
    try:
        database = config.resolve(name, project)
    except UsageError as error:
        return unknown(error)
    return _of(database, every, quiet=True)


def unknown(error: ConfitureError) -> Report:
    """A report of nothing but an error."""
    text = ": ".join(filter(None, (error.what, error.why)))
    return Report(datetime.now().astimezone(), (), (" ".join(text.splitlines()),))


def _of(database: Database, every: bool, *, quiet: bool) -> Report:
    """``quiet``: a database that is not there, or has no journal, is nothing to tell."""
    now = datetime.now().astimezone()
    try:
        with Session(database, "status") as session:
            with session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx:
                tx.pg.execute(f"SET LOCAL statement_timeout = '{TIMEOUT}'")
                return _read(tx, database, every, quiet=quiet)
    except CannotConnect as error:
        if quiet and f'database "{database.dbname}" does not exist' in error.why:
            return Report(now, ())
        return Report(now, (), (f"{error.what}: {error.why}",))
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        return Report(now, (), (f"the journal of {database.name} is of another version: {error.diag.message_primary}",))
    except psycopg.Error as error:
        return Report(now, (), (f"the journal of {database.name} cannot be read: {error.diag.message_primary}",))
    except ConfitureError as error:
        return unknown(error)


def _rows(tx: Transaction, block: str, **parameters: object) -> list[Json]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(load("status.sql")[block], parameters or None).fetchall()


def _read(tx: Transaction, database: Database, every: bool, *, quiet: bool) -> Report:
    row = tx.pg.execute(load("status.sql")["now"]).fetchone()
    assert row is not None
    now, version, has_runs, has_journal = row
    if not has_runs or not has_journal:
        return Report(now, (), () if quiet else (f"{database.name} has no journal: no run was ever set up there",))
    have = schema.version(tx)
    notes = []
    if have is not None and have > schema.newest():
        notes.append(f"the journal of {database.name} has version {have}, this tool knows {schema.newest()}")
    found = _rows(tx, "runs")
    shown = found if every else found[:1]
    server = {"host": tx.pg.info.host, "port": tx.pg.info.port, "database": tx.pg.info.dbname, "version": version}
    return Report(now, tuple(_run(tx, r, now, server) for r in shown), tuple(notes))


# One run -------------------------------------------------------------------------------------------


def _run(tx: Transaction, row: Json, now: datetime, server: Json) -> RunReport:
    run = row["id"]
    runner_row = next(iter(_rows(tx, "runner", run=run)), None)
    table_rows = _rows(tx, "tables", run=run)
    tables = _tables(table_rows, _rows(tx, "rebuilding", run=run))
    verification = _verification(next(iter(_rows(tx, "verification", run=run)), None))
    paused = tx.pg.execute(load("status.sql")["paused"], {"run": run}).fetchone()
    runner = _runner(runner_row)
    progress = _progress(table_rows if runner.alive and not paused else (), tables, now)
    throttle, throttled_seconds = _throttle(tx, run, waits=runner.alive and not paused)
    severity, reasons = judge(
        state=row["state"],
        blocked=row["blocked_reason"],
        phase=row["cutover_phase"],
        runner=runner,
        tables=tables,
        verification=verification,
        paused_seconds=paused[0] if paused else None,
        throttled=(throttled_seconds, throttle["reason"]),
        ending=row["ending"],
    )
    return RunReport(
        id=run.hex[:8],
        source=row["source_name"],
        target=row["target_name"],
        state=row["state"],
        state_since=row["state_since"],
        started_at=row["started_at"],
        writes_served_by=row["writes_served_by"],
        blocked_reason=row["blocked_reason"],
        severity=severity,
        reasons=reasons,
        runner=runner,
        restarts=runner_row["restarts"] if runner_row else 0,
        last_restart=runner_row["last_restart"] if runner_row else None,
        progress=progress,
        throttle=throttle,
        paused_since=paused[1] if paused else None,
        tables=tables,
        changes=_changes(row, next(iter(_rows(tx, "changes", run=run)), None) if row["captured"] else None),
        locks=_rows(tx, "locks", run=run)[0],
        verification=verification,
        rollback=_rollback(row),
        errors=tuple(_rows(tx, "errors", run=run)),
        leave_alone=_leave_alone(row["state"], severity),
        undo=_undo(row),
        next=next_step(row, runner, tables, verification, paused=bool(paused)),
        server=server,
    )


def _runner(row: Json | None) -> RunnerReport:
    if row is None:
        return RunnerReport(None, None, None, None, None, None, alive=False, ended=True)
    ended = row["ended_at"] is not None
    alive = not ended and not row["gone"] and row["silent"] <= runners.LEASE_SECONDS
    return RunnerReport(
        row["host"], row["pid"], row["tool_version"], row["command"], row["heartbeat_at"], row["silent"], alive, ended
    )


def _tables(rows: Sequence[Json], rebuilding: Sequence[Json]) -> tuple[TableReport, ...]:
    built = {r["target"]: (r["back"], r["taken"]) for r in rebuilding}
    found = []
    for row in rows:
        whole = row["sealed"] and row["phase"] in ("copied", "finished")
        back, taken = built.get(row["target"], (0, 0))
        phase = "indexing" if row["phase"] == "copied" and back < taken else row["phase"]
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


def _checkpoint(row: Json) -> str | None:
    if row["checkpoint"] is None:
        return None
    names = (row["key"] or "").split(", ")
    return ", ".join(f"{name}={value}" for name, value in zip(names, row["checkpoint"], strict=False))


def _percent(done: int, total: int) -> float:
    return min(100.0, 100.0 * done / total) if total else 100.0


def _progress(rows: Sequence[Json], tables: Sequence[TableReport], now: datetime) -> ProgressReport:
    done, total = sum(t.rows_done for t in tables), sum(t.rows_total for t in tables)
    recent = sum(r["recent"] for r in rows)
    began = min((r["first_recent"] for r in rows if r["first_recent"] is not None), default=None)
    rate = recent / max((now - began).total_seconds(), 0.001) if began is not None and recent else None
    percent = _percent(done, total) if tables else 0.0
    eta = now + timedelta(seconds=(total - done) / rate) if rate and ETA_FROM_PERCENT <= percent < 100 else None
    return ProgressReport(done, total, any(t.total_is_estimate for t in tables), percent, rate, eta)


def _verification(row: Json | None) -> Json:
    if row is None:
        return {"status": "not run", "checked_at": None, "stale": False, "differences": 0}
    status = {"equal": "equal", "different": "different", None: "running"}[row["verdict"]]
    return {
        "status": status,
        "checked_at": row["checked_at"],
        "stale": bool(row["stale"]),
        "differences": row["differences"],
    }


def _changes(row: Json, measured: Json | None) -> Json:
    nothing = {"applied": None, "backlog": None, "oldest_seconds": None}
    return {"captured": row["captured"], **(measured or nothing)}


def _throttle(tx: Transaction, run: UUID, *, waits: bool) -> tuple[Json, float]:
    """Whether the copy is held back, and by what limits; with the seconds since.

    :param waits: False for a runner that is gone or paused.
    """
    held = next(iter(_rows(tx, "throttle", run=run)), None) if waits else None
    stored = [row["detail"] for row in _rows(tx, "limits", run=run)]
    limits = asdict(throttle_from_json(stored[0] if stored else {}))
    if held is None or held["reason"] is None:
        return {"active": False, "reason": None, "since": None, "limits": limits}, 0.0
    return {"active": True, "reason": held["reason"], "since": held["since"], "limits": limits}, held["seconds"]


def _rollback(row: Json) -> Json:
    if row["state"] != CUTOVER:
        return {
            "possible": False,
            "why": "nothing has switched" if row["state"] != CLEANED else "cleaned up",
            "command": None,
        }
    why = row["no_way_back"] or (None if row["captured"] else "set up for a stopped application: nothing is captured")
    if why is not None:
        return {"possible": False, "why": why, "command": None}
    target = shell_word(row["target_name"])
    command = f"confiture migrate schema-to-schema rollback --target {target}"
    return {"possible": True, "why": "what is written to the target is brought home", "command": command}


# Judging: pure -------------------------------------------------------------------------------------


def judge(
    *,
    state: str,
    blocked: str | None,
    phase: str | None,
    runner: RunnerReport,
    tables: Sequence[TableReport],
    verification: Json,
    paused_seconds: float | None,
    throttled: tuple[float, str | None] = (0.0, None),
    ending: str | None = None,
) -> tuple[Severity, tuple[str, ...]]:
    """How bad it is, and why, the worst first.

    :param throttled: for how many seconds the copy has been held back, and why.
    :param ending: the command that has begun to drop what the run made.
    """
    critical, warning = [], []
    dead = not runner.ended and not runner.alive
    if state not in FINAL:
        if dead and state in (SETUP, MIGRATING):
            critical.append(f"the runner is dead: silent for {runner.silent_seconds:.0f} s with work left")
        elif dead:
            warning.append(f"the heartbeat is {runner.silent_seconds:.0f} s old")
        if phase not in QUIET_PHASES and not runner.alive:
            what = "rollback" if phase.startswith("rollback") else "cutover"
            critical.append(f"the {what} stopped half-way ({phase.removeprefix('rollback ')})")
        if ending is not None and not runner.alive:
            warning.append(f"the {ending} stopped half-way")
        if blocked:
            critical.append(f"blocked: {blocked}")
        critical += [f"{t.target}: {t.failed_chunks} chunks failed" for t in tables if t.failed_chunks and not blocked]
        if verification["status"] == "different" and state in (MIGRATING, VERIFIED):
            critical.append(f"verification found {verification['differences']} differences")
        if verification["status"] == "equal" and verification["stale"]:
            warning.append("the verification is stale")
        if paused_seconds is not None and paused_seconds > PAUSED_TOO_LONG_SECONDS:
            warning.append(f"paused for {paused_seconds / 3600:.1f} h")
        if throttled[0] > THROTTLED_TOO_LONG_SECONDS:
            warning.append(f"throttled for {throttled[0] / 60:.0f} min: {throttled[1]}")
    severity = Severity.CRITICAL if critical else Severity.WARNING if warning else Severity.OK
    return severity, (*critical, *warning)


def _leave_alone(state: str, severity: Severity) -> str:
    if state in FINAL:
        return "safe: the run is over"
    return (
        "safe"
        if severity is not Severity.CRITICAL
        else "safe for the data: the source serves"
        if state != CUTOVER
        else "safe"
    )


def _undo(row: Json) -> str:
    if row["state"] in (SETUP, MIGRATING, VERIFIED):
        return "abort (the source serves)"
    if row["state"] != CUTOVER:
        return "nothing to undo"
    back = _rollback(row)
    return "rollback (nothing written since is lost)" if back["possible"] else f"not possible: {back['why']}"


def _copied(tables: Sequence[TableReport]) -> bool:
    return bool(tables) and all(t.phase == "finished" for t in tables)


def next_step(
    row: Json, runner: RunnerReport, tables: Sequence[TableReport], verification: Json, *, paused: bool
) -> Json:
    """What to do, and the exact command; command None when there is nothing to do."""
    target = shell_word(row["target_name"])

    def step(action: str, name: str) -> Json:
        return {"action": action, "command": f"confiture migrate schema-to-schema {name} --target {target}"}

    state = row["state"]
    if state in FINAL:
        return {"action": "nothing: the run is over", "command": None}
    if paused and runner.alive:
        return step("it is paused; to go on", "resume")
    if runner.alive:
        return step("nothing to do; to pause", "pause")
    if row["ending"] is not None:
        return step("end it: run the same command again", row["ending"])
    if runner.command is not None and not runner.ended and state in (SETUP, MIGRATING):
        if runner.command != "migrate" or not _copied(tables):
            return step("run the same command again", runner.command)
    if row["blocked_reason"] and state in (SETUP, MIGRATING):
        return step("mend what blocks it, then", "migrate")
    if verification["status"] == "different" and state == MIGRATING:
        return step("mend the differences, then", "verify")
    if state == SETUP:
        return step("copy the rows", "migrate") if row["setup_done"] else step("finish the setup", "setup")
    if state == MIGRATING:
        return step("compare every row", "verify") if _copied(tables) else step("go on copying", "migrate")
    if state == VERIFIED and (verification["stale"] or verification["status"] == "different"):
        return step("compare every row anew", "verify --again")
    if state == VERIFIED:
        return step("switch when ready", "cutover")
    phase = row["cutover_phase"] or "done"
    if phase != "done":
        return step("end it: run the same command again", "rollback" if phase.startswith("rollback") else "cutover")
    return step("drop what the run made", "cleanup")
