"""The chunks of each table: planned, claimed, cut, done, failed."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func

from confiture.journal import table_plans
from confiture.journal.model import Chunk, ChunkError, ChunkStatus, TablePhase
from confiture.journal.table_plans import key_values
from confiture.journal.tables import chunk, table_plan
from confiture.postgres.session import Transaction
from confiture.types import KeyRange, KeyValue


def _chunk(row: sa.Row[Any]) -> Chunk:
    return Chunk(
        row.table_number,
        row.number,
        KeyRange(key_values(row.lower_key), key_values(row.upper_key)),
        ChunkStatus(row.status),
        row.attempts,
        row.rows,
        row.seconds,
        row.error,
    )


def add(tx: Transaction, run_id: uuid.UUID, number: int, ranges: list[KeyRange], *, first: int, sealed: bool) -> None:
    """Record planned ranges and the planner's cursor; both commit together."""
    rows = [
        {
            "run_id": run_id,
            "table_number": number,
            "number": first + offset,
            "lower_key": None if r.lower is None else list(r.lower),
            "upper_key": None if r.upper is None else list(r.upper),
        }
        for offset, r in enumerate(ranges)
    ]
    tx.sa.execute(sa.insert(chunk), rows)
    cursor = ranges[-1].upper
    table_plans.update(
        tx,
        run_id,
        number,
        cursor_key=None if cursor is None else list(cursor),
        next_chunk=first + len(ranges),
        sealed=sealed,
        phase=TablePhase.COPYING,
        started_at=func.coalesce(table_plan.c.started_at, func.clock_timestamp()),
    )


def planned(table_number: int, number: int, span: KeyRange) -> Chunk:
    """A chunk as :func:`add` records it."""
    return Chunk(table_number, number, span, ChunkStatus.PENDING, 0, None, None, None)


def not_done(tx: Transaction, run_id: uuid.UUID, table_number: int) -> tuple[Chunk, ...]:
    """The chunks of a table that are planned and not done, in order."""
    query = sa.select(chunk).where(
        chunk.c.run_id == run_id, chunk.c.table_number == table_number, chunk.c.status != ChunkStatus.DONE
    )
    return tuple(_chunk(row) for row in tx.sa.execute(query.order_by(chunk.c.number)))


def claim(tx: Transaction, run_id: uuid.UUID, item: Chunk) -> Chunk | None:
    """Lock that chunk until the transaction ends; None when it is done, taken, or was cut."""
    query = (
        sa.select(chunk).where(*_of(run_id, item), chunk.c.status != ChunkStatus.DONE).with_for_update(skip_locked=True)
    )
    row = tx.sa.execute(query).one_or_none()
    return None if row is None else _chunk(row)


def cut(tx: Transaction, run_id: uuid.UUID, item: Chunk, middle: KeyValue) -> None:
    """Cut an open chunk at ``middle``: it keeps the lower half, a new chunk gets the upper."""
    held = claim(tx, run_id, item)
    if held is None or held.range != item.range:
        return
    state = table_plans.get(tx, run_id, item.table_number, lock=True)
    tx.sa.execute(sa.update(chunk).where(*_of(run_id, item)).values(upper_key=list(middle), attempts=0))
    upper = item.range.upper
    tx.sa.execute(
        sa.insert(chunk).values(
            run_id=run_id,
            table_number=item.table_number,
            number=state.next_chunk,
            lower_key=list(middle),
            upper_key=None if upper is None else list(upper),
        )
    )
    table_plans.update(tx, run_id, item.table_number, next_chunk=state.next_chunk + 1)


def _of(run_id: uuid.UUID, item: Chunk) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        chunk.c.run_id == run_id,
        chunk.c.table_number == item.table_number,
        chunk.c.number == item.number,
    )


def finish(tx: Transaction, run_id: uuid.UUID, item: Chunk, *, epoch: int, rows: int, seconds: float) -> None:
    """Mark the chunk done in the transaction that holds its rows."""
    tx.sa.execute(
        sa.update(chunk)
        .where(*_of(run_id, item))
        .values(
            status=ChunkStatus.DONE, rows=rows, seconds=seconds, epoch=epoch, done_at=func.clock_timestamp(), error=None
        )
    )
    table_plans.update(tx, run_id, item.table_number, rows_done=table_plan.c.rows_done + rows)


def count_attempt(tx: Transaction, run_id: uuid.UUID, item: Chunk) -> Chunk:
    """Record that a copy of the chunk begins, so that an attempt lost with its process is counted; the chunk then."""
    counting = sa.update(chunk).where(*_of(run_id, item)).values(attempts=chunk.c.attempts + 1).returning(chunk)
    return _chunk(tx.sa.execute(counting).one())


def fail(tx: Transaction, run_id: uuid.UUID, item: Chunk, error: ChunkError) -> None:
    """Mark the chunk failed, with the error that the copy ended with."""
    tx.sa.execute(sa.update(chunk).where(*_of(run_id, item)).values(status=ChunkStatus.FAILED, error=error))


def of_table(tx: Transaction, run_id: uuid.UUID, table_number: int) -> tuple[Chunk, ...]:
    """All chunks of a table, in order."""
    query = sa.select(chunk).where(chunk.c.run_id == run_id, chunk.c.table_number == table_number)
    return tuple(_chunk(row) for row in tx.sa.execute(query.order_by(chunk.c.number)))


def count_open(tx: Transaction, run_id: uuid.UUID, table_number: int) -> int:
    """How many chunks of the table are planned and not done."""
    query = sa.select(func.count()).where(
        chunk.c.run_id == run_id, chunk.c.table_number == table_number, chunk.c.status != ChunkStatus.DONE
    )
    return tx.sa.execute(query).scalar_one()
