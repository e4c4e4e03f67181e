"""Samples of a run over time: taken by its runner, thinned out later."""

from __future__ import annotations

import uuid

from confiture.postgres.session import Transaction
from confiture.sql import load

#: Limits of a sample's statements, by the server.
TIMEOUTS = "SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '2s'"


def take(tx: Transaction, run_id: uuid.UUID, epoch: int) -> None:
    """Add a sample, unless another runner holds the run or has taken one within the last second."""
    tx.pg.execute(TIMEOUTS)
    tx.pg.execute(load("sample.sql")["take"], {"run": run_id, "epoch": epoch})


def thin(tx: Transaction, run_id: uuid.UUID) -> None:
    """Remove most of the samples that are older than an hour: a run of a month keeps less than 10,000."""
    tx.pg.execute(TIMEOUTS)
    tx.pg.execute(load("sample.sql")["thin"], {"run": run_id})
