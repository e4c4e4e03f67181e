"""Verifications: the parts that were compared, their results, and each difference."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy import func

from confiture.journal import runs
from confiture.journal.model import Difference, Unit, Verification
from confiture.journal.tables import difference, verification, verified_unit
from confiture.postgres.session import Transaction
from confiture.types import Json


def latest(tx: Transaction, run_id: uuid.UUID, purpose: str | None = None) -> Verification | None:
    """The last attempt, of any purpose when None; None when there was none."""
    query = sa.select(verification).where(verification.c.run_id == run_id)
    if purpose is not None:
        query = query.where(verification.c.purpose == purpose)
    row = tx.sa.execute(query.order_by(verification.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else Verification(**row._mapping)


def begin(tx: Transaction, run_id: uuid.UUID, *, epoch: int, plan_hash: str, purpose: str, servers: Json) -> int:
    """A new attempt; its number."""
    last = sa.select(func.coalesce(func.max(verification.c.number), 0)).where(verification.c.run_id == run_id)
    number = tx.sa.execute(last).scalar_one() + 1
    values = {"run_id": run_id, "number": number, "epoch": epoch, "plan_hash": plan_hash}
    tx.sa.execute(sa.insert(verification).values(**values, purpose=purpose, servers=servers))
    return int(number)


def end(tx: Transaction, run_id: uuid.UUID, epoch: int, number: int, differences: int | None) -> None:
    """Close an attempt; one that found differences is an event.

    :param differences: their number, which is limited; None when everything is equal.
    """
    verdict = "equal" if differences is None else "different"
    tx.sa.execute(
        sa.update(verification)
        .where(verification.c.run_id == run_id, verification.c.number == number)
        .values(ended_at=func.clock_timestamp(), verdict=verdict)
    )
    if differences is not None:
        note_differences(tx, run_id, epoch, differences)


def note_differences(tx: Transaction, run_id: uuid.UUID, epoch: int, count: int) -> None:
    """Record as an event that source and target differ."""
    runs.note(tx, run_id, epoch, "differences", {"count": count})


def add_unit(tx: Transaction, run_id: uuid.UUID, number: int, unit: Unit, found: list[Difference]) -> None:
    """Record a compared part and its differences together."""
    tx.sa.execute(
        sa.insert(verified_unit).values(
            run_id=run_id,
            verification=number,
            check_name=unit.check_name,
            subject=unit.subject,
            unit=unit.unit,
            source_rows=unit.source_rows,
            target_rows=unit.target_rows,
            hashes=unit.hashes,
            equal=unit.equal,
        )
    )
    rows = [
        {
            "run_id": run_id,
            "verification": number,
            "check_name": d.check_name,
            "subject": d.subject,
            "kind": d.kind,
            "key": d.key,
            "column_name": d.column_name,
            "source_value": d.source_value,
            "target_value": d.target_value,
        }
        for d in found
    ]
    if rows:
        tx.sa.execute(sa.insert(difference), rows)


def units(tx: Transaction, run_id: uuid.UUID, number: int) -> tuple[Unit, ...]:
    """The parts compared so far in an attempt."""
    query = sa.select(verified_unit).where(verified_unit.c.run_id == run_id, verified_unit.c.verification == number)
    rows = tx.sa.execute(query.order_by(verified_unit.c.check_name, verified_unit.c.subject, verified_unit.c.unit))
    return tuple(Unit(r.check_name, r.subject, r.unit, r.source_rows, r.target_rows, r.hashes, r.equal) for r in rows)


def differences(tx: Transaction, run_id: uuid.UUID, number: int) -> tuple[Difference, ...]:
    """The differences found in an attempt, in the order they were found."""
    query = sa.select(difference).where(difference.c.run_id == run_id, difference.c.verification == number)
    return tuple(
        Difference(r.check_name, r.subject, r.kind, r.key, r.column_name, r.source_value, r.target_value)
        for r in tx.sa.execute(query.order_by(difference.c.id))
    )
