"""The steps of a run: begun, done, discarded."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from confiture.journal.tables import step
from confiture.postgres.session import Transaction


def is_done(tx: Transaction, run_id: uuid.UUID, phase: str, name: str) -> bool:
    """Whether the step's work is durable."""
    query = sa.select(step.c.status).where(step.c.run_id == run_id, step.c.phase == phase, step.c.name == name)
    return tx.sa.execute(query).scalar_one_or_none() == "done"


def mark(tx: Transaction, run_id: uuid.UUID, phase: str, name: str, *, done: bool) -> None:
    """Record that a step was begun or is done. It began with this transaction, unless that was recorded before."""
    status = {"status": "done" if done else "begun", "done_at": func.clock_timestamp() if done else None}
    statement = insert(step).values(run_id=run_id, phase=phase, name=name, begun_at=func.now(), **status)
    statement = statement.on_conflict_do_update(index_elements=["run_id", "phase", "name"], set_=status)
    tx.sa.execute(statement)


def ending(tx: Transaction, run_id: uuid.UUID) -> str | None:
    """The command that has begun to drop the objects of the run: ``abort`` or ``cleanup``; None when neither has."""
    query = sa.select(step.c.phase).where(step.c.run_id == run_id, step.c.phase.in_(("abort", "cleanup")))
    return tx.sa.execute(query.limit(1)).scalar_one_or_none()


def discard(tx: Transaction, run_id: uuid.UUID, phase: str) -> None:
    """Have the steps of a phase run again, because the work that precedes them has changed."""
    tx.sa.execute(sa.delete(step).where(step.c.run_id == run_id, step.c.phase == phase))
