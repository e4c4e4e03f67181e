"""Steps, taken-off objects, tables and chunks: how far a run has come."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from confiture.journal.tables import built_object, chunk, deferred_object, step, table_plan
from confiture.postgres.session import Transaction
from confiture.types import KeyRange, KeyValue, TableRef

Json = dict[str, Any]


# Steps ---------------------------------------------------------------------------------------------


def step_done(tx: Transaction, run_id: uuid.UUID, phase: str, name: str) -> bool:
    """Whether the step's work is durable."""
    query = sa.select(step.c.status).where(step.c.run_id == run_id, step.c.phase == phase, step.c.name == name)
    return tx.sa.execute(query).scalar_one_or_none() == "done"


def mark_step(tx: Transaction, run_id: uuid.UUID, phase: str, name: str, *, done: bool) -> None:
    """Record that a step was begun or is done."""
    status = {"status": "done" if done else "begun", "done_at": func.clock_timestamp() if done else None}
    statement = insert(step).values(run_id=run_id, phase=phase, name=name, **status)
    statement = statement.on_conflict_do_update(index_elements=["run_id", "phase", "name"], set_=status)
    tx.sa.execute(statement)


def ending(tx: Transaction, run_id: uuid.UUID) -> str | None:
    """The command that has begun to drop what the run made: ``abort`` or ``cleanup``; None when neither has."""
    query = sa.select(step.c.phase).where(step.c.run_id == run_id, step.c.phase.in_(("abort", "cleanup")))
    return tx.sa.execute(query.limit(1)).scalar_one_or_none()


def forget_steps(tx: Transaction, run_id: uuid.UUID, phase: str) -> None:
    """Let the steps of a phase run again, after the work they follow has changed."""
    tx.sa.execute(sa.delete(step).where(step.c.run_id == run_id, step.c.phase == phase))


# What setup built, and what the load takes off -----------------------------------------------------


def record_built(tx: Transaction, run_id: uuid.UUID, objects: list[tuple[str, str]]) -> None:
    """Record (kind, identity) of everything the DDL created, in creation order."""
    rows = [
        {"run_id": run_id, "number": n, "kind": kind, "identity": identity}
        for n, (kind, identity) in enumerate(objects, 1)
    ]
    if rows:
        tx.sa.execute(sa.insert(built_object), rows)


def built(tx: Transaction, run_id: uuid.UUID) -> list[tuple[str, str]]:
    """What setup built, the newest first."""
    query = sa.select(built_object).where(built_object.c.run_id == run_id).order_by(built_object.c.number.desc())
    return [(row.kind, row.identity) for row in tx.sa.execute(query)]


@dataclass(frozen=True, slots=True)
class Deferred:
    """An object taken off for the load.

    :ivar definition: what brings it back as declared (a constraint's or index's definition).
    :ivar interim: what stands in for it until the cutover; None when nothing does.
    :ivar status: ``off``, ``interim`` or ``back``.
    """

    kind: str
    table: TableRef
    name: str
    definition: str
    interim: str | None = None
    comment: str | None = None
    detail: Json | None = None
    status: str = "off"

    @property
    def interim_name(self) -> str:
        """The name of what stands in for it; its own name where that is the same object, altered."""
        return str((self.detail or {}).get("interim_name", self.name))

    @property
    def standing(self) -> str:
        """The name of the object that is in place until the opening, by the status."""
        return self.interim_name if self.status == "interim" else self.name


def take_off(tx: Transaction, run_id: uuid.UUID, item: Deferred) -> None:
    """Record ``item`` in the transaction that takes it off."""
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


def deferred(tx: Transaction, run_id: uuid.UUID, kind: str | None = None) -> tuple[Deferred, ...]:
    """What was taken off, by kind and name; all kinds when None."""
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
            row.status,
        )
        for row in rows
    )


#: What is off while Confiture writes, and comes back in the commit that opens the database.
SUSPENDED = ("trigger", "rule", "check", "publication")


def suspended(tx: Transaction, run_id: uuid.UUID) -> tuple[Deferred, ...]:
    """The objects of these kinds that are off for the run, or were, in the order to bring them back."""
    return in_order(d for d in deferred(tx, run_id) if d.kind in SUSPENDED)


def in_order(items: Iterable[Deferred]) -> tuple[Deferred, ...]:
    """Constraints of inheritance children before their parents', which then merge with them."""
    return tuple(sorted(items, key=lambda d: -int((d.detail or {}).get("level", 0))))


def set_deferred(tx: Transaction, run_id: uuid.UUID, item: Deferred, status: str) -> None:
    """Record where ``item`` now stands, in the transaction that put it there."""
    c = deferred_object.c
    tx.sa.execute(
        sa.update(deferred_object)
        .where(c.run_id == run_id, c.kind == item.kind, c.schema_name == item.table.schema)
        .where(c.table_name == item.table.name, c.name == item.name)
        .values(status=status)
    )


def set_all_deferred(tx: Transaction, run_id: uuid.UUID, kinds: Sequence[str], status: str) -> None:
    """Record where every object of some kinds now stands, in the transaction that put them there."""
    c = deferred_object.c
    tx.sa.execute(sa.update(deferred_object).where(c.run_id == run_id, c.kind.in_(kinds)).values(status=status))


# Tables and chunks ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableProgress:
    """A table of the plan and how far its copy has come; ``estimate`` in rows."""

    number: int
    target: TableRef
    source: TableRef
    plan: Json
    estimate: int
    phase: str
    fingerprint: Json | None
    cursor_key: KeyValue | None
    next_chunk: int
    sealed: bool
    rows_done: int
    started_at: datetime | None
    finished_at: datetime | None


def _key(value: list[str] | None) -> KeyValue | None:
    return None if value is None else tuple(value)


def _progress(row: sa.Row[Any]) -> TableProgress:
    return TableProgress(
        number=row.number,
        target=TableRef(row.target_schema, row.target_table),
        source=TableRef(row.source_schema, row.source_table),
        plan=row.plan,
        estimate=row.estimate,
        phase=row.phase,
        fingerprint=row.fingerprint,
        cursor_key=_key(row.cursor_key),
        next_chunk=row.next_chunk,
        sealed=row.sealed,
        rows_done=row.rows_done,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def add_table(
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
    """Write one table of the plan."""
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


def replace_table(tx: Transaction, run_id: uuid.UUID, number: int, source: TableRef, plan: Json, estimate: int) -> None:
    """A new plan for a table of which nothing is copied: its chunks are planned again."""
    _of_table = (chunk.c.run_id == run_id, chunk.c.table_number == number)
    tx.sa.execute(sa.delete(chunk).where(*_of_table))
    update_table(
        tx,
        run_id,
        number,
        source_schema=source.schema,
        source_table=source.name,
        plan=plan,
        estimate=estimate,
        phase="planned",
        cursor_key=None,
        next_chunk=1,
        sealed=False,
        rows_done=0,
        started_at=None,
        finished_at=None,
    )


def drop_table(tx: Transaction, run_id: uuid.UUID, number: int) -> None:
    """Forget a table that the plan no longer has; the caller has made sure that it has no rows."""
    tx.sa.execute(sa.delete(chunk).where(chunk.c.run_id == run_id, chunk.c.table_number == number))
    tx.sa.execute(sa.delete(table_plan).where(table_plan.c.run_id == run_id, table_plan.c.number == number))


def tables(tx: Transaction, run_id: uuid.UUID) -> tuple[TableProgress, ...]:
    """Every table of the plan, in its order."""
    query = sa.select(table_plan).where(table_plan.c.run_id == run_id).order_by(table_plan.c.number)
    return tuple(_progress(row) for row in tx.sa.execute(query))


def table(tx: Transaction, run_id: uuid.UUID, number: int, *, lock: bool = False) -> TableProgress:
    """One table of the plan; with ``lock`` its row is held for the planner."""
    query = sa.select(table_plan).where(table_plan.c.run_id == run_id, table_plan.c.number == number)
    return _progress(tx.sa.execute(query.with_for_update() if lock else query).one())


def update_table(tx: Transaction, run_id: uuid.UUID, number: int, **values: object) -> None:
    """Set columns of a table's row."""
    where = (table_plan.c.run_id == run_id, table_plan.c.number == number)
    tx.sa.execute(sa.update(table_plan).where(*where).values(**values))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range of keys and what became of it."""

    table_number: int
    number: int
    range: KeyRange
    status: str
    attempts: int
    rows: int | None
    seconds: float | None
    error: Json | None


def _chunk(row: sa.Row[Any]) -> Chunk:
    return Chunk(
        row.table_number,
        row.number,
        KeyRange(_key(row.lower_key), _key(row.upper_key)),
        row.status,
        row.attempts,
        row.rows,
        row.seconds,
        row.error,
    )


def add_chunks(
    tx: Transaction, run_id: uuid.UUID, number: int, ranges: list[KeyRange], *, first: int, sealed: bool
) -> None:
    """Write planned ranges and the planner's cursor, in one transaction with each other."""
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
    update_table(
        tx,
        run_id,
        number,
        cursor_key=None if cursor is None else list(cursor),
        next_chunk=first + len(ranges),
        sealed=sealed,
        phase="copying",
        started_at=func.coalesce(table_plan.c.started_at, func.clock_timestamp()),
    )


def claim(tx: Transaction, run_id: uuid.UUID, table_number: int) -> Chunk | None:
    """Lock the next chunk that is not done, until the transaction ends (I-3.6); None when all are taken."""
    query = (
        sa.select(chunk)
        .where(chunk.c.run_id == run_id, chunk.c.table_number == table_number, chunk.c.status != "done")
        .order_by(chunk.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = tx.sa.execute(query).one_or_none()
    return None if row is None else _chunk(row)


def claim_chunk(tx: Transaction, run_id: uuid.UUID, item: Chunk) -> Chunk | None:
    """Lock that chunk until the transaction ends; None when it is done, taken, or was cut."""
    query = sa.select(chunk).where(*_of(run_id, item), chunk.c.status != "done").with_for_update(skip_locked=True)
    row = tx.sa.execute(query).one_or_none()
    return None if row is None else _chunk(row)


def cut_chunk(tx: Transaction, run_id: uuid.UUID, item: Chunk, middle: KeyValue) -> None:
    """Cut an open chunk at ``middle``: it keeps the lower half, a new chunk gets the upper."""
    held = claim_chunk(tx, run_id, item)
    if held is None or held.range != item.range:
        return
    state = table(tx, run_id, item.table_number, lock=True)
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
    update_table(tx, run_id, item.table_number, next_chunk=state.next_chunk + 1)


def _of(run_id: uuid.UUID, item: Chunk) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        chunk.c.run_id == run_id,
        chunk.c.table_number == item.table_number,
        chunk.c.number == item.number,
    )


def finish_chunk(tx: Transaction, run_id: uuid.UUID, item: Chunk, *, epoch: int, rows: int, seconds: float) -> None:
    """Mark the chunk done in the transaction that holds its rows."""
    tx.sa.execute(
        sa.update(chunk)
        .where(*_of(run_id, item))
        .values(status="done", rows=rows, seconds=seconds, epoch=epoch, done_at=func.clock_timestamp(), error=None)
    )
    update_table(tx, run_id, item.table_number, rows_done=table_plan.c.rows_done + rows)


def count_attempt(tx: Transaction, run_id: uuid.UUID, item: Chunk) -> None:
    """Record that a copy of the chunk begins, so that one lost with its process shows."""
    tx.sa.execute(sa.update(chunk).where(*_of(run_id, item)).values(attempts=chunk.c.attempts + 1))


def fail_chunk(tx: Transaction, run_id: uuid.UUID, item: Chunk, error: Json) -> None:
    """Quarantine the chunk with what was found."""
    tx.sa.execute(sa.update(chunk).where(*_of(run_id, item)).values(status="failed", error=error))


def chunks(tx: Transaction, run_id: uuid.UUID, table_number: int) -> tuple[Chunk, ...]:
    """All chunks of a table, in order."""
    query = sa.select(chunk).where(chunk.c.run_id == run_id, chunk.c.table_number == table_number)
    return tuple(_chunk(row) for row in tx.sa.execute(query.order_by(chunk.c.number)))


def open_chunks(tx: Transaction, run_id: uuid.UUID, table_number: int) -> int:
    """How many chunks of the table are planned and not done."""
    query = sa.select(func.count()).where(
        chunk.c.run_id == run_id, chunk.c.table_number == table_number, chunk.c.status != "done"
    )
    return tx.sa.execute(query).scalar_one()
