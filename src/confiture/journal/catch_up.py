"""The passes of catch-up that the target has, and the keys that they changed."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import JSONB, insert

from confiture.journal.tables import catchup, changed_key
from confiture.postgres.session import Transaction


def last(tx: Transaction, run_id: uuid.UUID) -> int:
    """The last pass that the target has; 0 before the first."""
    query = sa.select(catchup.c["pass"]).where(catchup.c.run_id == run_id)
    return tx.sa.execute(query).scalar_one_or_none() or 0


def advance(tx: Transaction, run_id: uuid.UUID, number: int, *, keys: int, rows: int) -> None:
    """Count a pass in the transaction that holds its rows."""
    first = insert(catchup).values({"run_id": run_id, "pass": number, "keys": keys, "rows": rows})
    more = {
        "pass": number,
        "keys": catchup.c["keys"] + keys,
        "rows": catchup.c.rows + rows,
        "at": func.clock_timestamp(),
    }
    tx.sa.execute(first.on_conflict_do_update(index_elements=["run_id"], set_=more))


def last_reverse(tx: Transaction, run_id: uuid.UUID) -> int:
    """The last reverse pass that the target has; 0 before the first."""
    query = sa.select(catchup.c.reverse).where(catchup.c.run_id == run_id)
    return tx.sa.execute(query).scalar_one_or_none() or 0


def record_reverse(tx: Transaction, run_id: uuid.UUID, number: int) -> None:
    """Record a reverse pass in the transaction that deletes its log rows."""
    first = insert(catchup).values(run_id=run_id, reverse=number)
    tx.sa.execute(first.on_conflict_do_update(index_elements=["run_id"], set_={"reverse": number}))


def record_changed(tx: Transaction, run_id: uuid.UUID, table_number: int, keys: sql.Identifier, width: int) -> None:
    """Record the keys of a temporary table (``k1``...) as changed since the verification, if there was one."""
    values = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(f"k{i}")) for i in range(1, width + 1))
    tx.pg.execute(
        sql.SQL(
            "INSERT INTO confiture.changed_key SELECT {run}::uuid, {}, jsonb_build_array({}) FROM {}"
            " WHERE EXISTS (SELECT FROM confiture.verification WHERE run_id = {run}::uuid) ON CONFLICT DO NOTHING"
        ).format(sql.Literal(table_number), values, keys, run=sql.Literal(str(run_id)))
    )


def note_backlog(tx: Transaction, run_id: uuid.UUID, rows: int, oldest: float, staleness: float | None = None) -> None:
    """Record the backlog for ``status``: its log rows, and the age of the oldest in seconds.

    :param staleness: seconds that the target is behind the source now, at most; None for the backlog of the target's
        changes.
    """
    values: dict[str, object] = {"backlog": rows, "oldest": oldest}
    measured = {**values, "at": func.clock_timestamp()}
    if staleness is not None:
        values["fresh_at"] = fresh = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, staleness)
        # The target keeps every change that it has once.
        measured["fresh_at"] = func.greatest(catchup.c.fresh_at, fresh)
    first = insert(catchup).values({"run_id": run_id, **values})
    tx.sa.execute(first.on_conflict_do_update(index_elements=["run_id"], set_=measured))


def staleness(tx: Transaction, run_id: uuid.UUID) -> float | None:
    """Seconds that the target is behind the source, at most; None before the first measurement.

    Every change that was committed on the source longer ago is in the target.
    """
    age = func.extract("epoch", func.clock_timestamp() - catchup.c.fresh_at)
    found = tx.sa.execute(sa.select(age).where(catchup.c.run_id == run_id)).scalar_one_or_none()
    return None if found is None else float(found)


def add_changed_keys(tx: Transaction, run_id: uuid.UUID, table_number: int, keys: list[list[str]]) -> None:
    """Record keys that changed too often to be compared."""
    rows = [{"run_id": run_id, "table_number": table_number, "key": key} for key in keys]
    if rows:
        tx.sa.execute(insert(changed_key).on_conflict_do_nothing(), rows)


def changed_keys(
    tx: Transaction, run_id: uuid.UUID, table_number: int, *, after: list[str] | None = None, most: int | None = None
) -> list[list[str]]:
    """The keys of a table that changed since they were verified, in order.

    :param after: only the keys after this one; None for all.
    :param most: how many at most; None for all.
    """
    query = sa.select(changed_key.c.key).where(
        changed_key.c.run_id == run_id, changed_key.c.table_number == table_number
    )
    if after is not None:
        query = query.where(changed_key.c.key > after)
    return list(tx.sa.execute(query.order_by(changed_key.c.key).limit(most)).scalars())


def changed_tables(tx: Transaction, run_id: uuid.UUID) -> set[int]:
    """The numbers of the tables of which a key changed since it was verified."""
    query = sa.select(changed_key.c.table_number).where(changed_key.c.run_id == run_id).distinct()
    return set(tx.sa.execute(query).scalars())


def discard_changed_keys(tx: Transaction, run_id: uuid.UUID, table_number: int, keys: list[list[str]]) -> None:
    """Discard keys whose rows were compared and are equal."""
    # One array: a parameter a key would take longer than the deletion.
    among = sa.select(func.jsonb_array_elements(sa.literal(keys, JSONB)))
    where = (changed_key.c.run_id == run_id, changed_key.c.table_number == table_number, changed_key.c.key.in_(among))
    tx.sa.execute(sa.delete(changed_key).where(*where))


def discard_all_changed_keys(tx: Transaction, run_id: uuid.UUID) -> None:
    """Discard every key: a verification of every row begins."""
    tx.sa.execute(sa.delete(changed_key).where(changed_key.c.run_id == run_id))
