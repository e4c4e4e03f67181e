"""The context of a step: the run, its epoch, the sessions, and the fenced transactions that every write passes.

Every writing transaction begins by reading its side's fence with the runner's own epoch, so a runner that was taken
over can write nothing (docs/invariants.md, I-7.1 to I-7.3).
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from psycopg import IsolationLevel, sql

from confiture.errors import DataFailure, Held
from confiture.failpoints import failpoint
from confiture.journal import leases, runs
from confiture.journal import source as run_schema
from confiture.journal.model import LEASE_SECONDS, Run
from confiture.naming import Naming
from confiture.postgres import read_only, yielding
from confiture.postgres.backends import alive, terminate
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction, claiming
from confiture.runner.progress import Progress, Silent
from confiture.runner.run_facts import RunFacts
from confiture.runner.stop import Stop
from confiture.types import Backend

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Backends:
    """The server processes that work for one runner, by side."""

    target: tuple[Backend, ...]
    source: tuple[Backend, ...]


@dataclass
class Context:
    """The means of a step in one process: the facts of the run, a session on both sides, and whether to continue.

    :ivar facts: all that another process needs in order to work for this runner.
    :ivar pulse: the heartbeat's server process: it shows that this runner is alive while its sessions reconnect.
    :ivar worker: the worker process that it belongs to; empty in the runner itself.
    :ivar refuses_writes: whether the configuration of the target's server makes transactions read-only, as the last
        heartbeat has seen it. False where the run does not fill the target any more.
    """

    source: Session
    target: Session
    facts: RunFacts
    progress: Progress = field(default_factory=Silent)
    stop: Stop = field(default_factory=Stop)
    lost: threading.Event = field(default_factory=threading.Event)
    pulse: Backend | None = None
    worker: str = ""
    refuses_writes: bool = False
    recorded: Backends | None = None
    _joined: dict[object, tuple[str, Backend]] = field(default_factory=dict)
    _recording: threading.RLock = field(default_factory=threading.RLock)

    @property
    def run_id(self) -> uuid.UUID:
        """The run; its row is read again wherever it matters."""
        return self.facts.run_id

    @property
    def epoch(self) -> int:
        """The epoch of this runner; every write is fenced by it."""
        return self.facts.epoch

    @property
    def schema(self) -> str:
        """The run's own schema, on either side."""
        return self.facts.schema

    def run(self) -> Run:
        """The run as the journal has it now."""
        with self.target.transaction(read_only=True) as tx:
            return runs.get(tx, self.run_id)

    @contextmanager
    def fenced(self, name: str, *, session: Session | None = None) -> Iterator[Transaction]:
        """A writing transaction on the target, begun by its fence.

        :param name: of the transaction; its crash points are ``NAME.before_commit`` and ``NAME.after_commit``.
        :param session: the target's session of this runner unless that of a thread is given.
        """
        self.check_lease()
        if session is None:
            self.record_backends()
        else:
            self.join(session, "target", session.backend, by=session)
        with (session or self.target).transaction() as tx:
            runs.fence(tx, self.run_id, self.epoch)
            if self.worker:
                leases.fence_worker(tx, self.run_id, self.epoch)
            yield tx
            failpoint(f"{name}.before_commit")
        failpoint(f"{name}.after_commit")

    def record_backends(self, by: Session | None = None) -> None:
        """Record the server processes of this runner, again after a reconnect: a takeover ends them.

        :param by: the session to the target that records them; None for the runner's own, in the runner's thread.
        """
        with self._recording:
            if by is None:
                self._joined[self.target] = ("target", self.target.backend)
                self._joined[self.source] = ("source", self.source.backend)
            self._record_joined(by or self.target)

    def _record_joined(self, by: Session) -> None:
        pulse = () if self.pulse is None else (self.pulse,)
        source, target = ([b for s, b in self._joined.values() if s == side] for side in ("source", "target"))
        now = Backends((*target, *pulse), tuple(source))
        known = self.recorded
        # A process that has ended may stay recorded: its start time distinguishes it from every other process.
        if known is not None and {*now.target} <= {*known.target} and {*now.source} <= {*known.source}:
            return
        # The backends are durable before any of them locks anything else.
        with yielding.holding_on(), by.transaction() as tx:
            claiming(tx)
            runs.fence(tx, self.run_id, self.epoch)
            leases.set_backends(tx, self.run_id, self.epoch, now.target, now.source, worker=self.worker)
        self.recorded = now

    @contextmanager
    def beside(self, role: str, *, user_sql: bool = False, side: str = "source") -> Iterator[Session]:
        """One more session on one side for the block; a takeover ends it too, with the locks it holds."""
        with Session(self.facts.database(side), role, self.facts.short, user_sql=user_sql) as session:
            try:
                self.join(session, side, session.backend)
                yield session
            finally:
                self.part(session)

    def join(self, session: object, side: str, backend: Backend, *, by: Session | None = None) -> None:
        """Record the server process of an open session before it locks anything; again after a reconnect.

        :param session: a process that was recorded for it before is ended, because it would keep its locks.
        :param by: as in :meth:`record_backends`.
        """
        with self._recording:
            before = self._joined.get(session)
            self._joined[session] = (side, backend)
            self.record_backends(by)
        if before is not None and before != (side, backend):
            end_backends(by or (self.source if side == "source" else self.target), (before[1],))

    def part(self, session: object) -> None:
        """Undo :meth:`join`: the session is closed."""
        with self._recording:
            self._joined.pop(session, None)

    def joined(self, session: object) -> Backend | None:
        """The server process that was recorded for it last."""
        return self._joined[session][1] if session in self._joined else None

    def end_leftovers(self) -> None:
        """End the server processes of the run's earlier runners on both sides, and wait until they have ended.

        They serve a client that has vanished or is frozen, which their server has not detected yet.
        """
        with self.target.transaction(read_only=True) as tx:
            earlier = leases.earlier(tx, self.run_id, self.epoch)
        end_backends(self.source, tuple({b for r in earlier for b in r.source_backends}))
        end_backends(self.target, tuple({b for r in earlier for b in r.target_backends}))

    def end_beside(self, side: str) -> None:
        """End the server processes that worked beside one side's own session, and wait until they have ended."""
        session = self.source if side == "source" else self.target
        known = self.recorded
        if known is not None:
            worked = known.source if side == "source" else known.target
            end_backends(session, tuple(b for b in worked if b not in (session.backend, self.pulse)))

    @contextmanager
    def fenced_source(self, name: str, *, session: Session | None = None) -> Iterator[Transaction]:
        """A writing transaction on the source, begun by its copy of the fence.

        :param name: as in :meth:`fenced`.
        :param session: the source's session of this runner unless another one is given.
        """
        self.check_lease()
        with (session or self.source).transaction() as tx:
            run_schema.fence(tx, self.schema, self.epoch)
            yield tx
            failpoint(f"{name}.before_commit")
        failpoint(f"{name}.after_commit")

    def check_lease(self) -> None:
        """:raises Held: when the heartbeat found the run taken over."""
        if self.lost.is_set():
            raise Held(
                "another runner has taken this run over",
                why=f"the lease of epoch {self.epoch} is gone; this process has written nothing since",
                fix="see which process runs it: confiture status",
            )

    def check_writes(self) -> None:
        """:raises DataFailure: when the configuration of the target's server makes transactions read-only (I-9.11)."""
        if self.refuses_writes:
            raise DataFailure(read_only.WHAT, why=read_only.WHY, fix=f"{read_only.FIX}: completed work is kept")

    def checkpoint(
        self,
        *,
        pausable: bool = True,
        session: Session | None = None,
        while_paused: Callable[[], None] = lambda: None,
    ) -> None:
        """Between two units of work: act on a signal, a pause, a lost lease, a target that accepts no writes.

        :param pausable: False where a pause would hold locks that the application waits for.
        :param session: as in :meth:`fenced`.
        :param while_paused: called repeatedly during a pause.
        """
        announced = False
        while True:
            self.check_lease()
            self.check_writes()
            if self.stop.signal_number is not None:
                raise self.stop.drained()
            if not pausable or not retry(partial(self._asked_to_pause, session or self.target)):
                return
            if not announced:
                self.progress.say(f"paused on request; to continue: {Naming(self.facts.target_name).command('resume')}")
                announced = True
            while_paused()
            time.sleep(POLL_SECONDS)

    def _asked_to_pause(self, session: Session) -> bool:
        with session.transaction(read_only=True) as tx:
            return leases.paused(tx, self.run_id)


@contextmanager
def reading(
    session: Session, lock: sql.Composable, *, read_only: bool = False, snapshot: str | None = None
) -> Iterator[Transaction]:
    """A reading transaction on the source: lock, then snapshot (docs/invariants.md, I-2.1).

    :param lock: the tables to hold in ACCESS SHARE, as SQL. An older snapshot would see a table
        that was rewritten in between as empty.
    :param read_only: let the server reject every write. A standby accepts no other transaction.
    :param snapshot: exported by another session, which still holds it; None for one of the transaction's own.
    :raises GaveWay: when the application waited for its locks, or for those of a transaction beside it;
        :func:`confiture.postgres.retry.repeated` repeats it.
    """
    begun = session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=read_only)
    with yielding.yielding(session), begun as tx:
        if snapshot is not None:
            tx.pg.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        tx.pg.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(lock))
        yield tx


def end_backends(session: Session, backends: tuple[Backend, ...]) -> None:
    """End server processes and wait until they have ended: their open transactions are rolled back then."""
    if not backends:
        return
    with session.transaction(read_only=True) as tx:  # the server may be a standby
        terminate(tx.pg, backends)
    deadline = time.monotonic() + LEASE_SECONDS
    while time.monotonic() < deadline:
        with session.transaction(read_only=True) as tx:
            if not alive(tx.pg, backends):
                return
        time.sleep(0.05)
