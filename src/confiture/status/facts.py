"""The values of a status report. The module does no I/O.

``report`` reads the values from the journal and ``severity`` judges them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, TypeVar

from confiture.copy.throttle import Limits
from confiture.journal.model import TablePhase
from confiture.states import FINAL, CutoverPhase, ReadsPhase, Served, State
from confiture.types import Count, Json, ShortId

if TYPE_CHECKING:
    from confiture.status.media import MigrationsReport, SyncRunReport  # a report about moves does without them

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


E = TypeVar("E", bound=StrEnum)


def known(kind: type[E], text: str | None) -> E | None:
    """The member of an enum; None for a value of a newer version, whose run is reported as UNKNOWN."""
    return next((member for member in kind if member == text), None)


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """The last command that held the run; the first fields are None when no command ever did.

    :ivar silent_seconds: since the last heartbeat, by the target's clock.
    :ivar alive: whether it holds the lease.
    :ivar ended: whether it released the run, as opposed to a crash.
    :ivar ended_why: ``finished``, or the error or signal that ended it.
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
    :ivar attempts: the highest number of attempts of a chunk.
    :ivar rebuilt: indexes and constraints that are restored, of ``to_rebuild``.
    :ivar rows_per_second: over the last ten minutes; None while no rows are copied.
    :ivar eta: None while there is no reliable estimate.
    :ivar rows_compared: rows of the source, by the last verification.
    :ivar differences: that the last verification found.
    """

    source: str
    target: str
    phase: TablePhase
    strategy: str | None
    rows_done: Count
    rows_total: Count
    total_is_estimate: bool
    checkpoint: str | None
    attempts: Count
    failed_chunks: Count
    last_error: str | None
    rebuilt: Count
    to_rebuild: Count
    rows_per_second: float | None = None
    eta: datetime | None = None
    rows_compared: Count = 0
    differences: Count = 0

    @property
    def percent(self) -> float:
        """Rows done in percent, at most 100."""
        return percent(self.rows_done, self.rows_total)


class BuildReport(TypedDict):
    """An index that is being built.

    :ivar name: as SQL; null where the role that asks cannot see it.
    :ivar phase: as PostgreSQL calls it in ``pg_stat_progress_create_index``.
    :ivar percent: of the phase; null for a phase that is not measured.
    """

    name: str | None
    table: str
    phase: str
    percent: float | None


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """Rows of all tables.

    :ivar rows_per_second: over the last ten minutes; None while no rows are copied.
    :ivar eta: None while there is no reliable estimate.
    """

    rows_done: Count
    rows_total: Count
    total_is_estimate: bool
    percent: Annotated[float, {"minimum": 0, "maximum": 100}]
    rows_per_second: float | None
    eta: datetime | None


class ThrottleReport(TypedDict):
    """Whether a limit slows the copy down."""

    active: bool
    reason: str | None
    since: datetime | None
    limits: Limits


class ChangesReport(TypedDict):
    """The changes that were applied, and those that waited at the last pass.

    :ivar passes: catch-up passes; null before the first, like ``applied``.
    :ivar applied: rows.
    :ivar backlog: log rows that waited.
    :ivar measured_seconds: since then; the backlog grows while no command applies changes.
    """

    captured: bool
    passes: int | None
    applied: int | None
    backlog: int | None
    oldest_seconds: float | None
    measured_seconds: float | None


class ReadsReport(TypedDict):
    """Where the application's reads go. Before the cutover they may go to the target, which is behind the source.

    :ivar served_by: unknown while they are being redirected to the other side.
    :ivar phase: null while they go where the writes go.
    :ivar since: when the phase began.
    :ivar staleness_seconds: every change that was committed on the source longer ago is in the target; null before the
        first measurement, and without a phase.
    :ivar max_staleness_seconds: the limit that ``--max-staleness`` has set.
    :ivar not_kept: tables of the target without a key, which have the rows of their copy until the cutover.
    """

    served_by: Served
    phase: ReadsPhase | None
    since: datetime | None
    staleness_seconds: float | None
    max_staleness_seconds: float | None
    not_kept: list[str]


class LocksReport(TypedDict):
    """The sessions of the target that wait for a lock.

    :ivar waiting_for_us: sessions that are blocked by the runner.
    :ivar we_wait: sessions of the runner that are blocked.
    """

    waiting_for_us: Count
    we_wait: Count


VerificationStatus = Literal["not run", "running", "interrupted", "equal", "different"]


class VerificationReport(TypedDict):
    """The last verification.

    :ivar stale: whether rows or the plan changed since.
    :ivar rows_compared: rows of the source.
    :ivar rows_to_compare: rows that were copied; the source may have more or fewer by now.
    :ivar last_complete_at: when the last complete verification began; every row has been compared since.
    :ivar last_complete_seconds: seconds since then, by the target's clock.
    """

    status: VerificationStatus
    checked_at: datetime | None
    stale: bool
    differences: Count
    rows_compared: Count
    rows_to_compare: Count
    last_complete_at: datetime | None
    last_complete_seconds: float | None


class PartReport(TypedDict):
    """A part of a write pause."""

    name: str
    seconds: float


class PauseReport(TypedDict):
    """The write pause of a cutover or rollback, as rehearsed or as measured.

    :ivar at: when it was recorded.
    :ivar command: ``cutover`` or ``rollback``.
    :ivar seconds: expected, or measured.
    :ivar limit: ``--max-write-pause`` in seconds; null where the application was stopped.
    :ivar complete: whether every part was measured. When it was not, a measured pause was at most as long.
    :ivar problem: why a rehearsed command would have been aborted; else null.
    """

    at: datetime
    command: str
    seconds: float
    limit: float | None
    complete: bool
    problem: str | None
    parts: list[PartReport]


class ReplicaReport(TypedDict):
    """A standby that is connected to the target's server.

    :ivar name: its ``application_name``; of several that have the same, the one that is furthest behind.
    """

    name: str
    lag_seconds: float


class ApprovalReport(TypedDict):
    """The approval of the cutover by another role.

    :ivar required: whether the cutover is refused without one.
    :ivar role: that approved, as the server reports it; null before the first approval, like ``at``.
    :ivar void: why the approval is no longer valid; null while it is.
    """

    required: bool
    role: str | None
    at: datetime | None
    void: str | None


class RollbackReport(TypedDict):
    """Whether a rollback is possible, and why."""

    possible: bool
    why: str
    command: str | None


class ErrorReport(TypedDict):
    """An error of the last 24 hours."""

    at: datetime
    kind: str
    text: str


class StepReport(TypedDict):
    """An action and its command.

    :ivar command: ready to paste; None when there is nothing to do.
    """

    action: str
    command: str | None


class NextReport(StepReport):
    """The next action.

    :ivar command: ready to paste; None when there is nothing to do.
    :ivar alternatives: other possible actions.
    :ivar hint: what the command needs in addition.
    """

    alternatives: list[StepReport]
    hint: str | None


class ServerReport(TypedDict):
    """The target's server."""

    host: str
    port: int
    database: str
    version: str


class SourceReport(TypedDict):
    """The source's server: as its environment names it now, else as setup has recorded it.

    :ivar host: null where libpq determines it, as with ``service=NAME``; several, with commas, for several hosts.
    :ivar port: null where libpq determines it, or for several hosts.
    :ivar version: of the server at setup, the major version.
    """

    host: str | None
    port: int | None
    database: str
    version: str


class ForecastReport(TypedDict):
    """The forecast that setup recorded, against the run so far.

    :ivar recorded_at: by setup.
    :ivar seconds: until the run is ready for its cutover, of which ``copy_seconds`` for the copy.
    :ivar elapsed_seconds: since the copy began; 0 before it.
    :ivar ready_at: when the run is ready by the forecast; null before the copy begins, after it has ended, and once
        the forecast has proved too short.
    """

    recorded_at: datetime
    seconds: float
    copy_seconds: float
    elapsed_seconds: float
    ready_at: datetime | None


class DiskReport(TypedDict):
    """The disk of the target's server, in bytes.

    :ivar expected: of the rows and indexes in the end.
    :ivar used: the growth of the database since setup.
    :ivar free: null where it is not known.
    :ivar missing: what the rest of the run needs beyond what is free; 0 where that is not known.
    :ivar full_in_seconds: until the disk is full at the average growth so far; null without growth, where no command is
        running or the free space is not known, and after the copy.
    """

    expected: Count
    used: Count
    free: int | None
    missing: Count
    full_in_seconds: float | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run, in the order of the JSON document.

    :ivar id: the short name of the run.
    :ivar source: as the operator named it: an environment, or a conninfo without its secrets.
    :ivar target: as the operator named it.
    :ivar state: the last durable milestone.
    :ivar writes_served_by: the database that serves the application's writes; unknown if the target alone does not
        determine it.
    :ivar cutover_phase: the recorded phase of the cutover or rollback; None before the first.
    :ivar rolled_back_at: when the source began to serve again; None unless a rollback followed the last cutover.
    :ivar blocked_reason: the reason that blocks the run; None when there is none.
    :ivar reasons: of the severity, the most severe first.
    :ivar restarts: the number of takeovers from a runner that had died.
    :ivar stale_views: materialized views of the target that are not refreshed since the cutover. While reads go to the
        target before it, every one: they are refreshed only when the reads are opened.
    :ivar errors: the newest first.
    :ivar replicas: empty where the role may not see them.
    :ivar rehearsal: the last one; null before the first.
    :ivar write_pause: of the last cutover or rollback; null before the first.
    :ivar forecast: null for a run without a recorded forecast and after the cutover, like ``disk``.
    """

    id: ShortId
    source: str
    target: str
    state: State
    state_since: datetime
    started_at: datetime
    writes_served_by: Served
    reads: ReadsReport
    cutover_phase: CutoverPhase | None
    rolled_back_at: datetime | None
    blocked_reason: str | None
    severity: Severity
    reasons: tuple[str, ...]
    runner: RunnerReport
    restarts: Count
    last_restart: datetime | None
    progress: ProgressReport
    throttle: ThrottleReport
    paused_since: datetime | None
    tables: tuple[TableReport, ...]
    builds: tuple[BuildReport, ...]
    changes: ChangesReport
    locks: LocksReport
    verification: VerificationReport
    rollback: RollbackReport
    stale_views: tuple[str, ...]
    errors: tuple[ErrorReport, ...]
    leave_alone: str
    undo: str
    next: NextReport
    server: ServerReport
    source_server: SourceReport
    approval: ApprovalReport
    replicas: tuple[ReplicaReport, ...] = ()
    rehearsal: PauseReport | None = None
    write_pause: PauseReport | None = None
    forecast: ForecastReport | None = None
    disk: DiskReport | None = None

    @property
    def live(self) -> bool:
        """Whether it is not over."""
        return self.state not in FINAL

    @property
    def reached(self) -> State:
        """The state of the run."""
        return self.state

    @property
    def summary(self) -> str:
        """Both databases and the state."""
        return f"{self.source} -> {self.target} {self.state} {self.progress.percent:.1f} %"


class StatusDocument(TypedDict):
    """The output of status with --format json.

    :ivar schema_version: raised when a field is removed or changes its meaning; fields may be added.
    :ivar generated_at: by the target's clock.
    :ivar severity: the highest of all runs; the exit code is 0, 1, 2 or 3.
    :ivar unknown: what could not be read, and why.
    :ivar runs: moves into another schema.
    :ivar migrations: incremental migrations, for each database that has a ledger of them.
    :ivar syncs: the last ones of each database, the live one first.
    """

    schema_version: Literal[2]
    generated_at: datetime
    severity: Severity
    summary: str
    unknown: list[str]
    runs: list[RunReport]
    migrations: list[MigrationsReport]
    syncs: list[SyncRunReport]


@dataclass(frozen=True, slots=True)
class Report:
    """The requested runs, and an explanation for each target that could not be read."""

    generated_at: datetime
    runs: tuple[RunReport, ...]
    unknown: tuple[str, ...] = field(default=())
    migrations: tuple[MigrationsReport, ...] = ()
    syncs: tuple[SyncRunReport, ...] = ()

    @property
    def parts(self) -> tuple[RunReport | MigrationsReport | SyncRunReport, ...]:
        """Everything that has a severity, the most severe first, and of equals what is live."""
        every: list[RunReport | MigrationsReport | SyncRunReport] = [*self.runs, *self.migrations, *self.syncs]
        return tuple(sorted(every, key=lambda part: (-part.severity, not part.live)))

    @property
    def shown(self) -> tuple[RunReport | MigrationsReport | SyncRunReport, ...]:
        """The parts without the syncs that a newer one of the same target follows."""
        newest = self.newest_syncs
        return tuple(part for part in self.parts if part not in self.syncs or part in newest)

    @property
    def newest_syncs(self) -> tuple[SyncRunReport, ...]:
        """The live or last sync of each target."""
        earlier = {one.id for part in self.syncs for one in self.before(part)}
        return tuple(one for one in self.syncs if one.id not in earlier)

    def before(self, sync: SyncRunReport) -> tuple[SyncRunReport, ...]:
        """The syncs of the same target that this one follows, the newest first."""
        same = [one for one in self.syncs if one.target == sync.target]
        return tuple(same[same.index(sync) + 1 :])

    @property
    def states(self) -> frozenset[State]:
        """The states of the live run of each target, or of its last runs if none is live."""
        live = {part.target for part in self.parts if part.live}
        return frozenset(part.reached for part in self.shown if part.live or part.target not in live)

    @property
    def severity(self) -> Severity:
        """The highest severity of all runs; UNKNOWN if a target could not be read and no run is CRITICAL."""
        worst = max((part.severity for part in self.parts), default=Severity.OK)
        if self.unknown and worst is not Severity.CRITICAL:
            return Severity.UNKNOWN
        return worst

    @property
    def summary(self) -> str:
        """One line: the run and the reason that determine the severity."""
        if self.unknown and self.severity is Severity.UNKNOWN:
            return self.unknown[0]
        if not self.parts:
            return "no run"
        worst = self.parts[0]
        why = f": {worst.reasons[0]}" if worst.reasons else ""
        return f"{worst.summary}{why}"

    def as_json(self) -> Json:
        """The report as :class:`StatusDocument`, with times and severities as text (``schemas/status.json``)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "generated_at": self.generated_at.isoformat(),
            "severity": self.severity.name,
            "summary": self.summary,
            "unknown": list(self.unknown),
            "runs": [plain(asdict(run)) for run in self.runs],
            "migrations": [plain(asdict(one)) for one in self.migrations],
            "syncs": [plain(asdict(one)) for one in self.syncs],
        }


def plain(value: Any) -> Any:
    """A value of a document with times as ISO 8601 and severities by their names."""
    if isinstance(value, dict):
        return {k: Severity(v).name if k == "severity" else plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.isoformat() if isinstance(value, datetime) else value
