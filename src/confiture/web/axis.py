"""The time axis that all charts of a run share. Positions are in percent of the width of a chart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from confiture.states import FINAL
from confiture.status.course import Course

#: Steps between two labels in seconds, of which the first one that leaves at most ``LABELS_MOST`` is taken.
_HOUR, _DAY = 3600, 86400
_STEPS = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, _HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 7 * _DAY),
)
LABELS_MOST = 5
#: The share of the time until now that an expected end may add to the axis.
FORECAST_SHARE = 1.0
#: The shortest axis in seconds, and the part of an axis that stays free after the last moment.
LEAST_SECONDS, MARGIN = 10.0, 0.02


@dataclass(frozen=True, slots=True)
class Label:
    """A labelled moment of the axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A period of time."""

    begin: datetime
    end: datetime

    def x(self, at: datetime) -> float:
        """The position of a moment, from 0 to 100; a moment outside of the axis is at its edge."""
        share = (at - self.begin).total_seconds() / (self.end - self.begin).total_seconds()
        return round(100 * min(1.0, max(0.0, share)), 3)

    def width(self, begin: datetime, end: datetime) -> float:
        """The width of a period."""
        return round(self.x(end) - self.x(begin), 3)

    @property
    def labels(self) -> tuple[Label, ...]:
        """Round times, at most :data:`LABELS_MOST`."""
        seconds = (self.end - self.begin).total_seconds()
        step = next((s for s in _STEPS if seconds / s <= LABELS_MOST), seconds / LABELS_MOST)
        form = "%H:%M:%S" if step < 60 else "%H:%M" if seconds < 86400 else "%m-%d %H:%M" if step < 86400 else "%m-%d"
        midnight = self.begin.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        number = int((self.begin - midnight).total_seconds() // step) + 1
        found = []
        while (at := midnight + timedelta(seconds=number * step)) < self.end:
            found.append(Label(self.x(at), f"{at:{form}}"))
            number += 1
        return tuple(found)


def axis(course: Course) -> Axis:
    """From the beginning of a run until now, until its expected end, or until its end if it is over."""
    last = course.states[-1] if course.states else None
    now = last.begin if last is not None and last.state in FINAL else course.now
    elapsed = max(now - course.began, timedelta(seconds=LEAST_SECONDS))
    end = course.began + elapsed
    if course.eta is not None:
        end = max(end, min(course.eta.latest, end + elapsed * FORECAST_SHARE))
    return Axis(course.began, end + (end - course.began) * MARGIN)
