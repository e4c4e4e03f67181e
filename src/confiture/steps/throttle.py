"""Giving way between chunks: to a rate that was asked for, and to standbys that are behind."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from confiture.db import Session, retry
from confiture.journal import throttling
from confiture.journal.throttling import Allowed
from confiture.runner import Context
from confiture.sql import load

#: Seconds between two looks while it waits: a lifted limit, a signal or a pause is obeyed that soon.
LOOK_SECONDS = 0.5


def owed(rows: int, seconds: float, max_rate: int | None) -> float:
    """Seconds to wait after ``rows`` took ``seconds``, so that the rate is kept."""
    return 0.0 if max_rate is None else max(0.0, rows / max_rate - seconds)


@dataclass
class Throttle:
    """Holds the copy back between its chunks, and says why."""

    context: Context
    reason: str | None = None
    _cause: str | None = None
    _unseen: set[str] = field(default_factory=set)

    def give_way(self, rows: int, seconds: float) -> None:
        """After a chunk of so many rows that took so long: wait while a limit wants it.

        Signals, a pause and changed limits are obeyed meanwhile.
        """
        began = time.monotonic() - seconds
        held_back = False
        while True:
            allowed = retry(self._allowed)
            left = owed(rows, time.monotonic() - began, allowed.max_rate)
            found = self._lagging(allowed) or (("rate", f"rate limit {allowed.max_rate:,} rows/s") if left else None)
            if found is None:
                break
            held_back = True
            self._tell(*found)
            self.context.checkpoint()
            time.sleep(min(LOOK_SECONDS, left) if left > 0 else LOOK_SECONDS)
        if not held_back:
            self.end()

    def end(self) -> None:
        """Nothing is held back any more."""
        self._tell(None, None)

    def _allowed(self) -> Allowed:
        with self.context.target.transaction(read_only=True) as tx:
            return throttling.allowed(tx, self.context.run_id)

    def _lagging(self, allowed: Allowed) -> tuple[str, str] | None:
        """What lags, and how far."""
        limit = allowed.max_replica_lag
        if limit is None:
            return None
        for side, session in (("source", self.context.source), ("target", self.context.target)):
            lag = self.lag(side, session)
            if lag > limit:
                return f"{side} lag", f"replica lag of the {side} {lag:.0f} s > {limit:g} s"
        return None

    def lag(self, side: str, session: Session) -> float:
        """Seconds by which a server's slowest standby is behind; 0 where none can be seen, which is said once."""
        with session.transaction(read_only=True) as tx:
            row = tx.pg.execute(load("throttle.sql")["replica_lag"]).fetchone()
        assert row is not None
        if row[1] and side not in self._unseen:
            self._unseen.add(side)
            self.context.progress.say(
                f"the lag of the {side}'s standbys cannot be seen: GRANT pg_monitor TO its role; going on without"
            )
        return float(row[0])

    def _tell(self, cause: str | None, reason: str | None) -> None:
        """Write it down when it changes; say it when it is another cause."""
        if reason == self.reason:
            return
        if cause != self._cause:
            self.context.progress.say(f"throttled: {reason}" if reason else "no longer throttled")
        self._cause, self.reason = cause, reason
        with self.context.fenced() as tx:
            throttling.note(tx, self.context.run_id, self.context.epoch, reason)
