"""Rounds: every row compared again after a verification, and the age of the last complete verification."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy import func

from confiture.journal.model import Round
from confiture.journal.tables import complete_verification, verification_round
from confiture.postgres.session import Transaction


def current(tx: Transaction, run_id: uuid.UUID, verification: int) -> Round | None:
    """The round of a verification that is not through; None when there is none."""
    query = sa.select(verification_round).where(
        verification_round.c.run_id == run_id,
        verification_round.c.verification == verification,
        verification_round.c.ended_at.is_(None),
    )
    row = tx.sa.execute(query).one_or_none()
    if row is None:
        return None
    behind = None if row.table_number is None else (row.table_number, row.unit)
    return Round(run_id, row.number, verification, behind)


def begin(tx: Transaction, run_id: uuid.UUID, verification: int) -> Round:
    """A new round; one of an earlier verification that was not through is discarded."""
    of_run = verification_round.c.run_id == run_id
    tx.sa.execute(sa.delete(verification_round).where(of_run, verification_round.c.ended_at.is_(None)))
    last = sa.select(func.coalesce(func.max(verification_round.c.number), 0)).where(of_run)
    number = int(tx.sa.execute(last).scalar_one()) + 1
    values = {"run_id": run_id, "number": number, "verification": verification}
    tx.sa.execute(sa.insert(verification_round).values(values))
    return Round(run_id, number, verification, None)


def advance(tx: Transaction, item: Round, table_number: int, unit: int) -> Round:
    """Record that a part was compared."""
    tx.sa.execute(sa.update(verification_round).where(*_of(item)).values(table_number=table_number, unit=unit))
    return Round(item.run_id, item.number, item.verification, (table_number, unit))


def end(tx: Transaction, item: Round) -> None:
    """Record that every part was compared."""
    tx.sa.execute(sa.update(verification_round).where(*_of(item)).values(ended_at=func.clock_timestamp()))


def _of(item: Round) -> tuple[sa.ColumnElement[bool], ...]:
    return verification_round.c.run_id == item.run_id, verification_round.c.number == item.number


def age(tx: Transaction, run_id: uuid.UUID) -> float | None:
    """Seconds since the last complete verification began, by the target's clock; None when there is none.

    Every row has been compared within them.
    """
    seconds = func.extract("epoch", func.clock_timestamp() - complete_verification.c.began_at)
    query = sa.select(seconds).where(complete_verification.c.run_id == run_id)
    found = tx.sa.execute(query).scalar_one_or_none()
    return None if found is None else float(found)
