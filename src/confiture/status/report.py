"""Read a status report from the target's journal in one transaction; ``severity`` judges the facts.

The report writes nothing and locks no row. It does not connect to the source: the target's journal has recorded
what the report needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypedDict
from uuid import UUID

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row

from confiture import config
from confiture.config import Database
from confiture.copy.throttle import Replica
from confiture.errors import CannotConnect, ConfitureError, Refused, UsageError
from confiture.journal import schema, viewed
from confiture.naming import Naming, naming
from confiture.postgres.connection import only_row
from confiture.postgres.session import Session, Transaction
from confiture.sql import load
from confiture.states import CUTOVER, FINAL, SCHEMA_TO_SCHEMA, UNKNOWN, Medium, ReadsPhase, Served, reads_served_by
from confiture.status import forecast_reader, run_reader
from confiture.status.facts import (
    ApprovalReport,
    ChangesReport,
    PauseReport,
    ReadsReport,
    ReplicaReport,
    Report,
    RunnerReport,
    RunReport,
    ServerReport,
    Severity,
    TableReport,
    VerificationReport,
    known,
)
from confiture.status.run_reader import rows
from confiture.status.severity import facts_of, judge, leave_alone, next_step, rollback, undo
from confiture.types import Json

TIMEOUT = "2s"


# Reading the report --------------------------------------------------------------------------------------------


#: Reads more of a run of a medium, in the transaction of the report.
Beside = Callable[[Transaction, UUID, Medium], None]


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
        tuple(one for r in found for one in r.migrations),
        tuple(one for r in found for one in r.syncs),
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
    found = rows(tx, "runs")
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
            asked.beside(tx, row["id"], SCHEMA_TO_SCHEMA)
    return _with_other_media(tx, Report(now, runs), server, named, asked)


def _with_other_media(tx: Transaction, found: Report, server: ServerReport, named: Naming, asked: _Asked) -> Report:
    """The report with the migrations and the syncs of the same target."""
    present = {row["medium"] for row in rows(tx, "media")} - {SCHEMA_TO_SCHEMA}
    if not present:
        return found
    from confiture.status import media_reader  # only a target that has runs of another medium needs it

    place = media_reader.Place(server, named, asked.project)
    return media_reader.added(tx, found, place, present, asked.beside, every=asked.every)


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
    read = run_reader.read(tx, run, row["age"], now)
    runner = read.runner
    attempt = next(iter(rows(tx, "verification", run=run)), None)
    tables = _compared(tx, run, attempt, read.tables)
    verification, differing = _verification(attempt, tables, runner)
    facts = facts_of(row, paused_seconds=read.paused and read.paused[0], throttled=read.waited, differing=differing)
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
        **run_reader.fields(row, read, project),
        writes_served_by=facts.served,
        reads=reads,
        cutover_phase=facts.phase,
        rolled_back_at=row["rolled_back_at"],
        severity=severity,
        reasons=reasons,
        tables=tables,
        changes=_changes(row, next(iter(rows(tx, "changes", run=run)), None) if row["captured"] else None),
        verification=verification,
        rollback=rollback(facts, named),
        stale_views=tuple(row["stale_views"] or ()),
        leave_alone=leave_alone(facts, runner, severity, named),
        undo=undo(facts, runner, named),
        next=next_step(facts, runner, tables, verification, named),
        server=server,
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
    (row,) = rows(tx, "reads", run=run)
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


def _target_closed(tx: Transaction, run_schema: str) -> bool | None:
    """Whether the target refuses the application's writes; None if this cannot be determined."""
    from confiture.capture import write_block  # only a switch that has begun needs it

    try:
        with tx.pg.transaction():
            return write_block.is_blocked(tx, run_schema)
    except (psycopg.Error, Refused):
        return None


def _compared(
    tx: Transaction, run: UUID, attempt: Json | None, tables: Sequence[TableReport]
) -> tuple[TableReport, ...]:
    """The tables with what the last verification has compared of them."""
    if attempt is None:
        return tuple(tables)
    found = {row["subject"]: row for row in rows(tx, "compared", run=run, number=attempt["number"])}
    return tuple(
        replace(t, rows_compared=found[t.target]["rows"], differences=found[t.target]["differences"])
        if t.target in found
        else t
        for t in tables
    )


def _replicas(tx: Transaction) -> tuple[ReplicaReport, ...]:
    """The standbys of the target's server by name."""
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(load("replicas.sql")["connected"]).fetchall()
    lags: dict[str, float] = {}
    for row in found:
        if not row["hidden"]:
            lag = Replica(row["name"], "target", row["clock"], row["behind"]).lag
            lags[row["name"]] = max(lag, lags.get(row["name"], 0.0))
    return tuple({"name": name, "lag_seconds": lag} for name, lag in lags.items())


class _Measured(TypedDict):
    replicas: tuple[ReplicaReport, ...]
    rehearsal: PauseReport | None
    write_pause: PauseReport | None


def _measured(tx: Transaction, run: UUID) -> _Measured:
    found = {row["kind"]: _pause(row["at"], row["detail"]) for row in rows(tx, "pauses", run=run)}
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
