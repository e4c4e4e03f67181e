"""The write pause's deadline, for every statement that runs while the application waits for a lock of ours."""

from __future__ import annotations

import contextlib
import threading
import time
from math import ceil

import psycopg
from psycopg import sql

from confiture.postgres.connection import Pg

#: Seconds after the deadline in which this process ends its transactions itself, if it is not frozen.
GRACE_SECONDS = 0.5
#: Seconds for a server to take a request to cancel.
CANCEL_SECONDS = 2.0


class Budget:
    """The rest of the write pause, for every statement of every session (docs/invariants.md, I-8.10).

    A session whose transaction is open while the application waits for a lock of ours is limited in three ways: each
    statement has what is left as its timeout; the server ends the session when this process is frozen between two
    statements for longer; and at the deadline whatever runs is cancelled from here.

    :ivar lock_timeout: seconds to wait for any other lock: where one of our sessions holds a lock that another session
        waits for, and another one of ours waits behind that session, no server sees the deadlock.
    """

    def __init__(self, lock_timeout: float, until: float) -> None:
        self.lock_timeout = lock_timeout
        self._until = until
        self._running: set[Pg] = set()
        self._lock = threading.Lock()
        self._timer = threading.Timer(self.left, self._cancel)
        self._timer.daemon = True

    @property
    def left(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, self._until - time.monotonic())

    @property
    def spent(self) -> bool:
        """Whether the deadline has passed."""
        return self.left == 0

    def limit(self, pg: Pg, *, idle: bool = True) -> None:
        """Limit the open transaction of a connection until :meth:`release`.

        :param idle: also end its session when it is idle for too long, so that its locks are released.
        """
        statement, lock, frozen = (
            sql.Literal(f"{max(1, ceil(s * 1000))}ms")
            for s in (self.left, self.lock_timeout, self.left + GRACE_SECONDS)
        )
        pg.execute(sql.SQL("SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}").format(statement, lock))
        if idle:
            pg.execute(sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}").format(frozen))
        with self._lock:
            self._running.add(pg)

    def release(self, pg: Pg) -> None:
        """The connection's transaction has ended; a cancellation on its way to it has arrived."""
        with self._lock:
            self._running.discard(pg)

    def _cancel(self) -> None:
        with self._lock:  # until the servers have taken it: a late one would hit a statement that has no limit
            for pg in self._running:
                with contextlib.suppress(psycopg.Error):
                    pg.cancel_safe(timeout=CANCEL_SECONDS)

    def __enter__(self) -> Budget:
        self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        self._timer.join()
