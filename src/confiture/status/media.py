"""The values of a status report about incremental migrations and syncs. The module does no I/O.

``facts`` has those of a move, and those that the media share.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict

from confiture.states import CLEANED, FINAL, State
from confiture.status.facts import (
    BuildReport,
    ErrorReport,
    LocksReport,
    NextReport,
    ProgressReport,
    RunnerReport,
    ServerReport,
    Severity,
    SourceReport,
    TableReport,
    ThrottleReport,
)
from confiture.types import Count, ShortId


class BlockerReport(TypedDict):
    """A session that a session of the runner waits for.

    :ivar seconds: since its transaction began; null where the role that asks cannot see it.
    """

    pid: int
    role: str
    application: str
    seconds: float | None


# Migrations -----------------------------------------------------------------------------------------


class AppliedReport(TypedDict):
    """A migration that the ledger has as applied.

    :ivar at: when it was.
    :ivar actor: the user, host and process of the command.
    :ivar role: the database role of its session, by the server.
    :ivar seconds: that its statements took; null for a baseline.
    :ivar baseline: whether it was recorded without being run.
    """

    version: int
    name: str
    at: datetime
    actor: str
    role: str
    seconds: float | None
    out_of_order: bool
    baseline: bool


class PendingReport(TypedDict):
    """A migration that has a file and is not applied.

    :ivar out_of_order: whether a later one is applied, so that ``up`` needs ``--out-of-order``.
    """

    version: int
    name: str
    out_of_order: bool


class UnfinishedReport(TypedDict):
    """A migration without a transaction of which some statements are done.

    :ivar direction: of the file that runs.
    :ivar statements_done: that the ledger has as done.
    :ivar statements: of the file; null where the file is not found.
    :ivar began_at: when its first statement began.
    """

    version: int
    name: str
    direction: Literal["up", "down"]
    statements_done: Count
    statements: int | None
    began_at: datetime


MigrationsState = Literal["applied", "pending", "running", "interrupted", "unfinished"]


@dataclass(frozen=True, slots=True)
class MigrationsRun:
    """The last run of migrations: one ``migrate up`` or ``down``, with the commands that continued it.

    :ivar state: of the run; a run that failed is aborted.
    :ivar blocking: sessions that its runner waits for.
    """

    id: ShortId
    state: State
    state_since: datetime
    started_at: datetime
    runner: RunnerReport
    restarts: Count
    last_restart: datetime | None
    blocked_reason: str | None
    locks: LocksReport
    blocking: tuple[BlockerReport, ...]
    errors: tuple[ErrorReport, ...]

    @property
    def live(self) -> bool:
        """Whether it is not over."""
        return self.state not in FINAL


@dataclass(frozen=True, slots=True)
class MigrationsReport:
    """The incremental migrations of one database.

    :ivar target: the database as the operator named it.
    :ivar state: ``applied`` where nothing is known to be pending; ``interrupted`` where a run was killed between two
        migrations; ``unfinished`` where it was killed within one that is not transactional.
    :ivar applied: how many are applied.
    :ivar recent: those that were applied last, the newest first.
    :ivar folder: of the files; null where the project has no such folder, so that ``pending`` is null too.
    :ivar files_problem: why the files cannot be read; null if they can.
    :ivar edited: applied migrations whose file has been edited since, each with its version and name.
    :ivar missing: applied migrations whose file no longer exists.
    """

    target: str
    severity: Severity
    reasons: tuple[str, ...]
    state: MigrationsState
    applied: Count
    recent: tuple[AppliedReport, ...]
    folder: str | None
    files_problem: str | None
    pending: tuple[PendingReport, ...] | None
    unfinished: tuple[UnfinishedReport, ...]
    edited: tuple[str, ...]
    missing: tuple[str, ...]
    run: MigrationsRun
    leave_alone: str
    undo: str
    next: NextReport
    server: ServerReport

    @property
    def live(self) -> bool:
        """Whether a run of migrations is not over."""
        return self.run.live

    @property
    def reached(self) -> State:
        """The state of the last run."""
        return self.run.state

    @property
    def summary(self) -> str:
        """The database and the state of its migrations."""
        return f"{self.target} migrations {self.state}, {self.applied:,} applied"


# Syncs ----------------------------------------------------------------------------------------------


class ColumnRule(TypedDict):
    """A column with the rule by which it is masked.

    :ivar table: in the target.
    :ivar rule: with its options.
    :ivar why: the origin of the rule.
    """

    table: str
    column: str
    rule: str
    why: str


class LeakReport(TypedDict):
    """A masked column in the proof of no leak.

    :ivar values: distinct values of the result that were compared.
    :ivar found: those of them that also occur in the source.
    :ivar limit: the most of them in percent that may occur there by chance.
    :ivar leaks: whether more do.
    """

    table: str
    column: str
    rule: str
    values: Count
    found: Count
    limit: float
    leaks: bool


class ProofReport(TypedDict):
    """The proof of no leak: the values of each masked column of the result that also occur in the source.

    :ivar passed: whether no column is over its limit.
    """

    at: datetime
    passed: bool
    columns: list[LeakReport]


class KeysReport(TypedDict):
    """The foreign keys of the result, counted by queries of their own.

    :ivar violations: rows without a parent.
    """

    checked: Count
    violations: Count


@dataclass(frozen=True, slots=True)
class SyncRunReport:
    """One sync.

    :ivar id: the short name of the run.
    :ivar source: as the operator named it: an environment, or a conninfo without its secrets.
    :ivar target: as the operator named it.
    :ivar state: the last durable milestone. A sync that is complete is cleaned.
    :ivar actor: the user, host and process of the command that began it.
    :ivar consistent: whether every row is read in one snapshot of the source.
    :ivar options: that choose the rows, as on the command line.
    :ivar masked: the columns that a rule masks; null before the sync has a plan, like ``kept``.
    :ivar kept: how many columns are copied as they are.
    :ivar rows: in its tables at its end; null before.
    :ivar proof: null before it has begun.
    :ivar foreign_keys: null before they have been checked.
    """

    id: ShortId
    source: str
    target: str
    state: State
    state_since: datetime
    started_at: datetime
    actor: str
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
    locks: LocksReport
    blocking: tuple[BlockerReport, ...]
    errors: tuple[ErrorReport, ...]
    consistent: bool
    options: tuple[str, ...]
    masked: tuple[ColumnRule, ...] | None
    kept: int | None
    rows: int | None
    proof: ProofReport | None
    foreign_keys: KeysReport | None
    leave_alone: str
    undo: str
    next: NextReport
    server: ServerReport
    source_server: SourceReport

    @property
    def live(self) -> bool:
        """Whether it is not over."""
        return self.state not in FINAL

    @property
    def reached(self) -> State:
        """The state of the run."""
        return self.state

    @property
    def done(self) -> bool:
        """Whether it is complete."""
        return self.state == CLEANED

    @property
    def summary(self) -> str:
        """Both databases and the state."""
        share = f" {self.progress.percent:.1f} %" if self.live else ""
        return f"{self.source} -> {self.target} sync {self.state}{share}"
