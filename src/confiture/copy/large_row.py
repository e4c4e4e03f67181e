"""Rows that are too large to be transferred: a server builds each row, and each value as text, in at most 1 GB.

https://www.postgresql.org/docs/current/limits.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture.copy.run_table import RunTable, trying
from confiture.errors import DataFailure
from confiture.plan.model import TablePlan
from confiture.plan.projection import Projected
from confiture.postgres.retry import repeated
from confiture.postgres.session import Session, Transaction
from confiture.sql import template
from confiture.types import named_key, quoted

#: Bytes of the largest row, and of the largest text of a value (MaxAllocSize).
BYTES_MOST = 2**30 - 1
#: How to proceed.
FIX = "shorten the value on the source, or leave the row out with $where"

#: Wire types whose text has as many bytes as the value.
_TEXTS = {"text", "character varying", "bpchar", "json", "xml"}


def is_too_large(error: psycopg.Error) -> bool:
    """Whether a row or a value exceeded the largest piece of memory that a server allocates.

    The server has two errors for it. The message of an internal error is not translated.
    """
    if isinstance(error, psycopg.errors.ProgramLimitExceeded):
        return True
    return isinstance(error, psycopg.errors.InternalError_) and "invalid memory alloc request size" in str(error)


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest row of some.

    :ivar key: by source column, as text; empty without a key.
    :ivar size: of the row in bytes, as it is transferred; ``column``: its largest value, ``column_size``: its bytes.
    """

    key: dict[str, str]
    size: int
    column: str
    column_size: int

    @property
    def place(self) -> str:
        """The column with its size."""
        return f"column {quoted(self.column)} ({self.column_size:,} bytes)"

    def failure(self, table: TablePlan, error: psycopg.Error) -> DataFailure:
        """The error that names the row."""
        return DataFailure(
            f"a row of {table.source} is too large to be transferred: {named_key(self.key)}, {self.place}",
            why=(error.diag.message_primary or str(error)).strip(),
            fix=f"{FIX}; then run the same command again",
        )


@contextmanager
def naming(source: Session, job: RunTable) -> Iterator[None]:
    """Raise an error of a row that is too large with its table, key and column.

    :raises DataFailure: naming the largest row of the table.
    """
    try:
        yield
    except psycopg.Error as error:
        found = look(source, job) if is_too_large(error) else None
        if found is not None:
            raise found.failure(job.table, error) from error
        raise


def look(
    source: Session, job: RunTable, *, joined: sql.Composed | None = None, condition: sql.Composed | None = None
) -> Largest | None:
    """The largest row of the run's view; None if there is no row, or an expression of the view fails.

    :param joined: a relation, with the condition of its join to the view ``v``; only such rows are looked at.
    :param condition: on the columns of the view; only such rows are looked at.
    """

    def read() -> Largest | None:
        with trying(source, job) as tx:
            return largest(tx, job.table, job.view, joined=joined, condition=condition)

    try:
        return repeated(read)
    except (psycopg.DataError, psycopg.InternalError, psycopg.OperationalError):
        return None


def largest(
    tx: Transaction,
    table: TablePlan,
    rows: sql.Composable,
    *,
    joined: sql.Composed | None = None,
    condition: sql.Composed | None = None,
) -> Largest | None:
    """The largest of some rows, which have the columns of the table's view; None if there is none.

    :param rows: the view, or its SELECT in parentheses.
    """
    if not table.columns:
        return None
    query = template("large_row.sql", "largest").format(
        keys=sql.SQL(", ").join(sql.SQL("v.{}::text").format(sql.Identifier(k.name)) for k in table.view_key),
        sizes=sql.SQL(", ").join(_size(p, table.format) for p in table.columns),
        rows=rows,
        joined=joined or sql.SQL(""),
        condition=condition or sql.SQL("true"),
    )
    row = tx.pg.execute(query).fetchone()
    if row is None:
        return None
    keys, sizes = row
    size, column = max(zip(sizes, (p.target for p in table.columns), strict=True))
    return Largest(dict(zip((k.source for k in table.key), keys, strict=True)), sum(sizes), column, size)


def _size(p: Projected, form: str) -> sql.Composed:
    """The bytes of a value. Those of other types than texts and bytea are the least that it may have."""
    if p.wire == "bytea":
        length = "octet_length(v.{})" if form == "binary" else "2 + 2 * octet_length(v.{})::bigint"
    elif p.wire in _TEXTS and p.cast_in is None:
        length = "octet_length(v.{}::text)"
    else:
        length = "pg_column_size(v.{})"
    return sql.SQL("coalesce({}, 0)").format(sql.SQL(length).format(sql.Identifier(p.target)))
