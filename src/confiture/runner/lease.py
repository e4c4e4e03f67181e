"""The lease of a run: one runner holds it, renews it with a heartbeat, and takes it over from a runner that is gone.

Two processes never write for one run: a takeover raises the epoch on the source, then on the
target, and every writing transaction begins by reading its side's fence with its own epoch
(docs/invariants.md, I-7.1 to I-7.3). The heartbeat only shows that a runner is alive; it is not the guarantee. A run
that writes nothing to its source has no fence there.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from confiture.config import Database, redact
from confiture.errors import CannotConnect, ConfitureError, DataFailure, Held
from confiture.failpoints import failpoint
from confiture.journal import leases, runs
from confiture.journal import source as run_schema
from confiture.journal.model import Run, Runner
from confiture.postgres import read_only, yielding
from confiture.postgres.backends import alive
from confiture.postgres.failure import failure
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, claiming
from confiture.runner.context import POLL_SECONDS, Backends, Context, end_backends
from confiture.runner.hooks import Hook
from confiture.runner.progress import Progress
from confiture.runner.run_facts import RunFacts
from confiture.runner.sampling import Sampler
from confiture.states import CUTOVER
from confiture.types import duration

if TYPE_CHECKING:
    from confiture.runner.notifier import Notifier


def _held_by(holder: Runner) -> Held:
    return Held(
        f"run {holder.run_id.hex[:8]} is held by {holder.host} pid {holder.pid} ({holder.command})",
        why=f"its heartbeat is {duration(holder.silent_seconds)} old and is being renewed",
        fix="wait until it ends, or stop it on that host; `confiture status` shows it",
    )


def _wait_for_holder(target: Session, run_id: uuid.UUID, say: Callable[[str], None]) -> tuple[Runner | None, int]:
    """The holder to take over, once that is allowed (None when it has ended by itself), and the epoch to raise.

    :raises Held: when it is alive.
    """
    first: Runner | None = None
    while True:
        with target.transaction(read_only=True) as tx:
            # The epoch first: read after the holder, it could belong to a runner that began in between, and the
            # source's fence would be raised above that runner's epoch.
            seen = runs.get(tx, run_id)
            holder = leases.holder(tx, run_id)
            gone = holder is not None and bool(holder.target_backends) and not alive(tx.pg, holder.target_backends)
        if holder is None or gone or holder.lapsed:
            return holder, seen.epoch
        if first is not None and (holder.epoch, holder.heartbeat_at) != (first.epoch, first.heartbeat_at):
            raise _held_by(holder)
        if first is None:
            first = holder
            say(f"held by {holder.host} pid {holder.pid}; waiting to see whether it is alive")
        time.sleep(POLL_SECONDS)


def _next_epoch(source: Session, target: Session, run: Run, seen: int) -> int:
    """An epoch that no runner has had.

    The source's fence may be one ahead: a takeover that a crash interrupted has raised it. The runner that raised it
    had read the epoch below it in the target, so that only a target that was restored to an earlier state is further
    behind. A runner of that lost time may be frozen.

    :param seen: the target's epoch, read before.
    """
    if not run.changes_source:
        return seen + 1
    with source.transaction(read_only=True) as tx:
        fence = run_schema.epoch(tx, run.schema)
    if fence <= seen + 1:
        return seen + 1
    with target.transaction(read_only=True) as tx:
        now = runs.get(tx, run.id).epoch
    return fence + 1 if fence > now + 1 else seen + 1


def _raise_source_epoch(source: Session, schema: str, epoch: int) -> None:
    with source.transaction() as tx:
        claiming(tx)
        run_schema.raise_epoch(tx, schema, epoch)


def take(source: Session, target: Session, run: Run, command: str, say: Callable[[str], None]) -> int:
    """Become the run's runner; the new epoch.

    After a crash at any point the next process repeats the takeover: the
    source's epoch may be one ahead, and is never behind one that is in use.

    :raises Held: when another runner is alive, or took the run first.
    """
    holder, seen = _wait_for_holder(target, run.id, say)
    if holder is not None:
        say(f"taking over from {holder.host} pid {holder.pid}, silent for {duration(holder.silent_seconds)}")
        end_backends(source, holder.source_backends)
        end_backends(target, holder.target_backends)
        failpoint("takeover.terminated")
    failpoint("takeover.before_source")
    epoch = _next_epoch(source, target, run, seen)
    if epoch > seen + 1:
        say(f"the target was restored to an earlier state: it has epoch {seen}, the source has epoch {epoch - 1}")
    if run.changes_source:
        _raise_source_epoch(source, run.schema, epoch)
    failpoint("takeover.before_target")
    backends = Backends((target.backend,), (source.backend,))
    try:
        with target.transaction() as tx:
            claiming(tx)
            if holder is not None:
                leases.end(tx, run.id, holder.epoch, "taken over")
            ours = runs.raise_epoch(tx, run.id, seen, epoch)
            if ours:
                leases.begin(tx, run.id, epoch, host=socket.gethostname(), pid=os.getpid(), command=command)
                leases.set_backends(tx, run.id, epoch, backends.target, backends.source)
                runs.note(tx, run.id, epoch, "takeover" if holder else "start", {"command": command})
    except psycopg.errors.UniqueViolation:
        ours = False
    if not ours:
        with target.transaction(read_only=True) as tx:
            winner = leases.holder(tx, run.id)
        raise (
            _held_by(winner)
            if winner
            else Held(
                "another runner took the run at the same moment",
                why=f"the epoch of run {run.short} has been raised",
                fix="retry",
            )
        )
    failpoint("takeover.after_target")
    return epoch


class _Heart(threading.Thread):
    """Renews the lease on a connection of its own, and looks whether the target's server accepts writes.

    It takes a sample of the run after each beat.

    :param fills: whether the command may still fill the target.
    """

    def __init__(self, database: Database, context: Context, fills: bool) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._session = Session(database, "heartbeat", context.facts.short)
        self._context = context
        self._fills = fills
        self._end = threading.Event()
        self._sampler = Sampler(self._session, context.run_id, context.epoch)

    def run(self) -> None:
        """Beat until ended; a lost lease is flagged, and a lost connection is opened again."""
        with self._session:
            self._sampler.take()
            while not self._end.wait(leases.HEARTBEAT_SECONDS):
                if self.beat():
                    self._sampler.take()
            if self._sampler.works:
                self._sampler.take()

    def beat(self) -> bool:
        """Renew the lease once; whether the server has answered."""
        try:
            with self._session.transaction() as tx:
                ours = leases.beat(tx, self._context.run_id, self._context.epoch)
                self._context.refuses_writes = self._fills and read_only.by_server(tx)
            self._context.pulse = self._session.backend
        except (psycopg.Error, ConfitureError):
            return False  # if this continues, the lease expires by the database's clock
        if not ours:
            self._context.lost.set()
        return True

    def end(self) -> None:
        """Stop beating and wait for it."""
        self._end.set()
        self.join(timeout=leases.HEARTBEAT_SECONDS)


@contextmanager
def runner_sessions(source: Database, target: Database, run: Run) -> Iterator[tuple[Session, Session]]:
    """The sessions of a command on both databases, for the block."""
    with Session(source, "runner", run.short) as src, Session(target, "runner", run.short) as tgt:
        yield src, tgt


@contextmanager
def hold(
    src: Session, tgt: Session, run: Run, command: str, progress: Progress, hooks: Sequence[Hook] = ()
) -> Iterator[Context]:
    """Hold the run for the block: lease, heartbeat, signals, notifications; released at the end, kept by a crash.

    :param src: of :func:`runner_sessions`, as ``tgt``.
    :param hooks: to run at events of the run, beside the work.
    """
    source, target = src.database, tgt.database
    with yielding.watching(progress.say, run.short):
        epoch = retry(lambda: take(src, tgt, run, command, progress.say))
        facts = RunFacts(run.id, epoch, run.target_name, source, target, run.medium)
        context = Context(src, tgt, facts, progress)
        heart = _Heart(target, context, _fills(run, command))
        heart.beat()
        heart.start()
        notifier = None
        why = "finished"
        try:
            context.record_backends()
            context.end_leftovers()
            notifier = _notifier(context, hooks)
            with context.stop.listening():
                yield context
        except BaseException as error:
            why = _ended_why(error)
            if isinstance(error, (psycopg.Error, CannotConnect, DataFailure)) and _is_taken(context):
                # The runner that took the run over has ended these sessions, or dropped the objects that they read.
                context.lost.set()
                context.check_lease()
            raise
        finally:
            heart.end()
            _release(context, why)
            if notifier is not None:
                notifier.end()


def _notifier(context: Context, hooks: Sequence[Hook]) -> Notifier | None:
    """The notifier of a command, begun; None when there is no receiver and no hook."""
    if not hooks and not context.facts.target.notify:
        return None
    from confiture.runner.notifier import Notifier, channels_of  # only what notifies needs the libraries

    channels = channels_of(context, hooks)
    notifier = Notifier(context, channels) if channels else None
    if notifier is not None:
        notifier.start()
    return notifier


def _fills(run: Run, command: str) -> bool:
    """Whether a command may fill the target: not if it drops the run, and not once a cutover has begun."""
    return command not in ("abort", "cleanup") and run.state != CUTOVER and run.cutover_phase is None


def _ended_why(error: BaseException) -> str:
    """The error that ended a command, for the journal: its kind, what happened, why; no secret in it."""
    known = failure(error, "running the command") if isinstance(error, psycopg.Error) else error
    lines = known.lines()[:2] if isinstance(known, ConfitureError) and known.why else [str(error)]
    return redact(f"{type(error).__name__}: {' '.join(': '.join(lines).split())}")[:500]


def _is_taken(context: Context) -> bool:
    def look() -> Runner | None:
        with context.target.transaction(read_only=True) as tx:
            return leases.holder(tx, context.run_id)

    try:
        holder = retry(look, deadline=1)  # the takeover may have ended that session too
    except (psycopg.Error, ConfitureError):
        return False  # the server does not answer
    return holder is None or holder.epoch != context.epoch


def _release(context: Context, why: str) -> None:
    failpoint("release.before_commit")
    try:
        with context.target.transaction() as tx:
            leases.end(tx, context.run_id, context.epoch, why)
    except (psycopg.Error, ConfitureError):
        return  # the server is unavailable: the next runner finds that these processes have ended
