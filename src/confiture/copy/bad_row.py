"""Finding the row a chunk failed on: bisect its range, then try each column of that row.

Every attempt here runs in transactions that are rolled back.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture.copy.base import Job
from confiture.copy.chunks import MOVERS, middle_key
from confiture.db import Transaction
from confiture.keyset import predicate
from confiture.projection import raw
from confiture.runner import Context
from confiture.types import KeyRange, KeyValue, quoted


@dataclass(frozen=True, slots=True)
class BadRow:
    """What is known of the row that would not go in; None where it could not be found out."""

    key: dict[str, str] | None
    column: str | None
    message: str


def find(context: Context, job: Job, span: KeyRange, error: psycopg.Error) -> BadRow:
    """Narrow ``span`` down to the row that raised ``error``."""
    message = (error.diag.message_primary or str(error)).strip()
    column = error.diag.column_name
    if not job.table.key:
        return BadRow(None, column, message)
    narrow, last = _bisect(context, job, span), error
    if narrow is None:
        return BadRow(None, column, message)
    key, span, last = narrow
    column = last.diag.column_name or _column(context, job, span) or _constraint(last)
    names = [k.source for k in job.table.key]
    return BadRow(dict(zip(names, key, strict=True)), column, (last.diag.message_primary or message).strip())


def _constraint(error: psycopg.Error) -> str | None:
    name = error.diag.constraint_name
    return f"constraint {quoted(name)}" if name else None


def _fails(context: Context, job: Job, span: KeyRange) -> psycopg.Error | None:
    try:
        with context.source.rehearsal() as source, context.target.rehearsal() as target:
            MOVERS[job.table.strategy].move(source, target, job, span)
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate[:2] not in ("22", "23"):
            raise
        return error
    return None


def _bisect(context: Context, job: Job, span: KeyRange) -> tuple[KeyValue, KeyRange, psycopg.Error] | None:
    failed = _fails(context, job, span)
    while failed is not None:
        with context.source.rehearsal() as tx:
            middle = middle_key(tx, job, span)
            if middle is None:
                key = _only_key(tx, job, span)
                return None if key is None else (key, span, failed)
        left = KeyRange(span.lower, middle)
        in_left = _fails(context, job, left)
        if in_left is not None:
            span, failed = left, in_left
        else:
            span = KeyRange(middle, span.upper)
            failed = _fails(context, job, span)
    return None


def _only_key(tx: Transaction, job: Job, span: KeyRange) -> KeyValue | None:
    parts = job.table.source_key
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(p.name)) for p in parts)
    row = tx.pg.execute(
        sql.SQL("SELECT {} FROM {} WHERE {}").format(texts, job.source, predicate(parts, span))
    ).fetchone()
    return None if row is None else tuple(row)


def _column(context: Context, job: Job, span: KeyRange) -> str | None:
    """The column whose value the source cannot compute, or the target's type does not take."""
    within = predicate(job.table.view_key, span)
    for p in job.table.columns:
        query = sql.SQL("SELECT ({})::text FROM {} WHERE {}").format(sql.Identifier(p.target), job.view, within)
        try:
            with context.source.rehearsal() as tx:
                row = tx.pg.execute(query).fetchone()
            if row is None or row[0] is None:
                continue
            with context.target.rehearsal() as tx:
                table = sql.SQL("CREATE TEMP TABLE probe ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA")
                tx.pg.execute(table.format(sql.Identifier(p.target), job.target))
                # Inserted as a literal, the value goes through the column's own input function and length.
                insert = sql.SQL("INSERT INTO probe VALUES ({}{})")
                cast_in = sql.SQL("::{}").format(raw(p.cast_in)) if p.cast_in else sql.SQL("")
                tx.pg.execute(insert.format(sql.Literal(row[0]), cast_in))
        except psycopg.Error:
            return p.target
    return None
