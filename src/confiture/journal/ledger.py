"""The ledger of incremental migrations: the last execution of each one, and the progress of its statements.

The rows of a transactional migration commit with its statements. Of any other, each statement's row commits before and
after it, or with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from psycopg.rows import class_row

from confiture import __version__
from confiture.incremental.model import Direction, Entry, Migration, Progress
from confiture.journal import runs
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.sql import load

_SQL = load("ledger.sql")


def entries(tx: Transaction) -> tuple[Entry, ...]:
    """The last execution of each migration by version; empty in a database without a ledger."""
    if not only_row(tx.pg.execute(_SQL["exists"]))[0]:
        return ()
    rows = tx.pg.execute(_SQL["entries"]).fetchall()
    return tuple(Entry(version, name, Direction(direction), *more) for version, name, direction, *more in rows)


def entry(tx: Transaction, version: int) -> Entry | None:
    """The last execution of a migration; None when there was none."""
    return next((found for found in entries(tx) if found.version == version), None)


def progress(tx: Transaction, version: int) -> tuple[Progress, ...]:
    """The statements of a migration's last execution that were begun, in their order."""
    with tx.pg.cursor(row_factory=class_row(Progress)) as cursor:
        return tuple(cursor.execute(_SQL["progress"], {"version": version}).fetchall())


def begin(
    tx: Transaction, migration: Migration, direction: Direction, run_id: uuid.UUID, *, out_of_order: bool
) -> None:
    """Record that the file of a direction begins to run; the progress of an earlier execution is discarded."""
    tx.pg.execute(
        _SQL["begin"], _facts(migration, run_id) | {"direction": str(direction), "out_of_order": out_of_order}
    )


def resume(tx: Transaction, migration: Migration, run_id: uuid.UUID) -> None:
    """Record the run that continues an execution, and the files as they are now."""
    tx.pg.execute(_SQL["continue"], _facts(migration, run_id))


def _facts(migration: Migration, run_id: uuid.UUID) -> dict[str, object]:
    return {
        "version": migration.version,
        "name": migration.name,
        "up": migration.up.checksum,
        "down": migration.down.checksum if migration.down is not None else None,
        "run": run_id,
        "actor": runs.actor(),
        "tool": __version__,
    }


def finish(tx: Transaction, version: int) -> None:
    """Record that every statement of the execution is done."""
    tx.pg.execute(_SQL["finish"], {"version": version})


def record(tx: Transaction, migrations: Sequence[Migration], run_id: uuid.UUID) -> None:
    """Record migrations as applied without running them."""
    for migration in migrations:
        tx.pg.execute(_SQL["record"], _facts(migration, run_id))


def discard(tx: Transaction, versions: Sequence[int]) -> None:
    """Remove migrations that have no file any more."""
    for version in versions:
        tx.pg.execute(_SQL["discard"], {"version": version})


def statement_begun(tx: Transaction, version: int, number: int, digest: str) -> None:
    """Record that a statement begins to run outside a transaction."""
    tx.pg.execute(_SQL["statement_begun"], {"version": version, "number": number, "digest": digest})


def statement_done(
    tx: Transaction, version: int, number: int, digest: str, seconds: float | None, resolution: str | None = None
) -> None:
    """Record that a statement is done.

    :param seconds: None when it is not known.
    :param resolution: how it was found out after a crash that it is done; None when it ran to its end.
    """
    values = {"version": version, "number": number, "digest": digest, "seconds": seconds, "resolution": resolution}
    tx.pg.execute(_SQL["statement_done"], values)


def statement_failed(tx: Transaction, version: int, number: int) -> None:
    """Discard the beginning of a statement that has certainly had no effect."""
    tx.pg.execute(_SQL["statement_failed"], {"version": version, "number": number})
