"""Finding the text that has no form in the encoding of the other side, and the row that it is in.

A database in SQL_ASCII holds any bytes, and another encoding may lack a character. The server's error shows the bytes
only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture.copy.run_table import RunTable
from confiture.errors import DataFailure
from confiture.postgres.connection import only_row
from confiture.postgres.retry import repeated
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import yielding
from confiture.sql import load, template
from confiture.types import named_key, quoted

#: The errors of a text: its bytes are none in its own encoding, or the other encoding lacks a character.
BadText = (psycopg.errors.CharacterNotInRepertoire, psycopg.errors.UntranslatableCharacter)


@dataclass(frozen=True, slots=True)
class Found:
    """A text that cannot be converted.

    :ivar key: the row's key by source column, as text; a part that is no text itself is shown as bytes. Empty without
        a key.
    :ivar column: the target column.
    :ivar encoding: of the database that the row is in.
    :ivar source: the source column, if the text is its plain value; None for a transform, and for a part of the key.
    """

    key: dict[str, str]
    column: str
    encoding: str
    source: str | None

    @property
    def fix(self) -> str:
        """How to proceed."""
        if self.encoding != "SQL_ASCII" or self.source is None:
            return "fix the row on the source or the mapping"
        name = quoted(self.source)
        return (
            "fix the row on the source; or if every row has its text in one encoding, such as LATIN1, convert it in the"
            f" mapping: transform: convert_from(convert(convert_to({name}, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'UTF8')"
        )

    def failure(self, job: RunTable, error: psycopg.Error) -> DataFailure:
        """The error that names the row."""
        return DataFailure(
            f"a row of {job.table.source} does not fit into {job.table.target}: {named_key(self.key)},"
            f" column {quoted(self.column)}",
            why=(error.diag.message_primary or str(error)).strip(),
            fix=f"{self.fix}; then run the same command again",
        )


@contextmanager
def naming(source: Session, target: Session, job: RunTable) -> Iterator[None]:
    """Raise an error of a text inside the block with its table, key and column.

    :raises DataFailure: naming the first row of the table with such a text; the server's error where there is none.
    """
    try:
        yield
    except BadText as error:
        found = look(source, target, job)
        if found is not None:
            raise found.failure(job, error) from error
        raise


def look(
    source: Session,
    target: Session,
    job: RunTable,
    *,
    joined: sql.Composed | None = None,
    condition: sql.Composed | None = None,
) -> Found | None:
    """The first row with a text that the other side cannot hold; None if there is none, or the view fails for it.

    None too for a source in which nothing is created: the search creates a function of its session there.

    :param joined: a relation, with the condition of its join to the view ``v``; only such rows are looked at.
    :param condition: on the columns of the view; only such rows are looked at.
    """
    if job.inline is not None:
        return None
    encoding = encoding_of(target)

    def read() -> Found | None:
        with yielding(source), source.rehearsal() as tx:
            return in_view(tx, job, encoding, joined=joined, condition=condition)

    try:
        return repeated(read)
    except psycopg.DataError:
        return None  # an expression of the view fails for the row itself


def encoding_of(session: Session) -> str:
    """The encoding of the session's database."""
    with session.transaction(read_only=True) as tx:
        return str(only_row(tx.pg.execute("SELECT getdatabaseencoding()"))[0])


def in_view(
    tx: Transaction,
    job: RunTable,
    encoding: str,
    *,
    joined: sql.Composed | None = None,
    condition: sql.Composed | None = None,
) -> Found | None:
    """As :func:`look`, in a transaction that may write."""
    columns = {p.target: sql.Identifier("v", p.target) for p in job.table.columns if p.canon in ("text", "collated")}
    if not columns:
        return None
    prepare(tx)
    keys = [shown(sql.Identifier("v", k.name), encoding) for k in job.table.view_key]
    cases = [
        sql.SQL("WHEN NOT {} THEN {}").format(fits(value, encoding), sql.Literal(column))
        for column, value in columns.items()
    ]
    query = template("bad_text.sql", "first").format(
        keys=sql.SQL(", ").join(keys),
        columns=sql.SQL(" ").join(cases),
        view=job.view,
        joined=joined or sql.SQL(""),
        condition=condition or sql.SQL("true"),
        fits=sql.SQL(" AND ").join(fits(value, encoding) for value in columns.values()),
    )
    row = tx.pg.execute(query).fetchone()
    if row is None:
        return None
    values, column, own = row
    key = dict(zip((k.source for k in job.table.key), values, strict=True))
    source = next(p.source for p in job.table.columns if p.target == column)
    return Found(key, column, own, None if source in key else source)


def prepare(tx: Transaction) -> None:
    """Create the session's function that :func:`fits` calls."""
    tx.pg.execute(load("bad_text.sql")["function"])


def fits(value: sql.Composable, encoding: str) -> sql.Composed:
    """The condition that a value has a form in the encoding; NULL has one."""
    test = sql.SQL("({0} IS NULL OR pg_temp.confiture_fits({0}::text, {1}))")
    return test.format(value, sql.Literal(encoding))


def shown(value: sql.Composable, encoding: str) -> sql.Composed:
    """A value as text, or as bytes if its text has no form in the encoding."""
    return template("bad_text.sql", "shown").format(value=value, encoding=sql.Literal(encoding))
