"""The curves of a run on the time axis: its rows, its rate, its backlog and the lag of standbys. Values only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate, pairwise
from statistics import median

from confiture.status.course import Course, Sample
from confiture.types import duration
from confiture.web.axis import Axis

#: The units of a curve's drawing: its width and height are stretched to those of the page.
WIDTH, HEIGHT = 1000, 100
#: Points of a curve at most; of more samples, the highest of each part is drawn.
POINTS_MOST = 400
#: Samples further apart than this many of their usual distances are not joined by a line.
GAP = 4
#: Lines of the table beneath the curves.
LINES_MOST = 60


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve.

    :ivar path: of the measured values, for the attribute ``d`` of a path in units of ``WIDTH`` and ``HEIGHT``.
    :ivar forecast: the same of expected values; empty when there are none.
    :ivar most: the value at the upper edge, in words; ``last``: the last value, in words.
    """

    title: str
    path: str
    forecast: str
    most: str
    last: str


@dataclass(frozen=True, slots=True)
class Curves:
    """The curves with a list of their values.

    :ivar lines: some of the samples, by time.
    """

    curves: tuple[Curve, ...]
    lines: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """The value of a sample.

    :ivar breaks: samples before it that lack the value.
    """

    sample: Sample
    value: float
    breaks: int


Value = Callable[[Sample], float | None]


def curves(course: Course, on: Axis) -> Curves:
    """The curves for which there are samples."""
    if not course.samples:
        return Curves((), ())
    drawn = (
        _rows(course, on),
        _curve("Rows per second", course.samples, on, lambda s: s.rows_per_second, lambda v: f"{v:,.0f}"),
        _curve("Backlog, rows", course.samples, on, lambda s: s.backlog, lambda v: f"{v:,.0f}"),
        _curve("Oldest change that waits", course.samples, on, lambda s: s.oldest_seconds, duration),
        _curve("Lag of standbys", course.samples, on, lambda s: s.replica_lag, duration),
    )
    step = max(1, -(-len(course.samples) // LINES_MOST))
    lines = course.samples[::-step][::-1]
    return Curves(tuple(curve for curve in drawn if curve is not None), lines)


def _rows(course: Course, on: Axis) -> Curve | None:
    """The rows that were copied, and the expected ones until the end."""
    total = sum(table.rows_total for table in course.tables)
    found = _curve("Rows copied", course.samples, on, lambda s: s.rows_done, lambda v: f"{v:,.0f}", most=total)
    eta = course.eta
    if found is None or eta is None or not total:
        return found
    last = course.samples[-1]
    begin = (on.x(last.at), last.rows_done / total)
    # The line ends at the edge of the axis if the expected end is beyond it.
    share = min(1.0, (on.end - last.at) / (eta.expected - last.at)) if eta.expected > last.at else 1.0
    end = (on.x(min(eta.expected, on.end)), begin[1] + (1 - begin[1]) * share)
    return Curve(found.title, found.path, _line([begin, end]), found.most, found.last)


def _curve(
    title: str, samples: Sequence[Sample], on: Axis, value: Value, words: Callable[[float], str], most: float = 0.0
) -> Curve | None:
    """A curve, broken where samples lack the value; None when none has it, or when each value is zero."""
    values = [value(sample) for sample in samples]
    breaks = accumulate(found is None for found in values)
    points = [
        Point(sample, found, before)
        for sample, found, before in zip(samples, values, breaks, strict=True)
        if found is not None
    ]
    highest = max((point.value for point in points), default=0.0)
    most = max(most, highest)
    if not points or not highest:
        return None
    between = [(b.sample.at - a.sample.at).total_seconds() for a, b in pairwise(points)]
    apart = timedelta(seconds=median(between) * GAP if between else 0.0)
    parts: list[list[tuple[float, float]]] = []
    far = max(apart, (on.end - on.begin) / POINTS_MOST * GAP)
    before: Point | None = None
    for point in _thinned(points):
        if before is None or point.breaks > before.breaks or point.sample.at - before.sample.at > far:
            parts.append([])
        parts[-1].append((on.x(point.sample.at), point.value / most))
        before = point
    return Curve(title, " ".join(map(_line, parts)), "", words(most), words(points[-1].value))


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most :data:`POINTS_MOST` of the points: the highest of each part, and the last one."""
    step = -(-len(points) // POINTS_MOST)
    if step <= 1:
        return list(points)
    parts = [points[n : n + step] for n in range(0, len(points) - 1, step)]
    return [*(max(part, key=lambda point: point.value) for part in parts), points[-1]]


def _line(points: Sequence[tuple[float, float]]) -> str:
    """A line through points, which are in percent of the width and as shares of the height. One point is a dash."""
    at = [f"{x * WIDTH / 100:.1f} {HEIGHT * (1 - y):.1f}" for x, y in points]
    return "M" + "L".join(at) if len(at) > 1 else f"M{at[0]}h1"
