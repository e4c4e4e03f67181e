"""The objects of the target that are removed or disabled while rows are loaded, and their status."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from confiture.journal.model import (
    SUSPENDED,
    AnyDeferred,
    Deferred,
    DeferredCheck,
    DeferredStatus,
    deferred_as_json,
    deferred_from_json,
)
from confiture.journal.tables import deferred_object
from confiture.postgres.session import Transaction


def put(tx: Transaction, run_id: uuid.UUID, *items: Deferred) -> None:
    """Record objects in the transaction that removes them, in place of the records of their last removal."""
    known = {(type(item), item.table, item.name) for item in of_run(tx, run_id)}
    for item in items:
        if (type(item), item.table, item.name) in known:
            tx.sa.execute(sa.delete(deferred_object).where(*_is(run_id, item)))
    add(tx, run_id, *items)


def add(tx: Transaction, run_id: uuid.UUID, *items: Deferred) -> None:
    """Record objects in the transaction that removes or disables them."""
    values = []
    for item in items:
        value = deferred_as_json(item)
        table = value.pop("table")
        values.append({"run_id": run_id, "schema_name": table["schema"], "table_name": table["name"], **value})
    if values:
        tx.sa.execute(sa.insert(deferred_object), values)


def of_run(tx: Transaction, run_id: uuid.UUID) -> tuple[Deferred, ...]:
    """The objects of all kinds that were removed or disabled, by kind and name."""
    c = deferred_object.c
    query = sa.select(deferred_object).where(c.run_id == run_id)
    rows = tx.sa.execute(query.order_by(c.kind, c.schema_name, c.table_name, c.name)).mappings()
    return tuple(
        deferred_from_json({**row, "table": {"schema": row["schema_name"], "name": row["table_name"]}}) for row in rows
    )


def of_kind(tx: Transaction, run_id: uuid.UUID, kind: type[AnyDeferred]) -> tuple[AnyDeferred, ...]:
    """The objects of one kind that were removed or disabled, by name."""
    return tuple(item for item in of_run(tx, run_id) if isinstance(item, kind))


def suspended(tx: Transaction, run_id: uuid.UUID) -> tuple[Deferred, ...]:
    """The objects of these kinds that are or were off, in the order in which they are restored."""
    return in_order(d for d in of_run(tx, run_id) if isinstance(d, SUSPENDED))


def in_order(items: Iterable[Deferred]) -> tuple[Deferred, ...]:
    """Constraints of inheritance children before their parents', which then merge with them."""
    return tuple(sorted(items, key=lambda d: -d.level if isinstance(d, DeferredCheck) else 0))


def set_status(tx: Transaction, run_id: uuid.UUID, item: Deferred, status: DeferredStatus) -> None:
    """Record the new status of ``item`` in the transaction that changes it."""
    tx.sa.execute(sa.update(deferred_object).where(*_is(run_id, item)).values(status=status))


def _is(run_id: uuid.UUID, item: Deferred) -> tuple[sa.ColumnElement[bool], ...]:
    c = deferred_object.c
    of_table = (c.schema_name == item.table.schema, c.table_name == item.table.name)
    return (c.run_id == run_id, c.kind == item.kind, *of_table, c.name == item.name)


def set_all_statuses(
    tx: Transaction, run_id: uuid.UUID, kinds: Sequence[type[Deferred]], status: DeferredStatus
) -> None:
    """Record the new status of every object of some kinds in the transaction that changes it."""
    c, names = deferred_object.c, [kind.kind for kind in kinds]
    tx.sa.execute(sa.update(deferred_object).where(c.run_id == run_id, c.kind.in_(names)).values(status=status))
