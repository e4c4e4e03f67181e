"""The values of the report that is attached to a change request: what was agreed, done, measured and compared. No I/O.

``sign_off_reader`` reads them from the journal. All times are by the target's clock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from confiture.journal.approvals import Approval
from confiture.states import Served, State
from confiture.status.course import StateSpan, WritePause
from confiture.status.details import Check, Comparison, Event, FoundDifference
from confiture.status.facts import ServerReport, Severity, SourceReport, VerificationStatus, plain
from confiture.types import Count, Json, ShortId

#: Events and differences of a report at most.
EVENTS_MOST = 10_000
DIFFERENCES_MOST = 10_000


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """The plan that the run carries out.

    :ivar hash: SHA-256 of the plan.
    :ivar mapping: the mapping file as the journal has stored it, without passwords; None without one.
    :ivar mapping_file: its path as it was given.
    :ivar notes: remarks of the plan.
    :ivar rollback_problems: why a rollback after the cutover is not possible; empty if it is.
    """

    hash: str
    mapping: str | None
    mapping_file: str | None
    notes: tuple[str, ...]
    rollback_problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForecastFacts:
    """A number that setup expected, and its actual value.

    :ivar what: the copy, the indexes and the verification, each from its begin to its end; the write pause; the disk
        that the target's tables and indexes need.
    :ivar actual: None where it is not known, or not yet.
    :ivar basis: of the forecast.
    """

    what: Literal["copy", "indexes", "verification", "write pause", "disk"]
    unit: Literal["seconds", "bytes"]
    forecast: float
    actual: float | None
    basis: str


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table of the plan: what was expected, copied and compared.

    :ivar key: the columns of the source by which it was copied; empty for a table without a key.
    :ivar estimate: rows that the plan expected.
    :ivar rows_copied: rows that the copy has counted. Rows that were applied later are not among them.
    :ivar copy_seconds: from its first chunk to its last; None before the end.
    :ivar equal: the result of the last verification; None where the table was not compared.
    :ivar source_rows: rows of the source that were compared; None like ``equal``, and so is ``target_rows``.
    :ivar not_compared: columns of the target that the source has no value for.
    """

    source: str
    target: str
    strategy: str
    key: tuple[str, ...]
    estimate: Count
    rows_copied: Count
    copy_seconds: float | None
    equal: bool | None
    source_rows: int | None
    target_rows: int | None
    not_compared: tuple[str, ...]
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class VerificationFacts:
    """The last verification.

    :ivar number: its number in the journal; None before the first.
    :ivar stale: whether rows or the plan changed since.
    :ivar last_complete_at: when the last complete verification began; every row has been compared since.
    :ivar differences: how many it found.
    """

    number: int | None
    status: VerificationStatus
    checked_at: datetime | None
    stale: bool
    last_complete_at: datetime | None
    checks: tuple[Check, ...]
    differences: Count


@dataclass(frozen=True, slots=True)
class Repair:
    """Rows of the target that ``verify --repair`` copied again."""

    at: datetime
    actor: str
    table: str
    rows: Count


@dataclass(frozen=True, slots=True)
class SignOff:
    """The report about one run, for a change request.

    :ivar schema_version: raised when a field is removed or changes its meaning; fields may be added.
    :ivar version: of Confiture, which made the report; ``run_version`` is the version that set the run up.
    :ivar source: as the operator named it: an environment, or a conninfo without its secrets.
    :ivar target: as the operator named it.
    :ivar problems: the reasons of the severity that ``status`` reports.
    :ivar plan: None before the run has a plan.
    :ivar forecasts: empty where setup has recorded none.
    :ivar states: each state that the run was in.
    :ivar approval_required: whether the cutover needs an approval.
    :ivar approval: the newest valid one, else the newest that is void; None before the first.
    :ivar pauses: every rehearsal, and the write pause of each cutover and rollback.
    :ivar differences: those of the last verification.
    :ivar values_shown: whether the values of rows that differ are part of the report.
    :ivar settings: the statements that a session needs before those of ``comparison``.
    :ivar events: the oldest first, at most 10,000.
    """

    schema_version: Literal[1]
    generated_at: datetime
    version: str
    run: ShortId
    run_version: str
    source: str
    target: str
    source_server: SourceReport
    target_server: ServerReport
    state: State
    state_since: datetime
    started_at: datetime
    writes_served_by: Served
    severity: Severity
    problems: tuple[str, ...]
    plan: PlanFacts | None
    forecasts: tuple[ForecastFacts, ...]
    states: tuple[StateSpan, ...]
    approval_required: bool
    approval: Approval | None
    pauses: tuple[WritePause, ...]
    tables: tuple[TableFacts, ...]
    verification: VerificationFacts
    differences: tuple[FoundDifference, ...]
    values_shown: bool
    repairs: tuple[Repair, ...]
    settings: tuple[str, ...]
    events: tuple[Event, ...]

    @property
    def last_rehearsal(self) -> WritePause | None:
        """The last rehearsal; None before the first."""
        return next((p for p in reversed(self.pauses) if p.rehearsed), None)

    @property
    def rows_compared(self) -> int:
        """Rows of the source in the last verification."""
        return sum(t.source_rows or 0 for t in self.tables)

    def as_json(self) -> Json:
        """The report with times as text (``schemas/report.json``)."""
        found: Json = plain(asdict(self))
        return found
