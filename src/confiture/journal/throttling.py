"""What operators allow the copy: asked for in ``request``, the last word holds, also for a later process."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy import func

from confiture.db import Transaction
from confiture.journal.tables import request, runner


@dataclass(frozen=True, slots=True)
class Allowed:
    """Limits of the copy; None is no limit.

    :ivar max_rate: rows per second.
    :ivar max_replica_lag: seconds that a standby of either server may be behind.
    """

    max_rate: int | None = None
    max_replica_lag: float | None = None

    @property
    def limited(self) -> bool:
        """Whether anything is limited."""
        return self != Allowed()


def ask(tx: Transaction, run_id: uuid.UUID, allowed: Allowed, actor: str) -> None:
    """Have these limits hold from now on."""
    values = {"run_id": run_id, "kind": "throttle", "detail": asdict(allowed), "actor": actor}
    tx.sa.execute(sa.insert(request).values(values))


def allowed(tx: Transaction, run_id: uuid.UUID) -> Allowed:
    """The limits that hold now."""
    query = sa.select(request.c.detail).where(request.c.run_id == run_id, request.c.kind == "throttle")
    found = tx.sa.execute(query.order_by(request.c.id.desc()).limit(1)).scalar_one_or_none()
    return Allowed(**found) if found else Allowed()


def note(tx: Transaction, run_id: uuid.UUID, epoch: int, reason: str | None) -> None:
    """Write down why the runner holds back, since when it first did; None when it no longer does."""
    since = None if reason is None else func.coalesce(runner.c.throttled_since, func.clock_timestamp())
    tx.sa.execute(
        sa.update(runner)
        .where(runner.c.run_id == run_id, runner.c.epoch == epoch)
        .values(throttle_reason=reason, throttled_since=since)
    )
