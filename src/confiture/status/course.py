"""The course of a run over time: the values of the page's charts. The module does no I/O.

``course_reader`` reads the values from the journal. All times are by the target's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import fmean

from confiture.journal.model import TablePhase
from confiture.schema_to_schema.outcomes import Part
from confiture.states import State
from confiture.types import Count


class Work(StrEnum):
    """The work that a bar of the chart stands for."""

    COPY = "copy"
    INDEX = "index"
    VERIFICATION = "verification"


@dataclass(frozen=True, slots=True)
class Bar:
    """One piece of work on a table.

    :ivar name: of the index or constraint; empty for a copy and a verification.
    :ivar end: None while the work is not done.
    :ivar share: of the work that is done, from 0 to 1; None where it is not known.
    :ivar differs: whether a verification found rows that differ.
    """

    work: Work
    name: str
    begin: datetime
    end: datetime | None
    share: float | None = None
    differs: bool = False


@dataclass(frozen=True, slots=True)
class TableBars:
    """One table of the run with its bars, in the order in which they began; no bar before its copy begins.

    :ivar number: of the table in the plan.
    """

    number: int
    source: str
    target: str
    phase: TablePhase
    rows_done: Count
    rows_total: Count
    total_is_estimate: bool
    failed_chunks: Count
    bars: tuple[Bar, ...]

    @property
    def begin(self) -> datetime | None:
        """When the first bar begins; None without one."""
        return min((bar.begin for bar in self.bars), default=None)

    @property
    def active(self) -> bool:
        """Whether a bar has no end."""
        return any(bar.end is None for bar in self.bars)


class Hindrance(StrEnum):
    """The kinds of stretches in which the run was delayed or stopped."""

    THROTTLED = "throttled"
    PAUSED = "paused"
    BLOCKED = "blocked"
    FAILED = "failed"
    KILLED = "killed"


#: From the least grave kind to the gravest.
LEAST_FIRST = tuple(Hindrance)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which the run was delayed or stopped.

    The stretches of a course do not overlap: where two would, the one that is later in ``LEAST_FIRST`` is kept.

    :ivar end: None while it lasts.
    """

    kind: Hindrance
    begin: datetime
    end: datetime | None
    reason: str


class Mark(StrEnum):
    """The kinds of ticks."""

    STARTED = "started"
    KILLED = "killed"
    RESUMED = "resumed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment: a command began, was killed, was resumed, or ended.

    :ivar actor: user, host and process; for a kill, those of the process that was killed.
    :ivar text: the command, or the error that ended it.
    """

    mark: Mark
    at: datetime
    actor: str
    text: str


@dataclass(frozen=True, slots=True)
class StateSpan:
    """A state of the run, as long as the run was in it. A state that the run returned to has a span for each time.

    :ivar end: None while the run is in it.
    :ivar actor: the user, host and process that brought the run there.
    """

    state: State
    begin: datetime
    end: datetime | None
    actor: str

    def seconds(self, now: datetime) -> float:
        """How long the run was in the state; until ``now`` while it is in it."""
        return max(0.0, ((self.end or now) - self.begin).total_seconds())


@dataclass(frozen=True, slots=True)
class Sample:
    """The run at one moment.

    :ivar rows_per_second: since the sample before; None for the first one, and after a restart.
    :ivar backlog: log rows that waited; None before they were counted.
    :ivar oldest_seconds: age of the oldest of them.
    :ivar replica_lag: the longest lag of a standby in seconds; None where no limit asks for it.
    :ivar throttled: why a limit slows the copy down; None when none does.
    :ivar state: of the run.
    """

    at: datetime
    rows_done: Count
    rows_per_second: float | None
    backlog: int | None
    oldest_seconds: float | None
    replica_lag: float | None
    throttled: str | None
    state: State


@dataclass(frozen=True, slots=True)
class WritePause:
    """A write pause that was rehearsed or measured.

    :ivar at: when it was recorded.
    :ivar command: ``cutover`` or ``rollback``.
    :ivar rehearsed: whether it is a rehearsal, as opposed to the pause of a command that switched.
    :ivar seconds: the total; None where a crash left no measurement.
    :ivar limit: ``--max-write-pause`` in seconds; None where there is no limit (a stopped application).
    :ivar complete: whether every part was measured.
    :ivar problem: why a switch would have been aborted; None when it would have succeeded.
    :ivar began_at: when writes were paused; None for a rehearsal, like ``ended_at``.
    :ivar ended_at: when writes were accepted again.
    """

    at: datetime
    actor: str
    command: str
    rehearsed: bool
    parts: tuple[Part, ...]
    seconds: float | None
    limit: float | None
    complete: bool
    problem: str | None = None
    began_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing was found that would abort a switch."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class Eta:
    """The expected end of the copy: at the mean rate of the last samples, at the highest and at the lowest one."""

    expected: datetime
    earliest: datetime
    latest: datetime


@dataclass(frozen=True, slots=True)
class Course:
    """The course of a run.

    :ivar now: when it was read.
    :ivar began: when the run began.
    :ivar tables: every table, in the order of the plan.
    :ivar samples: by time.
    :ivar pauses: by time: every rehearsal, and the write pause of each cutover and rollback.
    :ivar eta: None while there is no reliable estimate.
    """

    now: datetime
    began: datetime
    tables: tuple[TableBars, ...] = ()
    states: tuple[StateSpan, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    ticks: tuple[Tick, ...] = ()
    samples: tuple[Sample, ...] = ()
    pauses: tuple[WritePause, ...] = ()
    eta: Eta | None = None

    @property
    def last_rehearsal(self) -> WritePause | None:
        """The last rehearsal; None before the first."""
        return next((p for p in reversed(self.pauses) if p.rehearsed), None)

    @property
    def last_pause(self) -> WritePause | None:
        """The write pause of the last cutover or rollback; None before the first."""
        return next((p for p in reversed(self.pauses) if not p.rehearsed), None)


#: Seconds of samples that an estimate is taken from.
ETA_SECONDS = 600.0
#: Seconds over which each of its rates is measured.
ETA_RATE_SECONDS = 60.0


def eta(samples: Sequence[Sample], rows_left: int, now: datetime) -> Eta | None:
    """The expected end from the rates of the last ten minutes; None when no rows are left or none were copied."""
    recent = [s for s in samples if s.at >= now - timedelta(seconds=ETA_SECONDS)]
    rates = [rate for rate in _rates(recent) if rate > 0]
    if rows_left <= 0 or not rates:
        return None
    expected, earliest, latest = (
        now + timedelta(seconds=rows_left / rate) for rate in (fmean(rates), max(rates), min(rates))
    )
    return Eta(expected, earliest, latest)


def _rates(samples: Sequence[Sample]) -> list[float]:
    """The rows a second between samples that are at least ``ETA_RATE_SECONDS`` apart; of fewer seconds, one rate."""
    rates: list[float] = []
    begin: Sample | None = None
    for sample in samples:
        if begin is None or sample.rows_done < begin.rows_done:
            begin = sample
            continue
        seconds = (sample.at - begin.at).total_seconds()
        if seconds >= ETA_RATE_SECONDS or (sample is samples[-1] and not rates and seconds > 0):
            rates.append((sample.rows_done - begin.rows_done) / seconds)
            begin = sample
    return rates


def without_overlaps(stretches: Iterable[Stretch], now: datetime) -> tuple[Stretch, ...]:
    """The stretches by time, each cut to the times in which no stretch of a graver kind lasts."""
    kept: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda s: (-LEAST_FIRST.index(s.kind), s.begin)):
        pieces = [stretch]
        for graver in kept:
            pieces = [part for piece in pieces for part in _outside(piece, graver, now)]
        kept += pieces
    return tuple(sorted(kept, key=lambda s: s.begin))


def _outside(stretch: Stretch, other: Stretch, now: datetime) -> list[Stretch]:
    """The parts of a stretch before and after another one."""
    end, other_end = stretch.end or now, other.end or now
    if other.begin >= end or other_end <= stretch.begin:
        return [stretch]
    parts = []
    if stretch.begin < other.begin:
        parts.append(replace(stretch, end=other.begin))
    if other_end < end:
        parts.append(replace(stretch, begin=other_end))
    return parts
