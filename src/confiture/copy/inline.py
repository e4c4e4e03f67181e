"""Reading the rows of a table from a source in which nothing is created: from a standby, or with SELECT alone.

There is no view and no recorded fingerprint (docs/invariants.md, I-19.1). Each transaction is read-only and compares
the columns of the table with those that were planned, so that a table that was changed stops the copy instead of giving
other values. The description of a result has the columns as they are now, also in an old snapshot, in which a query of
the catalog would show them as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture.copy import hidden_text
from confiture.errors import Blocked
from confiture.postgres.connection import only_row
from confiture.postgres.session import Session, Transaction
from confiture.runner import context
from confiture.sql import load
from confiture.types import TableRef, quoted

#: The columns of a table by name: the OID of the table, the column's number, the OID of its type, its type modifier.
Shape = Mapping[str, str]

#: How a table is read again that was changed.
RESTART = "run the same command with --restart, which copies everything again"


@dataclass(frozen=True, slots=True)
class Inline:
    """How a source is read in which nothing is created. It can be pickled.

    :ivar shape: of the columns that are read, as planned.
    :ivar path: the search_path for SQL that the operator wrote; empty where there is none.
    :ivar also: further tables that the condition of the rows reads.
    :ivar snapshot: exported by the runner; None for a snapshot of each transaction's own.
    :ivar files: of the table when that snapshot was taken.
    :ivar prepare: called in each transaction before rows are read, a function of a module; None for nothing.
    :ivar masked: whether a SELECT of the run hides values, so that the text of no error may show them.
    """

    shape: Shape
    path: tuple[str, ...] = ()
    also: tuple[TableRef, ...] = ()
    snapshot: str | None = None
    files: tuple[int, ...] = ()
    prepare: Callable[[Transaction], None] | None = None
    masked: bool = False


@contextmanager
def reading(session: Session, how: Inline, table: TableRef, source: sql.Composable) -> Iterator[Transaction]:
    """A read-only transaction that reads a table's rows: lock, then snapshot, then the comparison of the columns.

    :param source: ``table``, with ONLY where its children are planned as separate tables.
    :raises Blocked: when the table was changed, or rewritten while a snapshot was held.
    :raises psycopg.Error: of the block, without its text where the SELECT hides values.
    """
    locked = sql.SQL(", ").join((source, *(ref.identifier for ref in how.also)))
    with ExitStack() as opened:
        if how.masked:
            opened.enter_context(hidden_text.hiding())
        # An error of the target, in the block, is no change of the source.
        with _naming_gone(table):
            begun = context.reading(session, locked, read_only=True, snapshot=how.snapshot)
            tx = opened.enter_context(begun)
            refuse_changed(tx, how, table)
        if how.path:
            path = sql.SQL(", ").join(map(sql.Identifier, how.path))
            tx.pg.execute(sql.SQL("SET LOCAL search_path = {}").format(path))
        if how.prepare is not None:
            how.prepare(tx)
        yield tx


@contextmanager
def _naming_gone(table: TableRef) -> Iterator[None]:
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName) as error:
        raise Blocked(
            f"source table {table} was changed while its rows were copied", why=_message(error), fix=RESTART
        ) from error
    except psycopg.errors.InvalidParameterValue as error:
        if "snapshot" not in _message(error):
            raise
        raise lost(error) from error
    except psycopg.errors.UndefinedObject as error:
        if "snapshot" not in _message(error):
            raise
        raise lost(error) from error


def lost(error: BaseException) -> Blocked:
    """The error of a snapshot that its session does not hold any more."""
    return Blocked(
        "the snapshot of the sync is lost",
        why=f"the session that held it has ended ({' '.join(str(error).split())})",
        fix="run the same command again: it takes a new snapshot and copies the tables again",
    )


def _message(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip()


def refuse_changed(tx: Transaction, how: Inline, table: TableRef) -> None:
    """Compare a table that is locked with what was planned.

    :raises Blocked: when it differs.
    """
    now = shape(tx, table)
    for name, was in how.shape.items():
        if now.get(name) != was:
            what = "was dropped or renamed" if name not in now else "is not the column that was planned"
            raise Blocked(
                f"source table {table} was changed since it was planned",
                why=f"column {quoted(name)} {what}",
                fix=RESTART,
            )
    if how.snapshot is not None and files(tx, table) != how.files:
        raise Blocked(
            f"source table {table} was rewritten while the sync held its snapshot",
            why="a TRUNCATE, a VACUUM FULL, an ALTER TABLE or a partition: the snapshot would see the table as empty",
            fix="run the same command again: it takes a new snapshot and copies the tables again",
        )


def shape(tx: Transaction, table: TableRef) -> dict[str, str]:
    """The columns of a table as they are now."""
    result = tx.pg.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table.identifier)).pgresult
    if result is None:
        return {}
    encoding = tx.pg.info.encoding
    return {
        (result.fname(n) or b"").decode(encoding): (
            f"{result.ftable(n)} {result.ftablecol(n)} {result.ftype(n)} {result.fmod(n)}"
        )
        for n in range(result.nfields)
    }


def files(tx: Transaction, table: TableRef) -> tuple[int, ...]:
    """The files of a table and its partitions as they are now, also in an old snapshot."""
    query = load("inline.sql")["files"]
    return tuple(only_row(tx.pg.execute(query, {"table": table.identifier.as_string()}))[0])
