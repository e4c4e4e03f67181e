"""The disk of the target's server during a run, against the recorded forecast. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from confiture.types import byte_size, duration

#: The share of the rows from which the size so far leads to the size in the end.
SHARE_LEAST = 0.05


@dataclass(frozen=True, slots=True)
class Grown:
    """How far a run has come that has a recorded forecast; sizes in bytes.

    :ivar at: when the forecast was recorded.
    :ivar expected: of the rows and indexes in the end, by the forecast; like ``sorting`` and ``wal``.
    :ivar free: before the run began; None if it is not known.
    :ivar total_seconds: until the run is ready for its cutover, by the forecast; ``copy_seconds`` of them for the copy.
    :ivar used: the growth of the target's database since then.
    :ivar share: of the rows that are copied, from 0 to 1.
    :ivar seconds: since the copy began; 0 before it.
    :ivar built: whether every table has its indexes and constraints.
    """

    at: datetime
    expected: int
    sorting: int
    wal: int
    free: int | None
    total_seconds: float
    copy_seconds: float
    used: int
    share: float
    seconds: float
    built: bool


@dataclass(frozen=True, slots=True)
class DiskNow:
    """The disk of the target's server during a run; sizes in bytes.

    :ivar expected: of the rows and indexes in the end: of the forecast, or what the copied share of the rows leads to.
    :ivar free: None if it is not known.
    :ivar missing: what the rest of the run needs beyond what is free; 0 where that is not known.
    :ivar full_in_seconds: at the average growth so far; None without growth, or where the free space is not known.
    """

    expected: int
    used: int
    free: int | None
    missing: int
    full_in_seconds: float | None

    @property
    def problem(self) -> str | None:
        """Why the run will not end; None if the disk suffices, or this is not known."""
        if not self.missing or self.free is None:
            return None
        when = f"; it is full in about {duration(self.full_in_seconds)}" if self.full_in_seconds is not None else ""
        return (
            f"the target's disk will be full before the end: about {byte_size(self.free + self.missing)} more are"
            f" needed, and {byte_size(self.free)} are free{when}"
        )


def disk_now(grown: Grown, measured: int | None) -> DiskNow:
    """The disk of the target's server now.

    :param measured: the free bytes of its disk now; None for what was free when the forecast was recorded, without
        what the database has grown by.
    """
    used, expected = max(0, grown.used), grown.expected
    if grown.share >= SHARE_LEAST and not grown.built:
        expected = max(expected, int(used / grown.share))
    free = measured
    if free is None and grown.free is not None:
        free = max(0, grown.free - used)
    rest = 0 if grown.built else max(0, expected - used) + grown.sorting
    if measured is None and not grown.built:
        rest += grown.wal  # WAL that exists is not free any more where the free space is measured
    rate = used / grown.seconds if grown.seconds > 0 else 0.0
    return DiskNow(
        expected=expected,
        used=used,
        free=free,
        missing=max(0, rest - free) if free is not None else 0,
        full_in_seconds=round(free / rate, 1) if free is not None and rate > 0 and not grown.built else None,
    )
