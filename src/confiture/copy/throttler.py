"""Between two chunks: apply the limits that the operator has set, and report why the copy waits.

The limits are read again before each chunk, so that a new limit takes effect within one chunk, also in a process that
was started later. No transaction is open on either side while the copy waits.
"""

from __future__ import annotations

import time
from typing import Protocol

from psycopg.rows import dict_row

from confiture.copy import throttle
from confiture.copy.throttle import Reason, Replica, Throttle
from confiture.journal import leases, runs
from confiture.postgres.retry import retry
from confiture.postgres.session import Session
from confiture.runner.context import POLL_SECONDS, Context
from confiture.sql import load
from confiture.types import duration, quoted

#: Seconds between two measurements of the standbys' lag, and of the log.
LAG_SECONDS = 1.0
BACKLOG_SECONDS = 5.0
#: Seconds after which an ongoing wait is reported again, with its current figures.
REPORT_SECONDS = 10.0
#: Seconds within which the journal gets one event of a copy that is throttled again and again.
NOTED_SECONDS = 300.0
#: The kinds of these events.
THROTTLED, THROTTLE_ENDED = "throttled", "throttle ended"


class Log(Protocol):
    """The log of a run that captures, while its tables are copied."""

    def waiting(self) -> int:
        """The number of log rows."""

    def now(self) -> None:
        """Remove every log row that can be removed now."""

    def between_chunks(self) -> None:
        """Called after each chunk: shortens the log when it is due."""

    def next_table(self) -> None:
        """Called when a table is copied."""

    def meanwhile(self) -> None:
        """Called repeatedly while the copy waits: shortens the log when it is due."""


class Throttler:
    """The reason for which one copy waits, and what was reported of it.

    :param streams: chunks that are copied at the same time.
    :param fixed: the operator has set the rows per chunk.
    """

    def __init__(self, context: Context, log: Log | None = None, *, streams: int = 1, fixed: bool = False) -> None:
        self.context = context
        self.limits = Throttle()
        self._log = log
        self._streams = streams
        self._fixed = fixed
        self._owed, self._since_owed = 0.0, time.monotonic()
        self._speed: dict[int, float] = {}
        self._rested = False
        self._reported: Reason | None = None
        self._said_rate: int | None = None
        self._since = self._reported_at = 0.0
        self._noted, self._noted_at = False, -NOTED_SECONDS
        self._measured: dict[str, float] = {}
        self._lag: Reason | None = None
        self._left = 0
        self._unseen: set[str] = set()

    def wait(self) -> None:
        """Before a chunk: obey signals and a pause, then wait while a limit requires it.

        :raises Drained: after a signal.
        :raises Held: when the run was taken over.
        """
        while True:
            self.context.checkpoint()
            self.limits = retry(self._read)
            reason = self._rate_reason() or self._lag_reason()
            if reason is None:
                break
            self._report(reason)
            self.meanwhile()
            time.sleep(min(POLL_SECONDS, reason.seconds))
        self._yield_to_backlog()
        if not (self._rested and self.limits.max_rate is not None):
            self.end()

    def chunk_rows(self, table: int, planned: int) -> int:
        """Rows for the next chunk of a table."""
        speed, rate = self._speed.get(table), self.limits.max_rate
        return throttle.chunk_rows(planned, speed, rate, fixed=self._fixed, streams=self._streams)

    @property
    def exact(self) -> bool:
        """Whether a limit of the operator depends on the rows of each chunk."""
        return self._fixed or self.limits.max_rate is not None

    def copied(self, table: int, rows: int, seconds: float) -> None:
        """Count a chunk that has just been copied within ``seconds``."""
        # The limit counts these rows from the beginning of the chunk, those of chunks that are copied together in turn.
        since = max(self._since_owed, time.monotonic() - seconds)
        rate = self.limits.max_rate
        left = 0.0 if rate is None else max(0.0, self._owed - rate * (since - self._since_owed))
        self._owed, self._since_owed, self._rested = left + rows, since, False
        if rows:
            self._speed[table] = rows / max(seconds, 0.001)
        if self._log is not None:
            self._log.between_chunks()

    def next_table(self) -> None:
        """Call when a table is copied."""
        if self._log is not None:
            self._log.next_table()

    def meanwhile(self) -> None:
        """Call while the workers copy."""
        if self._log is not None:
            self._log.meanwhile()

    def end(self) -> None:
        """Record that the copy no longer waits, and report it if the copy has waited."""
        if self._reported is None:
            return
        deliberate, self._reported = self._reported.kind == "rate", None
        self._record(None, THROTTLE_ENDED if self._noted else None)
        self._noted = False
        if deliberate:
            return
        self.context.progress.say(f"throttle ended after {duration(time.monotonic() - self._since)}")

    def _read(self) -> Throttle:
        with self.context.target.transaction(read_only=True) as tx:
            return throttle.from_json(leases.limits(tx, self.context.run_id))

    # Reasons ---------------------------------------------------------------------------------------

    def _rate_reason(self) -> Reason | None:
        reason = throttle.rate_reason(self._owed, time.monotonic() - self._since_owed, self.limits)
        # A copy under a rate limit stays throttled from chunk to chunk, until a chunk does not have to wait.
        self._rested = self._rested or reason is not None
        return reason

    def _lag_reason(self) -> Reason | None:
        if self.limits.max_replica_lag is None:
            return None
        if self._due("lag", LAG_SECONDS):
            sides = (("source", self.context.source), ("target", self.context.target))
            found = [replica for side, session in sides for replica in self._replicas(side, session)]
            self._lag = throttle.lag_reason(found, self.limits, LAG_SECONDS)
        return self._lag

    def _due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now - self._measured.get(what, -seconds) < seconds:
            return False
        self._measured[what] = now
        return True

    def _replicas(self, side: str, session: Session) -> list[Replica]:
        found = retry(lambda: replicas(side, session))
        if found is None and side not in self._unseen:
            self._unseen.add(side)
            self.context.progress.say(
                f"replica lag of the {side}'s server is not visible, so the copy does not wait for it: "
                f"GRANT pg_read_all_stats TO {quoted(session.pg.info.user)}"
            )
        return found or []

    def _yield_to_backlog(self) -> None:
        if self._log is None or self.limits.max_backlog is None or not self._due("backlog", BACKLOG_SECONDS):
            return
        reason = throttle.backlog_reason(self._log.waiting(), self._left, self.limits)
        if reason is None:
            return
        self._report(reason)
        self._log.now()
        self._left = self._log.waiting()
        if self._left > self.limits.max_backlog:
            self.context.progress.say(f"{self._left:,} log rows have to wait until their tables are copied; continuing")

    # Reporting -------------------------------------------------------------------------------------

    def _report(self, reason: Reason) -> None:
        now = time.monotonic()
        if (
            self._reported is not None
            and self._reported.kind == reason.kind
            and now - self._reported_at < REPORT_SECONDS
        ):
            return
        self._record(reason.text, THROTTLED if self._is_news(reason, now) else None)
        self._since = now if self._reported is None else self._since
        self._reported, self._reported_at = reason, now
        if reason.kind != "rate":
            self.context.progress.say(f"throttled: {reason.text}")
        elif self._said_rate != self.limits.max_rate:
            # The operator's own limit applies to most chunks: one line states it.
            self._said_rate = self.limits.max_rate
            self.context.progress.say(f"throttled: {reason.text}")

    def _is_news(self, reason: Reason, now: float) -> bool:
        """Whether the wait is an event: not for the operator's own rate, nor again and again."""
        if reason.kind == "rate" or self._noted or now - self._noted_at < NOTED_SECONDS:
            return False
        self._noted, self._noted_at = True, now
        return True

    def _record(self, reason: str | None, event: str | None) -> None:
        def write() -> None:
            # Durable together: the reason, for `status`, and its event.
            with self.context.fenced("throttled") as tx:
                leases.set_throttled(tx, self.context.run_id, self.context.epoch, reason)
                if event is not None:
                    runs.note(tx, self.context.run_id, self.context.epoch, event)

        retry(write)


def replicas(side: str, session: Session) -> list[Replica] | None:
    """The standbys connected to a side's server; None when the role lacks the privilege to see them.

    The copy does not wait for a standby that is not connected.
    """
    with session.transaction(read_only=True) as tx, tx.pg.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(load("replicas.sql")["connected"]).fetchall()
    if any(row["hidden"] for row in rows):
        return None
    return [Replica(row["name"], side, row["clock"], row["behind"]) for row in rows]
