"""The chart of the tables: the bars of each table on the time axis, with what delayed the run. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from confiture.journal.model import TablePhase
from confiture.status.course import Bar, Course, Mark, Stretch, TableBars, Tick, Work
from confiture.types import counted, duration
from confiture.web.axis import Axis

#: Tables of which each work is drawn: the active and failed ones, and then the largest.
TABLES_DRAWN = 20
#: Ticks and stretches that are drawn; of more, the last ones.
MARKS_MOST = 200
#: Heights in pixels: above the tables, of the name of a table, of a lane of bars, and below a table.
HEAD, NAME, LANE, GAP = 40, 17, 7, 6
LANES = tuple(Work)
#: Percent of the width that a bar has at least, so that it can be seen.
LEAST_WIDTH = 0.25
#: Percent of the width below which a stretch is not drawn.
LEAST_BAND = 0.1


@dataclass(frozen=True, slots=True)
class DrawnBar:
    """A bar: its place in percent and pixels, and its text.

    :ivar done: the width of the part that is done; None where it is not known or the work has ended.
    """

    work: Work
    x: float
    width: float
    y: int
    text: str
    open: bool
    differs: bool
    done: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A table of the chart; ``y`` is that of its name's base line."""

    name: str
    text: str
    y: int
    failed: bool
    bars: tuple[DrawnBar, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Rows of the chart, and their height in pixels."""

    rows: tuple[Row, ...]
    height: int


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch on the axis."""

    stretch: Stretch
    x: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class DrawnTick:
    """A kill or a resumption on the axis."""

    mark: Mark
    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """The expected end: the place of the period and of the expected moment.

    :ivar beyond: whether the axis ends before the latest moment.
    """

    x: float
    width: float
    expected: float
    text: str
    beyond: bool


@dataclass(frozen=True, slots=True)
class Gantt:
    """The chart.

    :ivar rest: the tables that are not drawn above, each with one bar for each kind of work; drawn when unfolded.
    :ivar summary: the number of tables by phase, for the rest.
    :ivar delays: each stretch in words, also of those that are too short to be drawn.
    """

    axis: Axis
    now: float | None
    drawn: Drawing
    rest: Drawing
    summary: str
    bands: tuple[Band, ...]
    delays: tuple[str, ...]
    ticks: tuple[DrawnTick, ...]
    forecast: Forecast | None
    description: str


def gantt(course: Course, on: Axis, names: Mapping[str, str]) -> Gantt:
    """The chart of a course.

    :param names: of each target table, as it is shown.
    """
    tables = sorted(course.tables, key=_importance)
    first, rest = tables[:TABLES_DRAWN], tables[TABLES_DRAWN:]
    bands = tuple(_band(s, on, course.now) for s in course.stretches[-MARKS_MOST:])
    visible = tuple(band for band in bands if band.width >= LEAST_BAND)
    shown = [t for t in course.ticks if t.mark in (Mark.KILLED, Mark.RESUMED)][-MARKS_MOST:]
    return Gantt(
        on,
        on.x(course.now) if course.now < on.end else None,
        _drawing([_row(t, t.bars, names, on, course.now) for t in first]),
        _drawing([_row(t, _merged(t.bars), names, on, course.now) for t in rest]),
        _summary(rest),
        visible,
        tuple(band.text for band in bands),
        tuple(_tick(t, on) for t in shown),
        _forecast(course, on),
        _description(course),
    )


def _importance(table: TableBars) -> tuple[object, ...]:
    """Failed tables first, then active ones, then by size."""
    return (not table.failed_chunks, not table.active, table.begin is None, -table.rows_total, table.number)


# Rows ----------------------------------------------------------------------------------------------


def _drawing(rows: Sequence[Row]) -> Drawing:
    """The rows one below the other."""
    each = NAME + len(LANES) * LANE + GAP
    placed = tuple(
        replace(row, y=n * each + NAME - 5, bars=tuple(replace(b, y=b.y + n * each) for b in row.bars))
        for n, row in enumerate(rows)
    )
    return Drawing(placed, len(rows) * each)


def _row(table: TableBars, bars: Iterable[Bar], names: Mapping[str, str], on: Axis, now: datetime) -> Row:
    about = "about " if table.total_is_estimate else ""
    text = f"{table.phase}, {table.rows_done:,} of {about}{table.rows_total:,} rows"
    if table.failed_chunks:
        text += f", {counted(table.failed_chunks, 'chunk')} failed"
    drawn = tuple(_drawn(bar, on, now) for bar in bars)
    return Row(names.get(table.target, table.target), text, 0, bool(table.failed_chunks), drawn)


def _drawn(bar: Bar, on: Axis, now: datetime) -> DrawnBar:
    width = on.width(bar.begin, bar.end or now)
    share = f", {100 * bar.share:.0f} %" if bar.end is None and bar.share is not None else ""
    differs = ", rows differ" if bar.differs else ""
    return DrawnBar(
        bar.work,
        on.x(bar.begin),
        max(width, LEAST_WIDTH),
        NAME + LANES.index(bar.work) * LANE,
        f"{' '.join(filter(None, (bar.work, bar.name)))}: {period(bar.begin, bar.end, now)}{share}{differs}",
        bar.end is None,
        bar.differs,
        None if bar.end is not None or bar.share is None else round(max(width, LEAST_WIDTH) * min(1.0, bar.share), 3),
    )


def _merged(bars: Sequence[Bar]) -> list[Bar]:
    """One bar for each kind of work, from its first beginning to its last end."""
    found = []
    for work in LANES:
        of = [bar for bar in bars if bar.work is work]
        if of:
            ends = [bar.end for bar in of if bar.end is not None]
            end = max(ends) if len(ends) == len(of) else None
            name = f"({len(of)} together)" if len(of) > 1 else of[0].name
            found.append(Bar(work, name, min(b.begin for b in of), end, None, any(b.differs for b in of)))
    return found


def period(begin: datetime, end: datetime | None, now: datetime) -> str:
    """A period in words: its beginning, its end and its duration."""
    last = f"to {clock(end)}" if end is not None else "until now"
    return f"{clock(begin)} {last} ({duration(((end or now) - begin).total_seconds())})"


def clock(at: datetime) -> str:
    """A moment, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


# Across all tables -------------------------------------------------------------------


def _band(stretch: Stretch, on: Axis, now: datetime) -> Band:
    text = f"{stretch.kind}: {period(stretch.begin, stretch.end, now)}"
    width = on.width(stretch.begin, stretch.end or now)
    return Band(stretch, on.x(stretch.begin), width, f"{text}: {stretch.reason}" if stretch.reason else text)


def _tick(tick: Tick, on: Axis) -> DrawnTick:
    return DrawnTick(tick.mark, on.x(tick.at), f"{tick.mark} {clock(tick.at)} {tick.actor}: {tick.text}")


def _forecast(course: Course, on: Axis) -> Forecast | None:
    eta = course.eta
    if eta is None:
        return None
    text = f"expected end of the copy {clock(eta.expected)}"
    if clock(eta.earliest) != clock(eta.latest):
        text += f", between {clock(eta.earliest)} and {clock(eta.latest)}"
    width = max(on.width(eta.earliest, eta.latest), LEAST_WIDTH)
    return Forecast(on.x(eta.earliest), width, on.x(eta.expected), text, eta.latest > on.end)


def _summary(tables: Sequence[TableBars]) -> str:
    found = Counter(table.phase for table in tables)
    return ", ".join(f"{found[phase]:,} {phase}" for phase in TablePhase if found[phase])


def _description(course: Course) -> str:
    """The chart in words, for readers who do not see it."""
    phases = _summary(course.tables) or "none"
    kinds = Counter(stretch.kind for stretch in course.stretches)
    delays = ", ".join(f"{kind} {number} times" for kind, number in kinds.items()) or "nothing delayed the run"
    kills = sum(tick.mark is Mark.KILLED for tick in course.ticks)
    return f"Tables: {phases}. {delays}. Commands were killed {kills} times. The times are in the list below."
