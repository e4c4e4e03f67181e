"""One runner per run: the lease, its heartbeat, takeover, signals, and the fences every write passes.

Two processes never write for one run: a takeover raises the epoch on the source, then on the
target, and every writing transaction begins by reading its side's fence with its own epoch
(docs/invariants.md, I-7.1 to I-7.3). The heartbeat only says who is alive; it is not the guarantee.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

import psycopg
from psycopg import IsolationLevel, sql

from confiture.config import Database, redact
from confiture.errors import CannotConnect, ConfitureError, DataFailure, Drained, Held
from confiture.failpoints import failpoint
from confiture.journal import leases, runs
from confiture.journal.leases import Runner
from confiture.journal.runs import Run
from confiture.postgres import yielding
from confiture.postgres.backends import alive, terminate
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction, claiming
from confiture.types import Backend

POLL_SECONDS = 0.5


class Progress(Protocol):
    """Where a step says how far it is; a terminal, a log, or nothing."""

    def say(self, text: str) -> None:
        """A whole line, once."""

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        """Rows done of an estimated total of one table."""


class Silent:
    """A Progress that keeps quiet."""

    def say(self, text: str) -> None:
        """Nothing."""

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        """Nothing."""


class Stop:
    """What signals asked for; read between chunks.

    The first SIGINT, SIGTERM or SIGHUP drains; the second cancels the running query and exits. A SIGHUP that is
    ignored (``nohup``) stays ignored.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside the block (main thread only)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heeded.append(signal.SIGHUP)
        before = {s: signal.signal(s, self._heard) for s in heeded}
        try:
            yield
        except KeyboardInterrupt:
            raise self.drained() from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            # psycopg cancels the query in flight when it is interrupted.
            raise KeyboardInterrupt
        self.signal_number = number
        failpoint("signal.heard")

    def drained(self) -> Drained:
        """The error that ends a command after a signal."""
        number = self.signal_number or signal.SIGINT
        return Drained(
            f"stopped by {signal.Signals(number).name}; what is done is kept",
            signal_number=number,
            fix="run the same command again to go on",
        )


@dataclass(frozen=True, slots=True)
class Backends:
    """The server processes that work for one runner, by side."""

    target: tuple[Backend, ...]
    source: tuple[Backend, ...]


@dataclass
class Context:
    """What a step works with: both sessions, the run's epoch, and whether to go on.

    :ivar run_id: the run; its row is read anew whenever it matters.
    :ivar epoch: ours; every write is fenced by it.
    :ivar pulse: the heartbeat's server process: it shows that we live while our sessions are opened anew.
    """

    source: Session
    target: Session
    run_id: uuid.UUID
    epoch: int
    progress: Progress = field(default_factory=Silent)
    stop: Stop = field(default_factory=Stop)
    lost: threading.Event = field(default_factory=threading.Event)
    pulse: Backend | None = None
    recorded: Backends | None = None
    _beside: list[tuple[str, Session]] = field(default_factory=list)
    _joined: dict[object, tuple[str, Backend]] = field(default_factory=dict)

    @property
    def schema(self) -> str:
        """The run's own schema, on either side."""
        return f"confiture_{self.run_id.hex[:8]}"

    def run(self) -> Run:
        """The run as the journal has it now."""
        with self.target.transaction(read_only=True) as tx:
            found = runs.get(tx, self.run_id)
        assert found is not None
        return found

    @contextmanager
    def fenced(self, name: str | None = None) -> Iterator[Transaction]:
        """A writing transaction on the target, begun by its fence.

        :param name: of the transaction; its crash points are ``NAME.before_commit`` and ``NAME.after_commit``.
        """
        self.check_lease()
        self.record_backends()
        with _named(name), self.target.transaction() as tx:
            runs.fence(tx, self.run_id, self.epoch)
            yield tx
            if name is not None:
                failpoint(f"{name}.before_commit")

    def record_backends(self) -> None:
        """Write down the server processes that work for us, again after a reconnect: a takeover ends them."""
        pulse = () if self.pulse is None else (self.pulse,)
        beside = [*((side, s.backend) for side, s in self._beside), *self._joined.values()]
        source = [backend for side, backend in beside if side == "source"]
        target = [backend for side, backend in beside if side == "target"]
        now = Backends((self.target.backend, *pulse, *target), (self.source.backend, *source))
        known = self.recorded
        # One that ended meanwhile may stay written down: nobody else is ever taken for it.
        if known is not None and {*now.target} <= {*known.target} and {*now.source} <= {*known.source}:
            return
        with yielding.holding_on(), self.target.transaction() as tx:  # the journal's own, committed beside the work
            runs.fence(tx, self.run_id, self.epoch)
            leases.set_backends(tx, self.run_id, self.epoch, now.target, now.source)
        self.recorded = now

    @contextmanager
    def beside(self, role: str, *, user_sql: bool = False, side: str = "source") -> Iterator[Session]:
        """One more session on one side for the block; a takeover ends it too, with the locks it holds."""
        database = self.source.database if side == "source" else self.target.database
        with Session(database, role, self.schema[-8:], user_sql=user_sql) as session:
            self._beside.append((side, session))
            try:
                self.record_backends()
                yield session
            finally:
                self._beside.remove((side, session))

    def join(self, session: object, side: str, backend: Backend) -> None:
        """Record the server process of an open session of ours, before it locks anything; again after a reconnect.

        :param session: names it: a process that it had before is ended, because it would keep its locks.
        """
        before = self._joined.get(session)
        self._joined[session] = (side, backend)
        self.record_backends()
        if before is not None and before != (side, backend):
            _terminate(self.source if side == "source" else self.target, (before[1],))

    def part(self, session: object) -> None:
        """Undo :meth:`join`: the session is closed."""
        self._joined.pop(session, None)

    def joined(self, session: object) -> Backend | None:
        """The server process that was recorded for it last."""
        return self._joined[session][1] if session in self._joined else None

    def end_leftovers(self) -> None:
        """End what still runs of the run's earlier runners, on both sides, and wait until it is gone.

        Such a session is one whose peer has vanished or is frozen: its server has not noticed yet.
        """
        with self.target.transaction(read_only=True) as tx:
            earlier = [r for r in leases.history(tx, self.run_id) if r.epoch < self.epoch]
        _terminate(self.source, tuple({b for r in earlier for b in r.source_backends}))
        _terminate(self.target, tuple({b for r in earlier for b in r.target_backends}))

    def end_beside(self, side: str) -> None:
        """End the server processes that worked beside one side's own session, and wait until they are gone."""
        session = self.source if side == "source" else self.target
        known = self.recorded
        if known is not None:
            worked = known.source if side == "source" else known.target
            _terminate(session, tuple(b for b in worked if b not in (session.backend, self.pulse)))

    @contextmanager
    def fenced_source(self, name: str | None = None, *, session: Session | None = None) -> Iterator[Transaction]:
        """A writing transaction on the source, begun by its copy of the fence.

        :param name: as in :meth:`fenced`.
        :param session: the source's session of this runner unless another one is given.
        """
        self.check_lease()
        with _named(name), (session or self.source).transaction() as tx:
            check_source_fence(tx, self.schema, self.epoch)
            yield tx
            if name is not None:
                failpoint(f"{name}.before_commit")

    def check_lease(self) -> None:
        """:raises Held: when the heartbeat found the run taken over."""
        if self.lost.is_set():
            raise Held(
                "another runner has taken this run over",
                why=f"the lease of epoch {self.epoch} is gone; nothing more was written from here",
                fix="see who runs it: confiture status",
            )

    def checkpoint(self, *, pausable: bool = True) -> None:
        """Between two units of work: obey a signal, a pause, a lost lease.

        :param pausable: False where a pause would hold locks that the application waits for.
        """
        announced = False
        while True:
            self.check_lease()
            if self.stop.signal_number is not None:
                raise self.stop.drained()
            if not pausable or not retry(self._asked_to_pause):
                return
            if not announced:
                self.progress.say("paused on request; `resume` goes on")
                announced = True
            time.sleep(POLL_SECONDS)

    def _asked_to_pause(self) -> bool:
        with self.target.transaction(read_only=True) as tx:
            return leases.paused(tx, self.run_id)


@contextmanager
def _named(name: str | None) -> Iterator[None]:
    """The crash point after the commit of a named transaction."""
    yield
    if name is not None:
        failpoint(f"{name}.after_commit")


def check_source_fence(tx: Transaction, schema: str, epoch: int) -> None:
    """Hold the source's copy of the fence until the transaction ends.

    :raises Held: when it does not carry our epoch.
    """
    query = sql.SQL("SELECT epoch FROM {} WHERE epoch = {} FOR SHARE").format(
        sql.Identifier(schema, "fence"), sql.Literal(epoch)
    )
    if tx.pg.execute(query).fetchone() is None:
        raise Held(
            "another runner has taken this run over",
            why=f"the source's fence {schema}.fence no longer has epoch {epoch}",
            fix="see who runs it: confiture status",
        )


@contextmanager
def reading(session: Session, lock: sql.Composable) -> Iterator[Transaction]:
    """A reading transaction on the source: lock, then snapshot (docs/invariants.md, I-2.1).

    :param lock: the tables to hold in ACCESS SHARE, as SQL. An older snapshot would see a table
        that was rewritten meanwhile as empty.
    :raises GaveWay: when the application waited for it, or for what was done beside it; :func:`repeated` repeats it.
    """
    with yielding.yielding(session), session.transaction(isolation=IsolationLevel.REPEATABLE_READ) as tx:
        tx.pg.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(lock))
        yield tx


# Holding a run -------------------------------------------------------------------------------------


def _terminate(session: Session, backends: tuple[Backend, ...]) -> None:
    """End them and wait until they are gone: what they had open is rolled back then."""
    if not backends:
        return
    with session.transaction() as tx:
        terminate(tx.pg, backends)
    deadline = time.monotonic() + leases.LEASE_SECONDS
    while time.monotonic() < deadline:
        with session.transaction() as tx:
            if not alive(tx.pg, backends):
                return
        time.sleep(0.05)


def _held_by(holder: Runner) -> Held:
    return Held(
        f"run {holder.run_id.hex[:8]} is held by {holder.host} pid {holder.pid} ({holder.command})",
        why=f"its heartbeat is {holder.silent_seconds:.0f} s old and moving",
        fix="wait for it, or stop it there; `confiture status` shows it",
    )


def _wait_for_holder(target: Session, run_id: uuid.UUID, say: Callable[[str], None]) -> tuple[Runner | None, int]:
    """The holder to be taken over once it may be (None when it ended by itself), and the epoch to raise.

    :raises Held: when it is alive.
    """
    first: Runner | None = None
    while True:
        with target.transaction(read_only=True) as tx:
            # The epoch first: read after, it could be that of a runner who came in between, and the
            # source's fence would be raised over its head.
            seen = runs.get(tx, run_id)
            holder = leases.holder(tx, run_id)
            gone = holder is not None and bool(holder.target_backends) and not alive(tx.pg, holder.target_backends)
        assert seen is not None
        if holder is None or gone or holder.lapsed:
            return holder, seen.epoch
        if first is not None and (holder.epoch, holder.heartbeat_at) != (first.epoch, first.heartbeat_at):
            raise _held_by(holder)
        if first is None:
            first = holder
            say(f"held by {holder.host} pid {holder.pid}; waiting to see whether it is alive")
        time.sleep(POLL_SECONDS)


def _raise_source_epoch(source: Session, schema: str, epoch: int) -> None:
    with source.transaction() as tx:
        claiming(tx)
        row = tx.pg.execute("SELECT to_regclass(format('%%I.fence', %s::text))", (schema,)).fetchone()
        if row is not None and row[0] is not None:
            statement = sql.SQL("UPDATE {} SET epoch = {} WHERE epoch < {}")
            fence = sql.Identifier(schema, "fence")
            tx.pg.execute(statement.format(fence, sql.Literal(epoch), sql.Literal(epoch)))


def take(source: Session, target: Session, run: Run, command: str, say: Callable[[str], None]) -> int:
    """Become the run's runner; the new epoch.

    After a crash anywhere in here the next process takes over from wherever it stopped: the
    source's epoch may be one ahead, never behind one that is in use.

    :raises Held: when another runner is alive, or was quicker.
    """
    holder, seen = _wait_for_holder(target, run.id, say)
    if holder is not None:
        say(f"taking over from {holder.host} pid {holder.pid}, silent for {holder.silent_seconds:.0f} s")
        _terminate(source, holder.source_backends)
        _terminate(target, holder.target_backends)
        failpoint("takeover.terminated")
    failpoint("takeover.before_source")
    _raise_source_epoch(source, run.schema, seen + 1)
    failpoint("takeover.before_target")
    backends = Backends((target.backend,), (source.backend,))
    try:
        with target.transaction() as tx:
            claiming(tx)
            if holder is not None:
                leases.end(tx, run.id, holder.epoch, "taken over")
            epoch = runs.raise_epoch(tx, run.id, seen)
            if epoch is not None:
                leases.begin(tx, run.id, epoch, host=socket.gethostname(), pid=os.getpid(), command=command)
                leases.set_backends(tx, run.id, epoch, backends.target, backends.source)
                runs.note(tx, run.id, epoch, "takeover" if holder else "start", {"command": command})
    except psycopg.errors.UniqueViolation:
        epoch = None
    if epoch is None:
        with target.transaction(read_only=True) as tx:
            winner = leases.holder(tx, run.id)
        raise (
            _held_by(winner)
            if winner
            else Held(
                "another runner took the run at the same moment", why=f"run {run.short} moved on", fix="try again"
            )
        )
    failpoint("takeover.after_target")
    return epoch


class _Heart(threading.Thread):
    """Renews the lease on a connection of its own."""

    def __init__(self, database: Database, context: Context) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._session = Session(database, "heartbeat", context.run_id.hex[:8])
        self._context = context
        self._end = threading.Event()

    def run(self) -> None:
        """Beat until ended; a lost lease is flagged, a lost connection tried again."""
        with self._session:
            while not self._end.wait(leases.HEARTBEAT_SECONDS):
                self.beat()

    def beat(self) -> None:
        """Renew the lease once."""
        try:
            with self._session.transaction() as tx:
                ours = leases.beat(tx, self._context.run_id, self._context.epoch)
            self._context.pulse = self._session.backend
        except (psycopg.Error, ConfitureError):
            return  # the lease runs out by the database's clock if this goes on
        if not ours:
            self._context.lost.set()

    def end(self) -> None:
        """Stop beating and wait for it."""
        self._end.set()
        self.join(timeout=leases.HEARTBEAT_SECONDS)


@contextmanager
def hold(source: Database, target: Database, run: Run, command: str, progress: Progress) -> Iterator[Context]:
    """Hold the run for the block: lease, heartbeat, signals; released at the end, kept by a crash."""
    with (
        Session(source, "runner", run.short) as src,
        Session(target, "runner", run.short) as tgt,
        yielding.watching(progress.say, run.short),
    ):
        epoch = retry(lambda: take(src, tgt, run, command, progress.say))
        context = Context(src, tgt, run.id, epoch, progress)
        heart = _Heart(target, context)
        heart.beat()
        heart.start()
        why = "finished"
        try:
            context.record_backends()
            context.end_leftovers()
            with context.stop.listening():
                yield context
        except BaseException as error:
            why = _ended_why(error)
            if isinstance(error, (psycopg.Error, CannotConnect, DataFailure)) and _is_taken(context):
                # Who took it over has ended our sessions, or dropped what we were looking for.
                context.lost.set()
                context.check_lease()
            raise
        finally:
            heart.end()
            _release(context, why)


def _ended_why(error: BaseException) -> str:
    """The error that ended a command, for the journal: its kind, what happened, why; no secret in it."""
    lines = error.lines()[:2] if isinstance(error, ConfitureError) and error.why else [str(error)]
    return redact(f"{type(error).__name__}: {' '.join(': '.join(lines).split())}")[:500]


def _is_taken(context: Context) -> bool:
    def look() -> Runner | None:
        with context.target.transaction(read_only=True) as tx:
            return leases.holder(tx, context.run_id)

    try:
        holder = retry(look, deadline=1)  # that session may have been ended too
    except (psycopg.Error, ConfitureError):
        return False  # nothing is known
    return holder is None or holder.epoch != context.epoch


def _release(context: Context, why: str) -> None:
    failpoint("release.before_commit")
    try:
        with context.target.transaction() as tx:
            leases.end(tx, context.run_id, context.epoch, why)
    except (psycopg.Error, ConfitureError):
        return  # the server is gone: the next runner sees that our processes are
