"""The runner of a run: its lease, its heartbeat, and the requests of operators."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH

from confiture import __version__
from confiture.errors import CannotConnect, Held
from confiture.journal.model import LEASE_SECONDS, Runner
from confiture.journal.tables import request, runner
from confiture.postgres.session import Transaction
from confiture.types import Backend, Json, duration

#: Seconds between heartbeats.
HEARTBEAT_SECONDS = 10


_SILENT = func.extract("epoch", func.clock_timestamp() - runner.c.heartbeat_at).label("silent_seconds")


def _backends(value: list[list[Any]]) -> tuple[Backend, ...]:
    return tuple(Backend(pid, started) for pid, started, *_ in value)


def _runner(row: sa.Row[Any]) -> Runner:
    values = {field.name: row._mapping[field.name] for field in fields(Runner)}
    values["target_backends"] = _backends(values["target_backends"])
    values["source_backends"] = _backends(values["source_backends"])
    values["silent_seconds"] = float(values["silent_seconds"])
    return Runner(**values)


def holder(tx: Transaction, run_id: uuid.UUID) -> Runner | None:
    """The runner that has not ended, alive or not; None when the run has no holder."""
    query = sa.select(runner, _SILENT).where(runner.c.run_id == run_id, runner.c.ended_at.is_(None))
    row = tx.sa.execute(query).one_or_none()
    return None if row is None else _runner(row)


def earlier(tx: Transaction, run_id: uuid.UUID, epoch: int) -> tuple[Runner, ...]:
    """The runners that the run had before ``epoch``, the newest first."""
    query = sa.select(runner, _SILENT).where(runner.c.run_id == run_id, runner.c.epoch < epoch)
    return tuple(_runner(row) for row in tx.sa.execute(query.order_by(runner.c.epoch.desc())))


def begin(tx: Transaction, run_id: uuid.UUID, epoch: int, *, host: str, pid: int, command: str) -> None:
    """Record the new holder; the unique index admits only one. Its backends follow in the same transaction."""
    values = {"run_id": run_id, "epoch": epoch, "host": host, "pid": pid, "command": command}
    tx.sa.execute(sa.insert(runner).values(**values, tool_version=__version__))


def end(tx: Transaction, run_id: uuid.UUID, epoch: int, why: str) -> None:
    """Record that the holder of ``epoch`` has ended; idempotent."""
    tx.sa.execute(
        sa.update(runner)
        .where(runner.c.run_id == run_id, runner.c.epoch == epoch, runner.c.ended_at.is_(None))
        .values(ended_at=func.clock_timestamp(), ended_why=why)
    )


def set_backends(
    tx: Transaction,
    run_id: uuid.UUID,
    epoch: int,
    target: Iterable[Backend],
    source: Iterable[Backend],
    *,
    worker: str = "",
) -> None:
    """Record the server processes that work for this runner, for a takeover to terminate.

    :param worker: the worker process that they serve, whose earlier ones they replace; empty for the runner itself.
    """

    def replaced(column: sa.Column[Any], backends: Iterable[Backend]) -> sa.ColumnElement[Any]:
        ours = sa.cast([[b.pid, b.started, worker] for b in backends], JSONB)
        kept = sa.func.jsonb_path_query_array(
            column, sa.cast("strict $[*] ? (@[2] != $worker)", JSONPATH), sa.func.jsonb_build_object("worker", worker)
        )
        return ours.op("||")(kept)

    values = {
        runner.c.target_backends: replaced(runner.c.target_backends, target),
        runner.c.source_backends: replaced(runner.c.source_backends, source),
    }
    tx.sa.execute(sa.update(runner).where(runner.c.run_id == run_id, runner.c.epoch == epoch).values(values))


def fence_worker(tx: Transaction, run_id: uuid.UUID, epoch: int) -> None:
    """Check that a worker process has a runner, after :func:`runs.fence`.

    :raises Held: when its runner has ended.
    :raises CannotConnect: when the lease of its runner has run out; it may be renewed, so the caller retries.
    """
    query = sa.select(runner.c.ended_at, _SILENT).where(runner.c.run_id == run_id, runner.c.epoch == epoch)
    ended, silent = tx.sa.execute(query).one()
    if ended is not None:
        raise Held(
            "the runner of this worker process has ended",
            why=f"the lease of epoch {epoch} was released; this process has written nothing since",
            fix="run the same command again",
        )
    if silent > LEASE_SECONDS:
        raise CannotConnect(
            "the runner of this worker process does not renew its lease",
            why=f"its heartbeat is {duration(silent)} old",
            fix="run the same command again",
        )


def beat(tx: Transaction, run_id: uuid.UUID, epoch: int) -> bool:
    """Renew the lease; False when another runner has it."""
    statement = (
        sa.update(runner)
        .where(runner.c.run_id == run_id, runner.c.epoch == epoch, runner.c.ended_at.is_(None))
        .values(heartbeat_at=func.clock_timestamp())
        .returning(runner.c.epoch)
    )
    return tx.sa.execute(statement).one_or_none() is not None


def set_throttled(tx: Transaction, run_id: uuid.UUID, epoch: int, reason: str | None) -> None:
    """Record the reason for which the copy waits; None when it does not wait. The time since which it waits is kept."""
    since = None if reason is None else func.coalesce(runner.c.throttled_since, func.clock_timestamp())
    tx.sa.execute(
        sa.update(runner)
        .where(runner.c.run_id == run_id, runner.c.epoch == epoch)
        .values(throttled_reason=reason, throttled_since=since)
    )


def ask(tx: Transaction, run_id: uuid.UUID, kind: str, actor: str, detail: Json | None = None) -> None:
    """Record a request for the run's runner, of now or of later."""
    tx.sa.execute(sa.insert(request).values(run_id=run_id, kind=kind, actor=actor, detail=detail or {}))


def limits(tx: Transaction, run_id: uuid.UUID) -> Json:
    """The last limits operators set, as they stored them; empty when there are none."""
    query = sa.select(request.c.detail).where(request.c.run_id == run_id, request.c.kind == "throttle")
    return tx.sa.execute(query.order_by(request.c.id.desc()).limit(1)).scalar_one_or_none() or {}


def paused(tx: Transaction, run_id: uuid.UUID) -> bool:
    """Whether the run is to pause: the last request of pause and resume counts, for later processes too."""
    return tx.sa.execute(_LAST_OF_PAUSES, {"run_id": run_id}).scalar_one_or_none() == "pause"


# Built once, because it is executed between any two units of work.
_LAST_OF_PAUSES = (
    sa.select(request.c.kind)
    .where(request.c.run_id == sa.bindparam("run_id"), request.c.kind.in_(("pause", "resume")))
    .order_by(request.c.id.desc())
    .limit(1)
)
