"""The values of a status report. The module does no I/O.

``report`` reads the values from the journal and ``severity`` judges them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any

from confiture.journal.model import TablePhase
from confiture.states import CutoverPhase
from confiture.types import Json

#: The version of the JSON; raised when a field is removed or changes its meaning.
SCHEMA_VERSION = 2

#: The beginning of ``leave_alone`` while one database may be closed and the other is not open; the command follows.
UNSAFE = "not safe to leave: finish it now"


class Severity(IntEnum):
    """The exit codes of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """The last command that held the run; the first fields are None when no command ever did.

    :ivar silent_seconds: since the last heartbeat.
    :ivar alive: whether it holds the lease.
    :ivar ended: whether it released the run, as opposed to a crash.
    :ivar absent_seconds: since it ended, or since its last heartbeat; 0 while it is alive.
    """

    host: str | None
    pid: int | None
    version: str | None
    command: str | None
    heartbeat_at: datetime | None
    silent_seconds: float | None
    alive: bool
    ended: bool
    ended_at: datetime | None = None
    ended_why: str | None = None
    absent_seconds: float = 0.0


def percent(done: int, total: int) -> float:
    """Rows done in percent, at most 100; 100 when there are no rows."""
    return min(100.0, 100.0 * done / total) if total else 100.0


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table of a run.

    :ivar checkpoint: the last key of the last chunk that is done; None before the first.
    """

    source: str
    target: str
    phase: TablePhase
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
        """Rows done in percent, at most 100."""
        return percent(self.rows_done, self.rows_total)


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """Rows of all tables; ``eta`` is None while there is no reliable estimate."""

    rows_done: int
    rows_total: int
    total_is_estimate: bool
    percent: float
    rows_per_second: float | None
    eta: datetime | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run, in the order of the JSON document."""

    id: str
    source: str
    target: str
    state: str
    state_since: datetime
    started_at: datetime
    writes_served_by: str
    cutover_phase: CutoverPhase | None
    rolled_back_at: datetime | None
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
    stale_views: tuple[str, ...]
    errors: tuple[Json, ...]
    leave_alone: str
    undo: str
    next: Json
    server: Json


@dataclass(frozen=True, slots=True)
class Report:
    """The requested runs, and an explanation for each target that could not be read."""

    generated_at: datetime
    runs: tuple[RunReport, ...]
    unknown: tuple[str, ...] = field(default=())

    @property
    def severity(self) -> Severity:
        """The highest severity of all runs; UNKNOWN if a target could not be read and no run is CRITICAL."""
        worst = max((Severity(r.severity) for r in self.runs), default=Severity.OK)
        if self.unknown and worst is not Severity.CRITICAL:
            return Severity.UNKNOWN
        return worst

    @property
    def summary(self) -> str:
        """One line: the run and the reason that determine the severity."""
        if self.unknown and self.severity is Severity.UNKNOWN:
            return self.unknown[0]
        if not self.runs:
            return "no run"
        worst = max(self.runs, key=lambda r: r.severity)
        why = f": {worst.reasons[0]}" if worst.reasons else ""
        return f"{worst.source} -> {worst.target} {worst.state} {worst.progress.percent:.1f} %{why}"

    def as_json(self) -> Json:
        """The report as JSON (``schemas/status.json``)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "generated_at": self.generated_at.isoformat(),
            "severity": self.severity.name,
            "summary": self.summary,
            "unknown": list(self.unknown),
            "runs": [_plain(asdict(run)) for run in self.runs],
        }


def _plain(value: Any) -> Any:
    """Convert times to ISO 8601 and severities to their names."""
    if isinstance(value, dict):
        return {k: Severity(v).name if k == "severity" else _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.isoformat() if isinstance(value, datetime) else value
