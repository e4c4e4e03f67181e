"""The passes of catch-up that the target has, and the keys that they changed."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import JSONB, insert

from confiture.journal.tables import catchup, touched
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
            "INSERT INTO confiture.touched SELECT {run}::uuid, {}, jsonb_build_array({}) FROM {}"
            " WHERE EXISTS (SELECT FROM confiture.verification WHERE run_id = {run}::uuid) ON CONFLICT DO NOTHING"
        ).format(sql.Literal(table_number), values, keys, run=sql.Literal(str(run_id)))
    )


def note_backlog(tx: Transaction, run_id: uuid.UUID, rows: int, oldest: float) -> None:
    """Record the backlog for ``status``: its log rows, and the age of the oldest in seconds."""
    values = {"run_id": run_id, "backlog": rows, "oldest": oldest}
    measured = {"backlog": rows, "oldest": oldest, "at": func.clock_timestamp()}
    tx.sa.execute(insert(catchup).values(values).on_conflict_do_update(index_elements=["run_id"], set_=measured))


def touch_keys(tx: Transaction, run_id: uuid.UUID, table_number: int, keys: list[list[str]]) -> None:
    """Record keys that changed too often to be compared."""
    rows = [{"run_id": run_id, "table_number": table_number, "key": key} for key in keys]
    if rows:
        tx.sa.execute(insert(touched).on_conflict_do_nothing(), rows)


def touched_keys(
    tx: Transaction, run_id: uuid.UUID, table_number: int, *, after: list[str] | None = None, most: int | None = None
) -> list[list[str]]:
    """The keys of a table that changed since they were verified, in order.

    :param after: only the keys after this one; None for all.
    :param most: how many at most; None for all.
    """
    query = sa.select(touched.c.key).where(touched.c.run_id == run_id, touched.c.table_number == table_number)
    if after is not None:
        query = query.where(touched.c.key > after)
    return list(tx.sa.execute(query.order_by(touched.c.key).limit(most)).scalars())


def touched_tables(tx: Transaction, run_id: uuid.UUID) -> set[int]:
    """The numbers of the tables of which a key changed since it was verified."""
    query = sa.select(touched.c.table_number).where(touched.c.run_id == run_id).distinct()
    return set(tx.sa.execute(query).scalars())


def forget_touched(tx: Transaction, run_id: uuid.UUID, table_number: int, keys: list[list[str]]) -> None:
    """Discard keys whose rows were compared and are equal."""
    # One array: a parameter a key would take longer than the deletion.
    among = sa.select(func.jsonb_array_elements(sa.literal(keys, JSONB)))
    where = (touched.c.run_id == run_id, touched.c.table_number == table_number, touched.c.key.in_(among))
    tx.sa.execute(sa.delete(touched).where(*where))


def forget_all_touched(tx: Transaction, run_id: uuid.UUID) -> None:
    """Discard every key: a verification of every row begins."""
    tx.sa.execute(sa.delete(touched).where(touched.c.run_id == run_id))
