"""Read how far a run with a recorded forecast has come, for ``status`` and for the runner."""

from __future__ import annotations

import uuid

from psycopg.rows import dict_row

from confiture.journal import viewed
from confiture.journal.disk import Grown
from confiture.postgres import free_disk
from confiture.postgres.session import Transaction


def grown(tx: Transaction, run_id: uuid.UUID) -> Grown | None:
    """How far the run has come; None for a run without a recorded forecast."""
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(viewed.statements(tx, "forecast.sql")["grown"], {"run": run_id}).fetchone()
    return None if row is None else Grown(**row)


def free_bytes(tx: Transaction) -> int | None:
    """The free space of the target's disk now; None if it cannot be measured."""
    found = free_disk.of(tx)
    return None if found is None else found.bytes
