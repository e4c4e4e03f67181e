"""How long the copy waits, computed from the limits and from measured figures, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

#: Seconds that a chunk takes under a rate limit: the load is even, and a changed limit takes effect soon.
RATE_CHUNK_SECONDS = 2.0
#: Seconds that a chunk is to take, judged by the speed of the chunk before it. The cost of a chunk besides its rows
#: is small then, and so is what a crash loses and what a pause waits for.
CHUNK_SECONDS = 2.0
#: Rows below which a slow chunk is not shortened further: it may have waited for a lock, and the next one may not.
SLOW_CHUNK_ROWS = 1_000
#: Bytes of WAL that a standby is assumed to replay in a second where the server does not report its lag as a time: one
#: segment, which a single process on modest hardware replays.
REPLAY_BYTES_PER_SECOND = 16 * 2**20


class Limits(TypedDict):
    """The limits of the copy; None where there is none.

    :ivar max_rate: rows per second.
    :ivar max_replica_lag: seconds.
    :ivar max_backlog: log rows.
    """

    max_rate: int | None
    max_replica_lag: float | None
    max_backlog: int | None


@dataclass(frozen=True, slots=True)
class Throttle:
    """The limits that an operator sets; None for no limit.

    :ivar max_rate: rows copied per second.
    :ivar max_replica_lag: seconds a standby of either server may be behind.
    :ivar max_backlog: log rows that may wait while tables are copied.
    """

    max_rate: int | None = None
    max_replica_lag: float | None = None
    max_backlog: int | None = None

    def with_limits(self, given: Throttle) -> Throttle:
        """These limits, replaced by those that are given."""
        return Throttle(**{**asdict(self), **{k: v for k, v in asdict(given).items() if v is not None}})

    def as_json(self) -> Limits:
        """The limits by their names."""
        return {
            "max_rate": self.max_rate,
            "max_replica_lag": self.max_replica_lag,
            "max_backlog": self.max_backlog,
        }

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
    """The limits from the journal; a limit that it does not name is None."""
    return Throttle(**{name: stored.get(name) for name in Throttle.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the copy waits.

    :ivar kind: ``rate``, ``lag`` or ``backlog``.
    :ivar seconds: until the reason is checked again.
    """

    kind: str
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Replica:
    """A standby that is connected.

    :ivar clock: seconds behind as the server reports them; None when it does not report them.
    :ivar behind: bytes of WAL not replayed; None for a receiver that replays nothing, such as an archiver.
    """

    name: str
    side: str
    clock: float | None
    behind: int | None

    @property
    def lag(self) -> float:
        """Seconds behind; 0 for a standby that has replayed everything, whatever time the server reports."""
        if self.behind is None or self.behind <= 0:
            return 0.0
        return self.clock if self.clock is not None else self.behind / REPLAY_BYTES_PER_SECOND


#: The kinds of reasons of :func:`kind_of`.
REASONS = ("none", "rate", "lag", "backlog")
_KINDS = {"rate limit ": "rate", "replica lag ": "lag", "backlog ": "backlog"}


def kind_of(text: str | None) -> str:
    """The kind of a reason that is known by its text; ``none`` without a reason."""
    return next((kind for begin, kind in _KINDS.items() if (text or "").startswith(begin)), "none")


def rest(rows: float, seconds: float, max_rate: int | None) -> float:
    """Seconds to wait before the next chunk, when the last ``rows`` rows have taken ``seconds``."""
    return 0.0 if max_rate is None else max(0.0, rows / max_rate - seconds)


def chunk_rows(planned: int, speed: float | None, max_rate: int | None, *, fixed: bool, streams: int = 1) -> int:
    """Rows for the next chunk of a table.

    :param planned: by the width of its rows, or by the operator.
    :param speed: rows per second of the previous chunk; None before the first.
    :param fixed: the operator has set ``planned``: a chunk has no more rows.
    :param streams: chunks that are copied at the same time.
    """
    rows = planned
    if speed is not None:
        wanted = max(min(planned, SLOW_CHUNK_ROWS), int(speed * CHUNK_SECONDS))
        rows = min(planned, wanted) if fixed else wanted
    if max_rate is not None:
        rows = min(rows, max(1, int(max_rate * RATE_CHUNK_SECONDS / streams)))
    return rows


def shared(rows: int, count: int, left: int, streams: int) -> tuple[int, int]:
    """Rows and number of the next chunks of a table that several workers copy.

    The last chunks of a table are smaller, so that its workers end at about the same time. No chunk is smaller than a
    quarter, because an estimate may be wrong, and each chunk costs a few round trips.

    :param rows: of a chunk that takes as long as it should.
    :param count: the most chunks.
    :param left: about as many rows of the table are in no chunk yet.
    :param streams: chunks that are copied at the same time.
    """
    return min(rows, max(rows // 4, left // (2 * streams), 1)), min(count, max(streams, left // (2 * rows)))


def rate_reason(rows: float, seconds: float, limits: Throttle) -> Reason | None:
    """The reason when the copy has to wait for the rate limit; None when not."""
    left = rest(rows, seconds, limits.max_rate)
    return Reason("rate", f"rate limit {limits.max_rate:,} rows/s", left) if left > 0 else None


def lag_reason(replicas: Iterable[Replica], limits: Throttle, look_again: float) -> Reason | None:
    """The reason, naming the standby that is furthest behind, when its lag exceeds the limit; None when not.

    :param look_again: seconds until the lag is measured again.
    """
    worst = max(replicas, key=lambda r: r.lag, default=None)
    if worst is None or limits.max_replica_lag is None or worst.lag <= limits.max_replica_lag:
        return None
    lag = f"{worst.lag:.0f}" if worst.lag >= 10 else f"{worst.lag:.1f}"
    text = f"replica lag {lag} s > {limits.max_replica_lag:g} s ({worst.name} of the {worst.side})"
    return Reason("lag", text, look_again)


def backlog_reason(rows: int, left: int, limits: Throttle) -> Reason | None:
    """The reason when the log has to be shortened before the next chunk; None when not.

    :param left: log rows that remained when the log was last shortened. They remain until their tables are copied, so
        the log may grow to twice as many before it is shortened again: otherwise the copy would never end.
    """
    if limits.max_backlog is None or rows <= max(limits.max_backlog, 2 * left):
        return None
    return Reason("backlog", f"backlog {rows:,} rows > {limits.max_backlog:,}", 0.0)
