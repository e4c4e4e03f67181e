"""The objects of the target that are removed or disabled while rows are loaded, and their status."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from confiture.journal.model import DeferredStatus
from confiture.journal.tables import deferred_object
from confiture.postgres.session import Transaction
from confiture.types import TableRef

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Deferred:
    """An object that is removed or disabled for the load.

    :ivar definition: the statement or definition that restores it as declared.
    :ivar interim: the definition of its substitute until the cutover; None when it has none.
    """

    kind: str
    table: TableRef
    name: str
    definition: str
    interim: str | None = None
    comment: str | None = None
    detail: Json | None = None
    status: DeferredStatus = DeferredStatus.OFF

    @property
    def interim_name(self) -> str:
        """The name of its substitute; its own name where that is the same object, altered."""
        return str((self.detail or {}).get("interim_name", self.name))

    @property
    def standing(self) -> str:
        """The name of the object that is in place until the opening, by the status."""
        return self.interim_name if self.status is DeferredStatus.INTERIM else self.name


def add(tx: Transaction, run_id: uuid.UUID, item: Deferred) -> None:
    """Record ``item`` in the transaction that removes or disables it."""
    tx.sa.execute(
        sa.insert(deferred_object).values(
            run_id=run_id,
            kind=item.kind,
            schema_name=item.table.schema,
            table_name=item.table.name,
            name=item.name,
            definition=item.definition,
            interim=item.interim,
            comment=item.comment,
            detail=item.detail or {},
            status=item.status,
        )
    )


def of_run(tx: Transaction, run_id: uuid.UUID, kind: str | None = None) -> tuple[Deferred, ...]:
    """The objects that were removed or disabled, by kind and name; of all kinds when None."""
    query = sa.select(deferred_object).where(deferred_object.c.run_id == run_id)
    if kind is not None:
        query = query.where(deferred_object.c.kind == kind)
    rows = tx.sa.execute(
        query.order_by(
            deferred_object.c.kind, deferred_object.c.schema_name, deferred_object.c.table_name, deferred_object.c.name
        )
    )
    return tuple(
        Deferred(
            row.kind,
            TableRef(row.schema_name, row.table_name),
            row.name,
            row.definition,
            row.interim,
            row.comment,
            row.detail,
            DeferredStatus(row.status),
        )
        for row in rows
    )


#: Kinds that are off while Confiture writes, and that are restored in the commit that opens the database.
SUSPENDED = ("trigger", "rule", "check", "publication")


def suspended(tx: Transaction, run_id: uuid.UUID) -> tuple[Deferred, ...]:
    """The objects of these kinds that are or were off, in the order in which they are restored."""
    return in_order(d for d in of_run(tx, run_id) if d.kind in SUSPENDED)


def in_order(items: Iterable[Deferred]) -> tuple[Deferred, ...]:
    """Constraints of inheritance children before their parents', which then merge with them."""
    return tuple(sorted(items, key=lambda d: -int((d.detail or {}).get("level", 0))))


def set_status(tx: Transaction, run_id: uuid.UUID, item: Deferred, status: DeferredStatus) -> None:
    """Record the new status of ``item`` in the transaction that changes it."""
    c = deferred_object.c
    tx.sa.execute(
        sa.update(deferred_object)
        .where(c.run_id == run_id, c.kind == item.kind, c.schema_name == item.table.schema)
        .where(c.table_name == item.table.name, c.name == item.name)
        .values(status=status)
    )


def set_all_statuses(tx: Transaction, run_id: uuid.UUID, kinds: Sequence[str], status: DeferredStatus) -> None:
    """Record the new status of every object of some kinds in the transaction that changes it."""
    c = deferred_object.c
    tx.sa.execute(sa.update(deferred_object).where(c.run_id == run_id, c.kind.in_(kinds)).values(status=status))
