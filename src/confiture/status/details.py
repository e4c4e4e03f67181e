"""The values that the page shows of a run in addition to its report. The module does no I/O.

``details_reader`` reads them from the journal. All times are by the target's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from confiture.states import State
from confiture.status.course import Course
from confiture.status.facts import Report, RunReport
from confiture.status.media import MigrationsRun, SyncRunReport
from confiture.types import Count, ShortId

#: Events, differences, and tables with the SQL of their comparison that a page has at most.
EVENTS_MOST = 500
DIFFERENCES_MOST = 200
COMPARISONS_MOST = 10


class Category(StrEnum):
    """The kinds of events that the page's filter distinguishes."""

    STATE = "state"
    COMMAND = "command"
    REQUEST = "request"
    FAULT = "fault"
    OTHER = "other"


_CATEGORIES = {
    **dict.fromkeys(("created", "start", "rehearsed", "copied"), Category.COMMAND),
    **dict.fromkeys(("pause", "resume", "throttle", "approval required", "approved", "granted"), Category.REQUEST),
    **dict.fromkeys(("takeover", "blocked", "bad row", "stale view", "differences", "failed"), Category.FAULT),
    "notification failed": Category.FAULT,
}


@dataclass(frozen=True, slots=True)
class Event:
    """A transition or a notable fact.

    :ivar to_state: the state that a transition reached; None for a fact.
    :ivar text: a description without values of rows; may be empty.
    :ivar role: the database role that recorded it, by the server; None in the record of an older version.
    """

    at: datetime
    kind: str
    actor: str
    to_state: State | None
    text: str
    role: str | None = None

    @property
    def category(self) -> Category:
        """The kind of the event for the filter."""
        return Category.STATE if self.to_state is not None else _CATEGORIES.get(self.kind, Category.OTHER)


@dataclass(frozen=True, slots=True)
class ComparedTable:
    """A table in the last verification.

    :ivar rows: rows of the source that were compared.
    :ivar target_rows: rows of the target that were compared.
    :ivar of_all: rows of the table as the copy has counted them.
    :ivar compared_at: when its last part was compared; None before the first.
    :ivar not_compared: columns of the target that the source has no value for.
    """

    target: str
    rows: Count
    target_rows: Count
    of_all: Count
    equal: bool
    compared_at: datetime | None
    not_compared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A check of the last verification other than that of the rows."""

    name: str
    equal: bool
    subjects: Count


@dataclass(frozen=True, slots=True)
class Comparison:
    """The SQL that compares all rows of a table once more, on each side; equal results mean equal rows.

    :ivar table: the target table.
    """

    table: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class FoundDifference:
    """A difference that the last verification found.

    :ivar key: names of the key's columns, each with its value, which is None where values are hidden.
    :ivar column: None for a whole row.
    :ivar source_value: None for NULL, and where values are hidden, like ``target_value``.
    """

    subject: str
    kind: str
    key: tuple[tuple[str, str | None], ...]
    column: str | None
    source_value: str | None
    target_value: str | None


@dataclass(frozen=True, slots=True)
class BlockingSession:
    """A session of the target that blocks the runner.

    :ivar application: empty when it is not visible to this role, like ``query``.
    :ivar seconds: since its transaction began; None when it is not visible to this role.
    :ivar query: the first characters of its statement, without secrets.
    """

    pid: int
    role: str
    application: str
    seconds: float | None
    query: str


@dataclass(frozen=True, slots=True)
class RehearsalBlocker:
    """A session, or a prepared transaction, that would have blocked the lock of the last rehearsal.

    :ivar pid: None for a prepared transaction.
    :ivar state: empty when it was not visible to the role, like ``seconds`` (None): since its transaction began.
    """

    pid: int | None
    role: str
    application: str
    state: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class ApprovalFacts:
    """The approval of the cutover.

    :ivar required: whether the run's cutover needs one.
    :ivar role: that approved, by the server; None before the first approval, like ``at``.
    :ivar void: why the approval is no longer valid; None while it is.
    """

    required: bool
    role: str | None = None
    at: datetime | None = None
    note: str | None = None
    void: str | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """Further facts of one run.

    :ivar events: the newest first, at most ``EVENTS_MOST`` of ``events_in_all``.
    :ivar comparisons: of ``COMPARISONS_MOST`` of the tables, those that differ first.
    :ivar settings: the statements that a session needs before them.
    :ivar values_shown: whether ``differences`` contain the values of rows.
    :ivar differences: at most ``DIFFERENCES_MOST`` of those that the report counts.
    :ivar course: None where it was not read.
    :ivar problem: why the details could not be read; None if they were.
    """

    events: tuple[Event, ...] = ()
    events_in_all: Count = 0
    compared: tuple[ComparedTable, ...] = ()
    checks: tuple[Check, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    settings: tuple[str, ...] = ()
    differences: tuple[FoundDifference, ...] = ()
    values_shown: bool = False
    blocking: tuple[BlockingSession, ...] = ()
    rehearsal_blockers: tuple[RehearsalBlocker, ...] = ()
    approval: ApprovalFacts = ApprovalFacts(required=False)
    course: Course | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class PageFacts:
    """The report, and by the short id of each run in it the run's details."""

    report: Report
    details: Mapping[ShortId, Details]

    def of(self, run: RunReport | SyncRunReport | MigrationsRun) -> Details:
        """The details of a run; without any fact where they were not read."""
        return self.details.get(run.id, Details())
