"""The tables of the plan, and the progress of each table's copy."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from confiture.journal.model import TablePhase, TableProgress
from confiture.journal.tables import chunk, table_plan
from confiture.postgres.session import Transaction
from confiture.types import Json, KeyValue, TableRef


def key_values(value: list[str] | None) -> KeyValue | None:
    return None if value is None else tuple(value)


def _progress(row: sa.Row[Any]) -> TableProgress:
    return TableProgress(
        number=row.number,
        target=TableRef(row.target_schema, row.target_table),
        source=TableRef(row.source_schema, row.source_table),
        plan=row.plan,
        estimate=row.estimate,
        phase=TablePhase(row.phase),
        fingerprint=row.fingerprint,
        cursor_key=key_values(row.cursor_key),
        next_chunk=row.next_chunk,
        sealed=row.sealed,
        rows_done=row.rows_done,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def add(
    tx: Transaction,
    run_id: uuid.UUID,
    number: int,
    *,
    target: TableRef,
    source: TableRef,
    plan: Json,
    estimate: int,
    fingerprint: Json | None,
) -> None:
    """Record one table of the plan."""
    tx.sa.execute(
        sa.insert(table_plan).values(
            run_id=run_id,
            number=number,
            target_schema=target.schema,
            target_table=target.name,
            source_schema=source.schema,
            source_table=source.name,
            plan=plan,
            estimate=estimate,
            fingerprint=fingerprint,
        )
    )


def replace(tx: Transaction, run_id: uuid.UUID, number: int, source: TableRef, plan: Json, estimate: int) -> None:
    """Replace the plan of a table of which no row is copied: its chunks are planned again."""
    _of_table = (chunk.c.run_id == run_id, chunk.c.table_number == number)
    tx.sa.execute(sa.delete(chunk).where(*_of_table))
    update(
        tx,
        run_id,
        number,
        source_schema=source.schema,
        source_table=source.name,
        plan=plan,
        estimate=estimate,
        phase=TablePhase.PLANNED,
        cursor_key=None,
        next_chunk=1,
        sealed=False,
        rows_done=0,
        started_at=None,
        finished_at=None,
    )


def drop(tx: Transaction, run_id: uuid.UUID, number: int) -> None:
    """Discard a table that the plan no longer has; the caller has checked that it has no rows."""
    tx.sa.execute(sa.delete(chunk).where(chunk.c.run_id == run_id, chunk.c.table_number == number))
    tx.sa.execute(sa.delete(table_plan).where(table_plan.c.run_id == run_id, table_plan.c.number == number))


def of_run(tx: Transaction, run_id: uuid.UUID) -> tuple[TableProgress, ...]:
    """Every table of the plan, in its order."""
    query = sa.select(table_plan).where(table_plan.c.run_id == run_id).order_by(table_plan.c.number)
    return tuple(_progress(row) for row in tx.sa.execute(query))


def get(tx: Transaction, run_id: uuid.UUID, number: int, *, lock: bool = False) -> TableProgress:
    """One table of the plan; with ``lock`` its row is held for the planner."""
    query = sa.select(table_plan).where(table_plan.c.run_id == run_id, table_plan.c.number == number)
    return _progress(tx.sa.execute(query.with_for_update() if lock else query).one())


def update(tx: Transaction, run_id: uuid.UUID, number: int, **values: object) -> None:
    """Set columns of a table's row."""
    where = (table_plan.c.run_id == run_id, table_plan.c.number == number)
    tx.sa.execute(sa.update(table_plan).where(*where).values(**values))
