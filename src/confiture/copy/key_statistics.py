"""Bounds of chunks from the statistics of a key, which cost no look at the rows.

Scanning the index of the key for each bound takes a twentieth of the time of the copy, or more. Bounds need not be
exact: any keys in order divide a table completely.
https://www.postgresql.org/docs/current/view-pg-stats.html
"""

from __future__ import annotations

from psycopg import sql

from confiture.copy.run_table import RunTable
from confiture.plan.keyset import typed
from confiture.postgres.session import Transaction
from confiture.sql import template
from confiture.types import KeyValue


def bounds(tx: Transaction, job: RunTable, cursor: KeyValue | None, rows: int, count: int) -> list[KeyValue]:
    """The first keys of the next chunks, as far as the statistics divide the table finely enough.

    :param cursor: the first key of the chunk before the first of them; None for the beginning of the table.
    :param rows: of each chunk; a chunk has about half as many at least, and twice as many at most, as long as the
        statistics are right.
    :param count: the most bounds.
    """
    if len(job.table.source_key) != 1 or job.table.estimate <= rows:
        return []
    (part,) = job.table.source_key
    column = sql.SQL("b.bound")
    query = template("key_statistics.sql", "histogram").format(
        type=sql.SQL(part.type),
        table=sql.Literal(job.table.source.identifier.as_string()),
        column=sql.Literal(part.name),
        only=sql.Literal(job.table.only),
        after=sql.SQL("true") if cursor is None else column + sql.SQL(" > ") + typed(cursor[0], part.type),
    )
    found = tx.pg.execute(query).fetchall()
    if not found:
        return []
    step = round(rows * found[0][0] / max(job.table.estimate, 1))
    return [(bound,) for _, bound in found[step - 1 :: step][:count]] if step else []
