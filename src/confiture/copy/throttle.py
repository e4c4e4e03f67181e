"""How far the copy holds itself back: limits and figures in, waits and reasons out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: Seconds' worth of rows in a chunk under a rate limit: the copy is even, and a changed limit soon obeyed.
RATE_CHUNK_SECONDS = 2.0
#: Seconds a chunk is to take at most, as the one before it went: a pause waits no longer.
CHUNK_SECONDS = 10.0
#: A chunk is not made smaller for being slow: a lock it waited for says nothing about the next.
SLOW_CHUNK_ROWS = 1_000
#: Bytes of WAL a standby is taken to replay in a second where its lag is not known by the clock:
#: one segment, what a single process of modest hardware replays.
REPLAY_BYTES_PER_SECOND = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Throttle:
    """The limits an operator sets; None where there is none.

    :ivar max_rate: rows copied per second.
    :ivar max_replica_lag: seconds a standby of either server may be behind.
    :ivar max_backlog: log rows that may wait while tables are copied.
    """

    max_rate: int | None = None
    max_replica_lag: float | None = None
    max_backlog: int | None = None

    def with_limits(self, given: Throttle) -> Throttle:
        """These limits, with those that are given in their place."""
        return Throttle(**{**asdict(self), **{k: v for k, v in asdict(given).items() if v is not None}})

    def __bool__(self) -> bool:
        return any(limit is not None for limit in asdict(self).values())

    def __str__(self) -> str:
        parts = []
        if self.max_rate is not None:
            parts.append(f"{self.max_rate:,} rows/s")
        if self.max_replica_lag is not None:
            parts.append(f"replica lag {self.max_replica_lag:g} s")
        if self.max_backlog is not None:
            parts.append(f"backlog {self.max_backlog:,} rows")
        return ", ".join(parts) or "none"


def from_json(stored: Mapping[str, Any]) -> Throttle:
    """Limits as the journal has them; what it does not name is no limit."""
    return Throttle(**{name: stored.get(name) for name in Throttle.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the copy waits: ``kind`` tells one from another, ``seconds`` when to look again."""

    kind: str
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Replica:
    """A standby that is connected.

    :ivar clock: seconds behind as the server measures them; None when it does not know.
    :ivar behind: bytes of WAL not replayed; None for what replays nothing, such as an archiver.
    """

    name: str
    side: str
    clock: float | None
    behind: int | None

    @property
    def lag(self) -> float:
        """Seconds behind; 0 for one that has all, whatever was measured before."""
        if self.behind is None or self.behind <= 0:
            return 0.0
        return self.clock if self.clock is not None else self.behind / REPLAY_BYTES_PER_SECOND


def rest(rows: int, seconds: float, max_rate: int | None) -> float:
    """Seconds to wait before more is copied, ``seconds`` after ``rows`` rows were begun."""
    return 0.0 if max_rate is None else max(0.0, rows / max_rate - seconds)


def chunk_rows(planned: int, speed: float | None, max_rate: int | None) -> int:
    """Rows for the next chunk of a table: never more than planned.

    :param speed: rows per second of the chunk before; None when there was none.
    """
    rows = planned
    if speed is not None:
        rows = min(rows, max(SLOW_CHUNK_ROWS, int(speed * CHUNK_SECONDS)))
    if max_rate is not None:
        rows = min(rows, max(1, int(max_rate * RATE_CHUNK_SECONDS)))
    return rows


def rate_reason(rows: int, seconds: float, limits: Throttle) -> Reason | None:
    """Whether the rate limit makes the copy wait."""
    left = rest(rows, seconds, limits.max_rate)
    return Reason("rate", f"rate limit {limits.max_rate:,} rows/s", left) if left > 0 else None


def lag_reason(replicas: Iterable[Replica], limits: Throttle, look_again: float) -> Reason | None:
    """Whether a standby is too far behind; the worst is named. ``look_again`` in seconds."""
    worst = max(replicas, key=lambda r: r.lag, default=None)
    if worst is None or limits.max_replica_lag is None or worst.lag <= limits.max_replica_lag:
        return None
    lag = f"{worst.lag:.0f}" if worst.lag >= 10 else f"{worst.lag:.1f}"
    text = f"replica lag {lag} s > {limits.max_replica_lag:g} s ({worst.name} of the {worst.side})"
    return Reason("lag", text, look_again)


def backlog_reason(rows: int, left: int, limits: Throttle) -> Reason | None:
    """Whether the log is to be shortened before more is copied.

    :param left: log rows that shortening could not take away the last time. Until their tables are copied
        nothing else can: the log may double before it is worth another try, or the copy would never end.
    """
    if limits.max_backlog is None or rows <= max(limits.max_backlog, 2 * left):
        return None
    return Reason("backlog", f"backlog {rows:,} rows > {limits.max_backlog:,}", 0.0)
