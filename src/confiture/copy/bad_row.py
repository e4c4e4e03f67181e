"""Finding the row that a chunk failed on: its range is bisected, then each column of that row is tried.

Every attempt runs in transactions that are rolled back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import psycopg
from psycopg import sql

from confiture.copy import bad_text, large_row
from confiture.copy.chunks import MOVERS, middle_key
from confiture.copy.run_table import RunTable, trying
from confiture.plan.keyset import predicate
from confiture.plan.projection import raw
from confiture.postgres.retry import repeated
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.sql import load
from confiture.types import KeyRange, KeyValue, quoted


@dataclass(frozen=True, slots=True)
class BadRow:
    """The row that could not be inserted; None for a fact that could not be determined.

    :ivar place: the column, the constraint with its columns, or both.
    :ivar fix: how to proceed.
    """

    key: dict[str, str] | None
    place: str | None
    message: str
    fix: str = "fix the row on the source or the mapping"


def find(context: Context, job: RunTable, span: KeyRange, error: psycopg.Error) -> BadRow:
    """Narrow ``span`` down to the row that raised ``error``."""
    if isinstance(error, bad_text.BadText):
        condition = predicate(job.table.view_key, span) if job.table.key else None
        text = bad_text.look(context.source, context.target, job, condition=condition)
        if text is not None:
            return BadRow(text.key or None, f"column {quoted(text.column)}", _message(error), text.fix)
    if large_row.is_too_large(error):
        condition = predicate(job.table.view_key, span) if job.table.key else None
        large = large_row.look(context.source, job, condition=condition)
        if large is not None:
            return BadRow(large.key or None, large.place, _message(error), large_row.FIX)
    narrow = _bisect(context, job, span) if job.table.key else None
    if narrow is None:
        return BadRow(None, _place(context, job, error, None), _message(error))
    key, only, last = narrow
    names = [k.source for k in job.table.key]
    return BadRow(dict(zip(names, key, strict=True)), _place(context, job, last, only), _message(last))


def _message(error: psycopg.Error) -> str:
    message = (error.diag.message_primary or str(error)).strip()
    # The details of a unique or exclusion violation name the conflicting values; other details show the whole row.
    detail = error.diag.message_detail if error.sqlstate in ("23505", "23P01") else None
    return f"{message}: {detail}" if detail else message


def _place(context: Context, job: RunTable, error: psycopg.Error, span: KeyRange | None) -> str | None:
    name = error.diag.constraint_name
    if error.diag.column_name:
        return f"column {quoted(error.diag.column_name)}"
    columns = _constrained(context, job, name) if name else ()
    if not columns and span is not None:  # a domain's constraint is not the table's
        columns = _column(context, job, span)
    parts = [f"column {', '.join(map(quoted, columns))}"] if columns else []
    parts += [f"constraint {quoted(name)}"] if name else []
    return ", ".join(parts) or None


def _constrained(context: Context, job: RunTable, name: str) -> tuple[str, ...]:
    """The columns of a constraint or a unique index of the target table."""
    with context.target.rehearsal() as tx:
        rows = tx.pg.execute(load("bad_row.sql")["constrained"], {**asdict(job.table.target), "constraint": name})
        return tuple(column for (column,) in rows.fetchall())


def _fails(context: Context, job: RunTable, span: KeyRange) -> psycopg.Error | None:
    return repeated(partial(_tried, context, job, span))


def _tried(context: Context, job: RunTable, span: KeyRange) -> psycopg.Error | None:
    try:
        with trying(context.source, job) as source, context.target.rehearsal() as target:
            MOVERS[job.table.strategy].move(source, target, job, span)
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate[:2] not in ("22", "23"):
            raise
        return error
    return None


def _bisect(context: Context, job: RunTable, span: KeyRange) -> tuple[KeyValue, KeyRange, psycopg.Error] | None:
    failed = _fails(context, job, span)
    while failed is not None:
        middle = repeated(partial(_middle, context, job, span))
        if middle is None:
            with trying(context.source, job) as tx:
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


def _middle(context: Context, job: RunTable, span: KeyRange) -> KeyValue | None:
    with trying(context.source, job) as tx:
        return middle_key(tx, job, span)


def _only_key(tx: Transaction, job: RunTable, span: KeyRange) -> KeyValue | None:
    parts = job.table.source_key
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(p.name)) for p in parts)
    row = tx.pg.execute(
        sql.SQL("SELECT {} FROM {} WHERE {}").format(texts, job.source, predicate(parts, span))
    ).fetchone()
    return None if row is None else tuple(row)


def _column(context: Context, job: RunTable, span: KeyRange) -> tuple[str, ...]:
    """The column whose value the source cannot compute or the target's type rejects."""
    within = predicate(job.table.view_key, span)
    for p in job.table.columns:
        query = sql.SQL("SELECT ({})::text FROM {} WHERE {}").format(sql.Identifier(p.target), job.view, within)
        try:
            with trying(context.source, job) as tx:
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
            return (p.target,)
    return ()
