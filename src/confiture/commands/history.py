"""``history``: who did what when in the runs of a target."""

from __future__ import annotations

from psycopg import IsolationLevel
from psycopg.rows import class_row, dict_row

from confiture.commands.databases import no_database, no_run, target_of
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.errors import CannotConnect
from confiture.journal import schema, viewed
from confiture.journal.model import Entry, RunHistory
from confiture.postgres.session import Session, Transaction
from confiture.schema_to_schema import setup


def read(where: Endpoints, *, every: bool = False) -> list[RunHistory]:
    """The history of the last run of a target, from one snapshot; nothing is changed, and no row is locked.

    :param every: of all its runs, the oldest first.
    :raises Refused: when the target has no run, or its journal is newer than this version of Confiture.
    """
    target = target_of(where)
    with translated("history"), Session(target, "history") as session:
        try:
            with session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx:
                have = schema.version(tx)
                schema.refuse_newer(have)
                found = _histories(tx, every=every) if have else []
        except CannotConnect:
            if setup.database_exists(target):
                raise
            raise no_database(target) from None
    if not found:
        raise no_run(target)
    return found


def _histories(tx: Transaction, *, every: bool) -> list[RunHistory]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        runs = cursor.execute(viewed.statements(tx, "history.sql")["runs"]).fetchall()
    found = []
    for run in reversed(runs if every else runs[:1]):
        with tx.pg.cursor(row_factory=class_row(Entry)) as cursor:
            entries = cursor.execute(viewed.statements(tx, "history.sql")["events"], {"run": run["id"]}).fetchall()
        names = run["source_name"], run["target_name"]
        short = run["id"].hex[:8]
        found.append(RunHistory(short, run["medium"], run["state"], *names, run["started_at"], tuple(entries)))
    return found
