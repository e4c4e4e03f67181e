"""Copying by COPY: rows are streamed through this process, in binary format where the types allow it.

https://www.postgresql.org/docs/current/sql-copy.html
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.generators import fetch_many
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from confiture.copy.run_table import RunTable
from confiture.plan.keyset import predicate
from confiture.postgres.connection import Pg
from confiture.postgres.session import Transaction
from confiture.types import KeyRange

#: Bytes collected before they are written: writing row by row takes a third longer.
BATCH_BYTES = 256 * 1024


class Stream:
    """``COPY (SELECT ...) TO STDOUT`` into ``COPY ... FROM STDIN``, with bounded memory."""

    def move(
        self, source: Transaction, target: Transaction, job: RunTable, span: KeyRange, most: int | None = None
    ) -> int:
        """Stream the rows of ``span``; the number of rows that the target has inserted."""
        form = sql.SQL(job.table.format)
        out = sql.SQL("COPY (SELECT {} FROM {} WHERE {} LIMIT {}) TO STDOUT (FORMAT {})").format(
            job.columns, job.view, predicate(job.table.view_key, span), most, form
        )
        into = sql.SQL("COPY {} {} FROM STDIN (FORMAT {})").format(job.target, job.column_list, form)
        return pipe(source.pg, target.pg, out, into)


class _SourceFailed(Exception):
    """The source has ended its COPY with an error.

    :ivar error: that error; this one has no text of it.
    """

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__("the source has ended its COPY with an error")
        self.error = error


def pipe(source: Pg, target: Pg, out: sql.Composed, into: sql.Composed) -> int:
    """Stream one COPY into another with bounded memory; the number of rows that the target has inserted.

    The text of an error of the source, which may quote a value, does not reach the target: psycopg ends a COPY with the
    text of the exception, and the server writes it to its log.
    """
    writer = target.cursor()
    try:
        with source.cursor().copy(out), writer.copy(into) as writing:
            ended = False
            while not ended:
                batch, ended = _next_batch(source)
                writing.write(b"".join(batch))
    except _SourceFailed as failed:
        raise failed.error from None
    return writer.rowcount


def _next_batch(source: Pg) -> tuple[list[bytes], bool]:
    try:
        return source.wait(_batch(source.pgconn))
    except psycopg.Error as error:
        raise _SourceFailed(error) from None


@dataclass(slots=True)
class Received:
    """The rows and bytes received of a COPY that is read to time it."""

    rows: int = 0
    bytes: int = 0


def read(source: Pg, out: sql.Composed, received: Received, *, binary: bool) -> None:
    """Read a COPY and discard it. ``received`` counts while it is read, also when an error ends it.

    :param binary: whether the COPY ends with a message that is no row.
    :raises psycopg.Error: the error of the server, such as a timeout.
    """
    with source.cursor().copy(out):
        ended = False
        while not ended:
            batch, ended = source.wait(_batch(source.pgconn))
            received.rows += len(batch)
            received.bytes += sum(map(len, batch))
    received.rows -= binary


def _batch(pgconn: PGconn) -> PQGen[tuple[list[bytes], bool]]:
    """The next rows of a COPY, of about :data:`BATCH_BYTES`, and whether it has ended.

    ``Copy.read`` would begin and end a wait for each row, which costs more than the row itself.
    https://www.postgresql.org/docs/current/libpq-copy.html#LIBPQ-COPY-RECEIVE
    """
    batch: list[bytes] = []
    size = 0
    while size < BATCH_BYTES:
        length, data = pgconn.get_copy_data(1)
        if length > 0:
            # The garbage collector tracks a memoryview, but not bytes.
            batch.append(bytes(data))
            size += length
        elif length == 0:
            while not (yield Wait.R):
                pass
            pgconn.consume_input()
        else:
            (result,) = yield from fetch_many(pgconn)
            if result.status != ExecStatus.COMMAND_OK:
                raise psycopg.errors.error_from_result(result)
            return batch, True
    return batch, False
