"""The objects that setup created in the target, in the order of their creation."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from confiture.journal.tables import built_object
from confiture.postgres.session import Transaction


def record(tx: Transaction, run_id: uuid.UUID, objects: list[tuple[str, str]]) -> None:
    """Record (kind, identity) of everything the DDL created, in creation order."""
    rows = [
        {"run_id": run_id, "number": n, "kind": kind, "identity": identity}
        for n, (kind, identity) in enumerate(objects, 1)
    ]
    if rows:
        tx.sa.execute(sa.insert(built_object), rows)


def newest_first(tx: Transaction, run_id: uuid.UUID) -> list[tuple[str, str]]:
    """The objects that setup created, the newest first."""
    query = sa.select(built_object).where(built_object.c.run_id == run_id).order_by(built_object.c.number.desc())
    return [(row.kind, row.identity) for row in tx.sa.execute(query)]
