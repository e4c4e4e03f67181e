"""Copying by COPY: rows are streamed through this process, in binary format where the types allow it.

https://www.postgresql.org/docs/current/sql-copy.html
"""

from __future__ import annotations

from psycopg import sql

from confiture.copy.run_table import RunTable
from confiture.plan.keyset import predicate
from confiture.postgres.session import Transaction
from confiture.types import KeyRange

#: Bytes collected before they are written: writing row by row takes a third longer.
BATCH_BYTES = 256 * 1024


class Stream:
    """``COPY (SELECT ...) TO STDOUT`` into ``COPY ... FROM STDIN``, with bounded memory."""

    def move(self, source: Transaction, target: Transaction, job: RunTable, span: KeyRange) -> int:
        """Stream the rows of ``span``; the number of rows that the target has inserted."""
        form = sql.SQL(job.table.format)
        out = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT {})").format(
            job.columns, job.view, predicate(job.table.view_key, span), form
        )
        into = sql.SQL("COPY {} {} FROM STDIN (FORMAT {})").format(job.target, job.column_list, form)
        return pipe(source, target, out, into)


def pipe(source: Transaction, target: Transaction, out: sql.Composed, into: sql.Composed) -> int:
    """Stream one COPY into another with bounded memory; the number of rows that the target has inserted."""
    writer = target.pg.cursor()
    with source.pg.cursor().copy(out) as reading, writer.copy(into) as writing:
        batch: list[bytes] = []
        size = 0
        for data in reading:
            batch.append(bytes(data))
            size += len(data)
            if size >= BATCH_BYTES:
                writing.write(b"".join(batch))
                batch, size = [], 0
        writing.write(b"".join(batch))
    return writer.rowcount
