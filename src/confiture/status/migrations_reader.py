"""Read the incremental migrations of one database for a status report: the ledger, the files and the last run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from psycopg.rows import dict_row

from confiture.errors import ConfitureError
from confiture.incremental import files
from confiture.incremental.model import Direction, Entry, Migration, Script
from confiture.incremental.standing import Judged, Standing, judged
from confiture.journal import viewed
from confiture.naming import Naming
from confiture.postgres.session import Transaction
from confiture.status import run_reader
from confiture.status.facts import ServerReport
from confiture.status.media import (
    AppliedReport,
    MigrationsReport,
    MigrationsRun,
    PendingReport,
    UnfinishedReport,
)
from confiture.status.media_severity import (
    MigrationFacts,
    judge_migrations,
    leave_migrations,
    next_of_migrations,
    undo_migrations,
)
from confiture.types import counted

#: Applied migrations that a report lists.
RECENT = 10


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a project.

    :ivar folder: None where the project has none.
    :ivar problem: why they cannot be read; None if they can.
    """

    folder: str | None
    found: tuple[Migration, ...] = ()
    problem: str | None = None

    @property
    def known(self) -> bool:
        """Whether it is known which migrations have a file."""
        return self.folder is not None and self.problem is None


def of_project(project: Path) -> Files:
    """The files of a project; their faults are part of the result."""
    folder = project / files.FOLDER
    if not folder.is_dir():
        return Files(None)
    try:
        return Files(str(folder), files.read(folder))
    except ConfitureError as error:
        first, *more = error.why.splitlines() or [""]
        others = f", and {counted(len(more), 'fault')} more" if more else ""
        return Files(str(folder), problem=": ".join(filter(None, (error.what, first))) + others)


def read(
    tx: Transaction, now: datetime, server: ServerReport, named: Naming, project: Path
) -> tuple[UUID, MigrationsReport]:
    """The migrations of a database whose journal has a run of migrations, and the last such run."""
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        entries = cursor.execute(viewed.statements(tx, "ledger.sql")["entries"]).fetchall()
    ledger = [Entry(**{**row, "direction": Direction(row["direction"])}) for row in entries]
    known = of_project(project)
    every = judged(known.found, ledger)
    id, run = _run(tx, now)
    applied = sorted((e for e in ledger if e.applied), key=lambda e: (e.done_at or e.begun_at, e.version), reverse=True)
    facts = MigrationFacts(
        applied=len(applied),
        newest=max(applied, key=lambda e: e.version).label if applied else None,
        pending=_pending(every) if known.known else None,
        unfinished=_unfinished(tx, every),
        edited=_labels(every, Standing.EDITED),
        missing=_labels(every, Standing.MISSING) if known.known else (),
        files_problem=known.problem,
        run=run,
    )
    severity, reasons = judge_migrations(facts)
    return id, MigrationsReport(
        target=named.target,
        severity=severity,
        reasons=reasons,
        state=facts.state,
        applied=facts.applied,
        recent=tuple(_applied(entry) for entry in applied[:RECENT]),
        folder=known.folder,
        files_problem=known.problem,
        pending=facts.pending,
        unfinished=facts.unfinished,
        edited=facts.edited,
        missing=facts.missing,
        run=run,
        leave_alone=leave_migrations(facts),
        undo=undo_migrations(facts),
        next=next_of_migrations(facts, named),
        server=server,
    )


def _run(tx: Transaction, now: datetime) -> tuple[UUID, MigrationsRun]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        (row,) = cursor.execute(viewed.statements(tx, "media.sql")["migrations_run"]).fetchall()
    found = run_reader.read(tx, row["id"], row["age"], now)
    return row["id"], MigrationsRun(
        id=row["id"].hex[:8],
        state=row["state"],
        state_since=row["state_since"],
        started_at=row["started_at"],
        runner=found.runner,
        restarts=found.restarts,
        last_restart=found.last_restart,
        blocked_reason=row["blocked_reason"],
        locks=found.locks,
        blocking=run_reader.blocking(tx, row["id"]),
        errors=found.errors,
    )


def _applied(entry: Entry) -> AppliedReport:
    return {
        "version": entry.version,
        "name": entry.name,
        "at": entry.done_at or entry.begun_at,
        "actor": entry.actor,
        "role": entry.role,
        "seconds": entry.seconds,
        "out_of_order": entry.out_of_order,
        "baseline": entry.baseline,
    }


def _pending(every: Sequence[Judged]) -> tuple[PendingReport, ...]:
    found = [each for each in every if each.standing in (Standing.PENDING, Standing.OUT_OF_ORDER)]
    return tuple(
        {
            "version": each.version,
            "name": each.label.partition("_")[2],
            "out_of_order": each.standing is Standing.OUT_OF_ORDER,
        }
        for each in found
    )


def _labels(every: Sequence[Judged], standing: Standing) -> tuple[str, ...]:
    return tuple(each.label for each in every if each.standing is standing)


def _unfinished(tx: Transaction, every: Sequence[Judged]) -> tuple[UnfinishedReport, ...]:
    found = [each for each in every if each.standing is Standing.UNFINISHED]
    if not found:
        return ()
    done: dict[int, int] = dict(tx.pg.execute(viewed.statements(tx, "media.sql")["statements"]).fetchall())
    return tuple(_half(each, each.entry, done.get(each.version, 0)) for each in found if each.entry is not None)


def _half(each: Judged, entry: Entry, done: int) -> UnfinishedReport:
    script = each.migration.script(entry.direction) if each.migration is not None else None
    return {
        "version": each.version,
        "name": entry.name,
        "direction": "up" if entry.direction is Direction.UP else "down",
        "statements_done": done,
        "statements": _statements(script),
        "began_at": entry.begun_at,
    }


def _statements(script: Script | None) -> int | None:
    """How many statements a file has; None without one, or if it cannot be split."""
    if script is None:
        return None
    try:
        return len(files.statements([script])[script.path])
    except ConfitureError:
        return None
