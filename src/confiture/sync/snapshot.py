"""One exported snapshot for a whole sync, and what it delays on the source.

https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import IsolationLevel, sql

from confiture.copy import inline
from confiture.errors import CannotConnect
from confiture.postgres.connection import only_row
from confiture.postgres.session import Session, Transaction
from confiture.runner.context import Context
from confiture.sql import load
from confiture.sync.tables import Snapshot
from confiture.types import TableRef, duration

#: Seconds between two reports of the age of the snapshot.
REPORT_SECONDS = 60.0
#: The effect of a snapshot on the source, in one sentence for the operator.
DELAYS = (
    "while the snapshot is held, VACUUM on the source cannot remove rows that are deleted or updated, and CREATE INDEX"
    " CONCURRENTLY waits for it"
)
#: The same for a standby.
OF_STANDBY = "on a standby, replay may cancel it after max_standby_streaming_delay, unless hot_standby_feedback is on"


@contextmanager
def held(context: Context, tables: Iterable[TableRef]) -> Iterator[tuple[Snapshot, Age]]:
    """Hold a snapshot of the source for the block, in a session of its own that a takeover ends.

    The tables are locked only while the snapshot is taken: an ALTER TABLE of the application does not wait for the
    sync, and a table that it rewrites is known by its files.
    """
    refs = list(tables)
    with context.beside("snapshot") as session:
        begun = session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True)
        with begun as tx:
            files = _files(tx, refs)
            name = str(only_row(tx.pg.execute("SELECT pg_export_snapshot()"))[0])
            yield Snapshot(name, files), Age(context, session, tx)


def _files(tx: Transaction, refs: list[TableRef]) -> dict[TableRef, tuple[int, ...]]:
    """The files of the tables when the snapshot was taken. The rollback to the savepoint releases the locks."""
    if not refs:
        return {}
    with tx.pg.transaction(force_rollback=True):
        names = sql.SQL(", ").join(ref.identifier for ref in refs)
        tx.pg.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
        return {ref: inline.files(tx, ref) for ref in refs}


class Age:
    """Reports how old the snapshot is while rows are copied, as the log of a copy that has none.

    :param tx: that holds the snapshot.
    """

    def __init__(self, context: Context, session: Session, tx: Transaction) -> None:
        self._context, self._session, self._tx = context, session, tx
        self._since = self._reported = time.monotonic()
        standby = only_row(tx.pg.execute("SELECT pg_is_in_recovery()"))[0]
        context.progress.say(f"one snapshot for all tables: {DELAYS}{f'; {OF_STANDBY}' if standby else ''}")

    @property
    def seconds(self) -> float:
        """Since the snapshot was taken."""
        return time.monotonic() - self._since

    def waiting(self) -> int:
        """No log row: nothing is captured."""
        return 0

    def now(self) -> None:
        """Nothing."""

    def next_table(self) -> None:
        """Nothing."""

    def between_chunks(self) -> None:
        """Report the age if the last report is old."""
        self.meanwhile()

    def meanwhile(self) -> None:
        """Report the age if the last report is old.

        :raises Blocked: when the session that holds the snapshot has ended.
        """
        if time.monotonic() - self._reported < REPORT_SECONDS:
            return
        self._reported = time.monotonic()
        self._context.progress.say(
            f"the snapshot is {duration(self.seconds)} old: {self.transactions():,} transactions"
        )

    def transactions(self) -> int:
        """How many transactions have begun since the snapshot was taken.

        :raises Blocked: when the session that holds it has ended.
        """
        try:
            return int(only_row(self._tx.pg.execute(load("sync.sql")["snapshot_age"]))[0])
        except (psycopg.Error, CannotConnect) as error:
            raise inline.lost(error) from error
