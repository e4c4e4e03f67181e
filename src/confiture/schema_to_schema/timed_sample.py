"""A timed sample of each large table, for the forecast: rows of the source are read as copy and verification do.

Rows behind a few keys of the table are read, by the SELECT of the plan. Where the table has no key, or no statistics
divide it, pages that the server chooses at random are read instead. Nothing is written, and a table of any size costs
the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import psycopg
from psycopg import sql

from confiture.catalog_model import Catalog, Table
from confiture.compare import checksum
from confiture.compare.checksum import Hashing
from confiture.copy import key_statistics, stream
from confiture.copy.run_table import RunTable
from confiture.copy.stream import Received
from confiture.errors import GaveWay
from confiture.plan.forecast import Sample
from confiture.plan.keyset import columns, predicate
from confiture.plan.model import Plan, TablePlan
from confiture.plan.projection import view_select
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import yielding
from confiture.types import KeyRange, KeyValue

#: Bytes of a table below which the usual rates are accurate enough.
BYTES_LEAST = 8 * 2**20
#: Seconds for all samples together, for one table, and for one statement.
BUDGET_SECONDS, TABLE_SECONDS, STATEMENT_TIMEOUT = 6.0, 1.5, "700ms"
#: Rows and bytes of a sample.
ROWS_MOST, BYTES_MOST = 60_000, 16 * 2**20
#: Places of a table that are read.
PLACES = 3
#: Rows, or bytes, below which the time of a sample is mostly that of its statements. The rows behind keys say nothing
#: about the number of rows.
ROWS_LEAST, SAMPLE_BYTES_LEAST = 100, 2**20


def take(session: Session, plan: Plan, source: Catalog) -> dict[int, Sample]:
    """Samples by the number of their table, the largest tables first, as many as the budget permits.

    A table that cannot be sampled is left out: it is locked, the role may not read it, or an expression fails.

    :param session: of the source, for expressions of the operator.
    """
    ends = time.monotonic() + BUDGET_SECONDS
    found = {}
    hashing = Hashing("own", plan.recode)
    for table in sorted(plan.tables, key=lambda t: -t.estimate_bytes):
        if table.estimate_bytes < BYTES_LEAST or time.monotonic() > ends:
            break
        with suppress(psycopg.Error, GaveWay):
            sample = _take(session, table, source.by_ref[table.source], hashing)
            if sample is not None:
                found[table.number] = sample
    return found


def _take(session: Session, table: TablePlan, source: Table, hashing: Hashing) -> Sample | None:
    """The sample of one table; None if its statements were ended before they had read a row."""
    job = RunTable(table, "")
    rows = max(1, min(ROWS_MOST, BYTES_MOST // source.row_bytes, table.estimate))
    with yielding(session), session.transaction(read_only=True) as tx:
        tx.pg.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(STATEMENT_TIMEOUT)))
        # Another session's ALTER TABLE is not waited for.
        tx.pg.execute("SET LOCAL lock_timeout = '100ms'")
        # Rows that a condition selects lie anywhere: only pages show how many they are.
        keys = _places(tx, job) if table.where is None else []
        percent = min(100.0, max(100.0 * rows / max(1, source.estimated_rows), 1e-6))
        selects = list(_selects(job, keys, rows, percent))
        ends = time.monotonic() + TABLE_SECONDS / 2
        received, read_seconds, whole = _read(tx, job, selects, ends)
        share = percent / 100 if whole and not keys and received.rows < 2 * rows else None
        if share is None and received.rows < ROWS_LEAST and received.bytes < SAMPLE_BYTES_LEAST:
            return None
        if not received.rows and table.where is None and source.tuples >= 0:
            return None  # its rows were deleted since the server counted them
        hashed, hash_seconds = _hash(tx, job, hashing, selects, ends + TABLE_SECONDS / 2)
    way = "behind some of its keys" if keys else "of pages chosen at random"
    return Sample(received.rows, received.bytes, read_seconds, hashed, hash_seconds, way, share)


def _places(tx: Transaction, job: RunTable) -> list[KeyValue]:
    """Keys that divide the table in equal parts; empty where no statistics do."""
    try:
        with tx.pg.transaction():
            found = key_statistics.bounds(tx, job, None, max(1, job.table.estimate // (PLACES + 1)), PLACES)
    except psycopg.Error:
        return []
    return [tuple(part for part in key if part is not None) for key in found if None not in key]


def _selects(job: RunTable, keys: Sequence[KeyValue], rows: int, percent: float) -> Iterator[sql.Composed]:
    """The SELECT of each part of the sample, in parentheses and with a name."""
    t = job.table
    if keys:
        whole = view_select(t.source, t.only, t.keys_beside, t.columns, t.where)
        for key in keys:
            yield sql.SQL("(SELECT * FROM ({}) w WHERE {} ORDER BY {} LIMIT {}) s").format(
                whole,
                predicate(t.view_key, KeyRange(key, None)),
                columns(t.view_key),
                sql.Literal(max(1, rows // len(keys))),
            )
        return
    part = view_select(t.source, t.only, t.keys_beside, t.columns, t.where, percent=percent)
    yield sql.SQL("(SELECT * FROM ({}) w LIMIT {}) s").format(part, sql.Literal(2 * rows))


def _read(tx: Transaction, job: RunTable, selects: Sequence[sql.Composed], ends: float) -> tuple[Received, float, bool]:
    """The rows and bytes that were read, the seconds that it took, and whether every statement has ended by itself."""
    received, began, ended = Received(), time.monotonic(), 0
    form = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT {})")
    for select in selects:
        # Ended by the timeout, what was read so far was read in that time.
        with suppress(psycopg.errors.QueryCanceled), tx.pg.transaction():
            stream.read(
                tx.pg,
                form.format(job.columns, select, sql.SQL(job.table.format)),
                received,
                binary=job.table.format == "binary",
            )
            ended += 1
        if time.monotonic() > ends:
            break
    return received, time.monotonic() - began, ended == len(selects)


def _hash(
    tx: Transaction, job: RunTable, hashing: Hashing, selects: Sequence[sql.Composed], ends: float
) -> tuple[int, float]:
    """The rows that were hashed, and the seconds that it took; 0 rows if no statement has ended in time."""
    rows, seconds = 0, 0.0
    for select in selects:
        began = time.monotonic()
        with suppress(psycopg.errors.QueryCanceled), tx.pg.transaction():
            rows += checksum.sum_of(tx, job, hashing, select).rows
            seconds += time.monotonic() - began
        if time.monotonic() > ends:
            break
    return rows, seconds
