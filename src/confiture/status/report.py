"""Read a status report from the target's journal in one transaction; ``severity`` judges the facts.

The report writes nothing and locks no row. It does not connect to the source: the target's journal has recorded
what the report needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypedDict
from uuid import UUID

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row

from confiture import config
from confiture.capture import write_block
from confiture.config import Database
from confiture.copy.throttle import Replica
from confiture.copy.throttle import from_json as throttle_from_json
from confiture.errors import CannotConnect, ConfitureError, Refused, UsageError
from confiture.journal import schema, viewed
from confiture.journal.model import COPIED, LEASE_SECONDS, TablePhase
from confiture.naming import Naming, naming
from confiture.postgres.connection import only_row
from confiture.postgres.session import Session, Transaction
from confiture.sql import load
from confiture.states import CUTOVER, FINAL, UNKNOWN, ReadsPhase, Served, reads_served_by
from confiture.status import forecast_reader
from confiture.status.facts import (
    ApprovalReport,
    BuildReport,
    ChangesReport,
    ErrorReport,
    LocksReport,
    PauseReport,
    ProgressReport,
    ReadsReport,
    ReplicaReport,
    Report,
    RunnerReport,
    RunReport,
    ServerReport,
    Severity,
    SourceReport,
    TableReport,
    ThrottleReport,
    VerificationReport,
    known,
    percent,
)
from confiture.status.severity import facts_of, for_people, judge, leave_alone, next_step, rollback, undo
from confiture.types import Json

TIMEOUT = "2s"
#: Percent below which the rate gives no reliable estimate.
ETA_FROM_PERCENT = 1.0


# Reading the report --------------------------------------------------------------------------------------------


#: Reads more of a run, in the transaction of the report.
Beside = Callable[[Transaction, UUID], None]


def report(
    target: str | None,
    project: Path,
    *,
    every: bool = False,
    given_project: Path | None = None,
    beside: Beside | None = None,
) -> Report:
    """The runs of one target, or of every environment of the project.

    :param every: include runs that are over and were followed by another run.
    :param given_project: ``--project`` as it was given, for the next command.
    :param beside: called for each run of the report, in its transaction; not for a run of a newer journal.
    :raises UsageError: when no target is named and the project has no environment.
    """
    asked = _Asked(project, every, beside)
    if target is not None:
        return _of(config.resolve(target, project), naming(target, given_project), asked, quiet=False)
    names = config.environments(project)
    if not names:
        raise UsageError(
            "no target is named", why=f"{project} has no db/environments", fix=config.first_environment(project)
        )
    found = [_of_environment(Naming(name, given_project), asked) for name in names]
    return Report(
        max(r.generated_at for r in found),
        tuple(run for r in found for run in r.runs),
        tuple(text for r in found for text in r.unknown),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """The parameters of :func:`report` that hold for each target."""

    project: Path
    every: bool
    beside: Beside | None


def _of_environment(named: Naming, asked: _Asked) -> Report:
    try:
        database = config.resolve(named.target, asked.project)
    except UsageError as error:
        return unknown(error)
    return _of(database, named, asked, quiet=True)


def unknown(error: ConfitureError) -> Report:
    """A report that consists of one error."""
    text = ": ".join(filter(None, (error.what, error.why)))
    return Report(datetime.now().astimezone(), (), (" ".join(text.splitlines()),))


def _of(database: Database, named: Naming, asked: _Asked, *, quiet: bool) -> Report:
    """The report of one target.

    :param quiet: omit a database that does not exist or has no journal.
    """
    now = datetime.now().astimezone()
    try:
        with Session(database, "status") as session:
            with session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx:
                tx.pg.execute(f"SET LOCAL statement_timeout = '{TIMEOUT}'")
                return _read(tx, database, named, asked, quiet=quiet)
    except CannotConnect as error:
        if quiet and f'database "{database.dbname}" does not exist' in error.why:
            return Report(now, ())
        return Report(now, (), (f"{error.what}: {error.why}",))
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        return Report(now, (), (f"the journal of {database.name} has another version: {error.diag.message_primary}",))
    except psycopg.errors.InsufficientPrivilege as error:
        role = "the owner of the journal grants it with confiture grants --viewer"
        why = f"the journal of {database.name} cannot be read: {error.diag.message_primary}; {role}"
        return Report(now, (), (why,))
    except psycopg.Error as error:
        return Report(now, (), (f"the journal of {database.name} cannot be read: {error.diag.message_primary}",))
    except ConfitureError as error:
        return unknown(error)


def _rows(tx: Transaction, block: str, **parameters: object) -> list[Json]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(viewed.statements(tx, "status.sql")[block], parameters or None).fetchall()


def _read(tx: Transaction, database: Database, named: Naming, asked: _Asked, *, quiet: bool) -> Report:
    now, version, has_runs, has_journal = only_row(tx.pg.execute(viewed.statements(tx, "status.sql")["now"]))
    if not has_runs or not has_journal:
        return Report(now, (), () if quiet else (f"{database.name} has no journal: no run has been set up there",))
    have = schema.version(tx)
    newer = None
    if have is not None and have > schema.newest():
        newer = (
            f"the journal of {database.name} has version {have}, this version of Confiture supports {schema.newest()}"
        )
    found = _rows(tx, "runs")
    shown = found if asked.every else found[:1]
    server: ServerReport = {
        "host": tx.pg.info.host,
        "port": tx.pg.info.port,
        "database": tx.pg.info.dbname,
        "version": version,
    }
    required = database.require_approval
    runs = tuple(_run(tx, r, now, server, named, asked.project, required) for r in shown)
    if newer is not None:
        return Report(now, tuple(_misread(run, newer) for run in runs), (newer,))
    if asked.beside is not None:
        for row in shown:
            asked.beside(tx, row["id"])
    return Report(now, runs)


def _misread(run: RunReport, newer: str) -> RunReport:
    """A run of a newer journal, in which the columns may have another meaning."""
    return replace(
        run,
        severity=Severity.UNKNOWN,
        reasons=(newer,),
        writes_served_by=UNKNOWN,
        reads={**run.reads, "served_by": UNKNOWN},
        leave_alone="unknown",
        undo="unknown",
        rollback={"possible": False, "why": newer, "command": None},
        next={
            "action": "run status with the version of Confiture that wrote the journal, or a newer version",
            "command": None,
            "alternatives": [],
            "hint": None,
        },
    )


# One run -------------------------------------------------------------------------------------------


def _run(
    tx: Transaction, row: Json, now: datetime, server: ServerReport, named: Naming, project: Path, required: bool
) -> RunReport:
    run = row["id"]
    runner_row = next(iter(_rows(tx, "runner", run=run)), None)
    table_rows = _rows(tx, "tables", run=run)
    runner = _runner(runner_row, row["age"])
    paused = tx.pg.execute(viewed.statements(tx, "status.sql")["paused"], {"run": run}).fetchone()
    attempt = next(iter(_rows(tx, "verification", run=run)), None)
    tables = _compared(tx, run, attempt, _tables(table_rows, _rows(tx, "rebuilding", run=run)))
    verification, differing = _verification(attempt, tables, runner)
    copying = table_rows if runner.alive and not paused else ()
    progress, tables = _progress(copying, tables, now), _with_rates(copying, tables, now)
    throttle, waited = _throttle(tx, run, waits=runner.alive and not paused)
    facts = facts_of(row, paused_seconds=paused and paused[0], throttled=waited, differing=differing)
    if facts.closing:
        facts = replace(facts, target_closed=_target_closed(tx, f"confiture_{run.hex[:8]}"))
    reads = _reads(tx, run, facts.state, facts.served)
    behind, limit = reads["staleness_seconds"], reads["max_staleness_seconds"]
    facts = replace(facts, reads=reads["phase"], staleness=behind, reads_limit=limit)
    expected = forecast_reader.read(tx, run, facts.state, now, alive=runner.alive)
    approval = _approval(tx, run, required)
    facts = replace(facts, disk_full=expected.problem, unapproved=_lacks(approval))
    severity, reasons = judge(facts, runner, tables, verification)
    return RunReport(
        id=run.hex[:8],
        source=row["source_name"],
        target=row["target_name"],
        state=row["state"],
        state_since=row["state_since"],
        started_at=row["started_at"],
        writes_served_by=facts.served,
        reads=reads,
        cutover_phase=facts.phase,
        rolled_back_at=row["rolled_back_at"],
        blocked_reason=facts.blocked,
        severity=severity,
        reasons=reasons,
        runner=runner,
        restarts=runner_row["restarts"] if runner_row else 0,
        last_restart=runner_row["last_restart"] if runner_row else None,
        progress=progress,
        throttle=throttle,
        paused_since=paused[1] if paused else None,
        tables=tables,
        builds=tuple(_build(b) for b in _rows(tx, "building", run=run)) if runner.alive else (),
        changes=_changes(row, next(iter(_rows(tx, "changes", run=run)), None) if row["captured"] else None),
        locks=_locks(tx, run),
        verification=verification,
        rollback=rollback(facts, named),
        stale_views=tuple(row["stale_views"] or ()),
        errors=tuple(_error(e) for e in _rows(tx, "errors", run=run)),
        leave_alone=leave_alone(facts, runner, severity, named),
        undo=undo(facts, runner, named),
        next=next_step(facts, runner, tables, verification, named),
        server=server,
        source_server=_source(row, project),
        approval=approval,
        forecast=expected.forecast,
        disk=expected.disk,
        **_measured(tx, run),
    )


def _approval(tx: Transaction, run: UUID, required: bool) -> ApprovalReport:
    """The approval of a run's cutover.

    :param required: whether the target's environment requires one, as the run itself may.
    """
    statements = viewed.statements(tx, "approval.sql")
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(statements["standing"], {"run": run}).fetchone() or {}
    (recorded,) = only_row(tx.pg.execute(statements["required"], {"run": run}))
    return {
        "required": required or recorded,
        "role": found.get("role"),
        "at": found.get("at"),
        "void": found.get("void"),
    }


def _lacks(approval: ApprovalReport) -> bool:
    """Whether a cutover would be refused for the lack of a valid approval."""
    return approval["required"] and (approval["role"] is None or approval["void"] is not None)


def _reads(tx: Transaction, run: UUID, state: str, writes: Served) -> ReadsReport:
    (row,) = _rows(tx, "reads", run=run)
    phase = known(ReadsPhase, row["phase"])
    now = phase is not None and state not in (CUTOVER, *FINAL)
    return {
        "served_by": reads_served_by(writes, state, phase),
        "phase": phase if now else None,
        "since": row["since"] if now else None,
        "staleness_seconds": row["staleness_seconds"] if now else None,
        "max_staleness_seconds": row["max_staleness_seconds"] if now else None,
        "not_kept": row["not_kept"] if now else [],
    }


def _source(row: Json, project: Path) -> SourceReport:
    """The address of the source, without a connection to it."""
    known = row["source_identity"]
    conninfo = row["source_conninfo"]
    if row["source_name"] in config.environments(project):
        with suppress(ConfitureError):  # a fault of the environment is reported by the commands that use it
            conninfo = config.resolve(row["source_name"], project).public
    host, port = config.place(conninfo)
    return {"host": host, "port": port, "database": known["database"], "version": str(known["version"] // 10000)}


def _target_closed(tx: Transaction, run_schema: str) -> bool | None:
    """Whether the target refuses the application's writes; None if this cannot be determined."""
    try:
        with tx.pg.transaction():
            return write_block.is_blocked(tx, run_schema)
    except (psycopg.Error, Refused):
        return None


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


def _tables(rows: Sequence[Json], rebuilding: Sequence[Json]) -> tuple[TableReport, ...]:
    built = {r["target"]: (r["back"], r["taken"]) for r in rebuilding}
    found = []
    for row in rows:
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


def _progress(rows: Sequence[Json], tables: Sequence[TableReport], now: datetime) -> ProgressReport:
    done, total = sum(t.rows_done for t in tables), sum(t.rows_total for t in tables)
    rate = _rate(rows, now)
    share = percent(done, total) if tables else 0.0
    return ProgressReport(
        done, total, any(t.total_is_estimate for t in tables), share, rate, _eta(done, total, rate, now)
    )


def _rate(rows: Sequence[Json], now: datetime) -> float | None:
    """Rows a second that were copied of tables in the last ten minutes; None without any."""
    recent = sum(r["recent"] for r in rows)
    began = min((r["first_recent"] for r in rows if r["first_recent"] is not None), default=None)
    return recent / max((now - began).total_seconds(), 0.001) if began is not None and recent else None


def _eta(done: int, total: int, rate: float | None, now: datetime) -> datetime | None:
    reliable = rate and ETA_FROM_PERCENT <= percent(done, total) < 100
    return now + timedelta(seconds=(total - done) / rate) if rate and reliable else None


def _with_rates(rows: Sequence[Json], tables: Sequence[TableReport], now: datetime) -> tuple[TableReport, ...]:
    """The tables, those that are being copied with their rate and their expected end."""
    rates = {row["target"]: _rate([row], now) for row in rows}
    return tuple(
        replace(t, rows_per_second=rates[t.target], eta=_eta(t.rows_done, t.rows_total, rates[t.target], now))
        if t.phase is TablePhase.COPYING and t.target in rates
        else t
        for t in tables
    )


def _compared(
    tx: Transaction, run: UUID, attempt: Json | None, tables: Sequence[TableReport]
) -> tuple[TableReport, ...]:
    """The tables with what the last verification has compared of them."""
    if attempt is None:
        return tuple(tables)
    found = {row["subject"]: row for row in _rows(tx, "compared", run=run, number=attempt["number"])}
    return tuple(
        replace(t, rows_compared=found[t.target]["rows"], differences=found[t.target]["differences"])
        if t.target in found
        else t
        for t in tables
    )


def _replicas(tx: Transaction) -> tuple[ReplicaReport, ...]:
    """The standbys of the target's server by name."""
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(load("replicas.sql")["connected"]).fetchall()
    lags: dict[str, float] = {}
    for row in rows:
        if not row["hidden"]:
            lag = Replica(row["name"], "target", row["clock"], row["behind"]).lag
            lags[row["name"]] = max(lag, lags.get(row["name"], 0.0))
    return tuple({"name": name, "lag_seconds": lag} for name, lag in lags.items())


class _Measured(TypedDict):
    replicas: tuple[ReplicaReport, ...]
    rehearsal: PauseReport | None
    write_pause: PauseReport | None


def _measured(tx: Transaction, run: UUID) -> _Measured:
    found = {row["kind"]: _pause(row["at"], row["detail"]) for row in _rows(tx, "pauses", run=run)}
    return {
        "replicas": _replicas(tx),
        "rehearsal": found.get("rehearsed"),
        "write_pause": found.get("write pause"),
    }


def _pause(at: datetime, detail: Json) -> PauseReport:
    return {
        "at": at,
        "command": detail["command"],
        "seconds": detail["seconds"],
        "limit": detail["limit"],
        "complete": detail["complete"],
        "problem": detail.get("problem"),
        "parts": detail["parts"],
    }


def _verification(
    row: Json | None, tables: Sequence[TableReport], runner: RunnerReport
) -> tuple[VerificationReport, tuple[str, ...]]:
    """The last verification, and the target tables in which it found rows that differ."""
    if row is None:
        return {
            "status": "not run",
            "checked_at": None,
            "stale": False,
            "differences": 0,
            "rows_compared": 0,
            "rows_to_compare": 0,
            "last_complete_at": None,
            "last_complete_seconds": None,
        }, ()
    found: VerificationReport = {
        "status": row["verdict"] if row["verdict"] is not None else "running" if runner.alive else "interrupted",
        "checked_at": row["checked_at"],
        "stale": bool(row["stale"]),
        "differences": row["differences"],
        "rows_compared": sum(t.rows_compared for t in tables),
        "rows_to_compare": sum(t.rows_done for t in tables),
        "last_complete_at": row["last_complete_at"],
        "last_complete_seconds": row["last_complete_seconds"],
    }
    return found, tuple(row["differing"] or ())


def _changes(row: Json, measured: Json | None) -> ChangesReport:
    of = measured or {}
    return {
        "captured": row["captured"],
        "passes": of.get("passes"),
        "applied": of.get("applied"),
        "backlog": of.get("backlog"),
        "oldest_seconds": of.get("oldest_seconds"),
        "measured_seconds": row["idle_seconds"] if of.get("backlog") is not None else None,
    }


def _locks(tx: Transaction, run: UUID) -> LocksReport:
    (row,) = _rows(tx, "locks", run=run)
    return {"waiting_for_us": row["waiting_for_us"], "we_wait": row["we_wait"]}


def _error(row: Json) -> ErrorReport:
    return {"at": row["at"], "kind": row["kind"], "text": for_people(row["text"])}


def _throttle(tx: Transaction, run: UUID, *, waits: bool) -> tuple[ThrottleReport, tuple[float, str | None]]:
    """Whether a limit slows the copy down, the limits, and the seconds since then with the reason.

    :param waits: False when no command is running or it is paused.
    """
    held = next(iter(_rows(tx, "throttle", run=run)), None) if waits else None
    stored = [row["detail"] for row in _rows(tx, "limits", run=run)]
    limits = throttle_from_json(stored[0] if stored else {}).as_json()
    if held is None or held["reason"] is None:
        return {"active": False, "reason": None, "since": None, "limits": limits}, (0.0, None)
    reason = held["reason"]
    return {"active": True, "reason": reason, "since": held["since"], "limits": limits}, (held["seconds"], reason)
