"""One planned table of a run: the names of its view, its columns, its source and its target.

A run that may create nothing on the source has no view there: it reads the SELECT of the view itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from psycopg import sql

from confiture import fingerprint
from confiture.copy import inline
from confiture.copy.inline import Inline
from confiture.plan.model import TablePlan
from confiture.plan.projection import view_select
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import yielding
from confiture.runner import context
from confiture.types import KeyRange


@dataclass(frozen=True, slots=True)
class RunTable:
    """One planned table of one run.

    :ivar schema: the run's own, on both sides.
    :ivar side: where its rows are read: ``source``, or ``target`` when changes are applied in reverse.
    :ivar inline: how they are read from a source in which nothing is created; None where there is a view.
    """

    table: TablePlan
    schema: str
    side: Literal["source", "target"] = "source"
    inline: Inline | None = None

    @property
    def view(self) -> sql.Composable:
        """The view on the source, and the foreign table of the same name on the target; inline, its SELECT."""
        if self.inline is None:
            return sql.Identifier(self.schema, self.table.view)
        t = self.table
        return sql.SQL("({}) AS v").format(view_select(t.source, t.only, t.keys_beside, t.columns, t.where))

    @property
    def target(self) -> sql.Identifier:
        """The table that gets the rows."""
        return self.table.target.identifier

    @property
    def target_rows(self) -> sql.Composed:
        """The same without the rows of inheritance children that are separate tables: for reading and deleting."""
        only = sql.SQL("ONLY " if self.table.target_only else "")
        return only + self.target

    @property
    def source(self) -> sql.Composed:
        """The table that the rows are read from, with ONLY where its children are planned as separate tables."""
        only = sql.SQL("ONLY " if self.table.only else "")
        return only + self.table.source.identifier

    @property
    def columns(self) -> sql.Composed:
        """The filled columns, separated by commas; empty for a table without columns."""
        return sql.SQL(", ").join(sql.Identifier(p.target) for p in self.table.columns)

    @property
    def column_list(self) -> sql.Composed:
        """The filled columns in parentheses; nothing for a table without columns."""
        return sql.SQL("({})").format(self.columns) if self.table.columns else sql.Composed([])


@contextmanager
def reading(session: Session, job: RunTable) -> Iterator[Transaction]:
    """A transaction that reads a table's rows: lock, then snapshot, then fingerprint (docs/invariants.md, I-2.1).

    Inline, the transaction is read-only, and the table's columns are compared with those that were planned.

    :raises Blocked: when the table, or an object that its rows depend on, was changed since it was planned.
    """
    if job.inline is not None:
        with inline.reading(session, job.inline, job.table.source, job.source) as tx:
            yield tx
        return
    tables = [job.table.source]
    with fingerprint.naming_gone(session, job.schema, job.side, tables), context.reading(session, job.source) as tx:
        fingerprint.refuse_unreadable(tx, job.schema, job.side, tables)
        yield tx


@contextmanager
def trying(session: Session, job: RunTable) -> Iterator[Transaction]:
    """A transaction on the source that looks for the row that a copy failed on; it is rolled back where it may write.

    :raises Blocked: as :func:`reading`, inline.
    """
    if job.inline is not None:
        with reading(session, job) as tx:
            yield tx
    else:
        with yielding(session), session.rehearsal() as tx:
            yield tx


class Copier(Protocol):
    """A way of copying one range."""

    def move(
        self, source: Transaction, target: Transaction, job: RunTable, span: KeyRange, most: int | None = None
    ) -> int:
        """Insert the rows of ``span`` within the caller's two transactions; the number of rows.

        Nothing is committed here: the caller commits the rows with their checkpoint.

        :param most: insert no more rows; None for all of them.
        :raises psycopg.Error: the error of either server.
        """
        ...
