"""The write pause of a cutover or rollback as a bar of its parts, beside its limit. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from confiture.status.course import WritePause

#: The bar and its limit take at most this share of the width, in percent.
WIDTH = 96.0


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
    """The bar; ``limit`` is the place of the limit in percent, None without one."""

    pause: WritePause
    segments: tuple[Segment, ...]
    limit: float | None
    title: str


def pause_bar(pause: WritePause) -> PauseBar:
    """The bar of a pause, which was rehearsed or measured."""
    total = sum(part.seconds for part in pause.parts)
    longest = max(total, pause.seconds or 0.0, pause.limit or 0.0) or 1.0
    segments, x = [], 0.0
    for number, part in enumerate(pause.parts, 1):
        width = WIDTH * part.seconds / longest
        segments.append(Segment(number, part.name, part.seconds, round(x, 3), round(width, 3)))
        x += width
    what = "Rehearsed" if pause.rehearsed else "Measured"
    seconds = f"{pause.seconds:.3f} s" if pause.seconds is not None else "not measured"
    of = f" of at most {pause.limit:g} s" if pause.limit is not None else ""
    limit = None if pause.limit is None else round(WIDTH * pause.limit / longest, 3)
    return PauseBar(pause, tuple(segments), limit, f"{what} write pause of the {pause.command}: {seconds}{of}")
