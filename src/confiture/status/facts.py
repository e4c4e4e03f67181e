"""The values of a status report: no I/O, so that the modules that print a report import nothing else.

``severity`` judges them, ``report`` reads them from the journal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any

Json = dict[str, Any]

#: Of the JSON; raised when a field goes or changes its meaning.
SCHEMA_VERSION = 2

#: How ``leave_alone`` begins where a database may be closed whose counterpart is not open; the command follows.
UNSAFE = "not safe to leave: finish it now"


class Severity(IntEnum):
    """As monitoring systems count."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """Who runs it; ``alive`` by its lease, None fields when nobody ever did.

    :ivar absent_seconds: since the last runner ended or was last heard of; 0 while it is alive.
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
    """Of rows, never over 100; 100 of nothing."""
    return min(100.0, 100.0 * done / total) if total else 100.0


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
        return percent(self.rows_done, self.rows_total)


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
class RunReport:
    """Everything asked of one run, in the order it is asked."""

    id: str
    source: str
    target: str
    state: str
    state_since: datetime
    started_at: datetime
    writes_served_by: str
    cutover_phase: str | None
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
        """One line: what the severity comes from."""
        if self.unknown and self.severity is Severity.UNKNOWN:
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
