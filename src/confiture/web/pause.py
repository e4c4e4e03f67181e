"""The write pause of a cutover or rollback as a bar of its parts, beside its limit. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confiture.schema_to_schema.outcomes import Part
from confiture.status.course import WritePause

#: The bar and its limit take at most this share of the width, in percent.
WIDTH = 96.0
#: The share of the width below which the parts of a bar are drawn once more, enlarged.
SHORT = 0.3


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the bar, in percent of the width."""

    number: int
    name: str
    seconds: float
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class PauseBar:
    """The bar.

    :ivar enlarged: the parts of a short bar over the whole width; empty where the bar itself shows them.
    :ivar limit: its place in percent; None without one.
    """

    pause: WritePause
    segments: tuple[Segment, ...]
    enlarged: tuple[Segment, ...]
    limit: float | None
    title: str


def pause_bar(pause: WritePause) -> PauseBar:
    """The bar of a pause, which was rehearsed or measured."""
    total = sum(part.seconds for part in pause.parts)
    longest = max(total, pause.seconds or 0.0, pause.limit or 0.0) or 1.0
    what = "Rehearsed" if pause.rehearsed else "Measured"
    seconds = f"{pause.seconds:.3f} s" if pause.seconds is not None else "not measured"
    of = f" of at most {pause.limit:g} s" if pause.limit is not None else ""
    limit = None if pause.limit is None else round(WIDTH * pause.limit / longest, 3)
    enlarged = _segments(pause.parts, total) if 0 < total < SHORT * longest else ()
    return PauseBar(
        pause,
        _segments(pause.parts, longest),
        enlarged,
        limit,
        f"{what} write pause of the {pause.command}: {seconds}{of}",
    )


def _segments(parts: Sequence[Part], longest: float) -> tuple[Segment, ...]:
    found, x = [], 0.0
    for number, part in enumerate(parts, 1):
        width = WIDTH * part.seconds / longest
        found.append(Segment(number, part.name, part.seconds, round(x, 3), round(width, 3)))
        x += width
    return tuple(found)
