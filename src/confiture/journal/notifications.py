"""The announcements of the events of a run: each event at most once for each receiver (docs/invariants.md, I-12.1).

The key of ``notification`` is the guarantee, not the fence: no statement here locks the row of the run, so that a
connection that freezes does not delay the run.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from confiture.journal import runs
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import Json

_SQL = "notifications.sql"
#: The kind of the event that records that a notification was not delivered.
FAILED = "notification failed"


@dataclass(frozen=True, slots=True)
class DueEvent:
    """An event that a receiver has not been sent."""

    id: int
    kind: str
    at: datetime
    detail: Json


def register(tx: Transaction, run_id: uuid.UUID, epoch: int, names: Sequence[str]) -> None:
    """Record the receivers of a run; idempotent. A new one is sent the events of this runner and of later ones.

    :param epoch: of this runner.
    """
    tx.pg.execute(load(_SQL)["register"], {"run": run_id, "epoch": epoch, "names": list(names)})


def due(tx: Transaction, run_id: uuid.UUID, receiver: str, kinds: Sequence[str], age: float) -> list[DueEvent]:
    """The events that a receiver is still to be sent, the oldest first.

    :param age: seconds after which an event is not sent any more, by the clock of the server.
    """
    values = {"run": run_id, "name": receiver, "kinds": list(kinds), "age": age}
    with tx.pg.cursor(row_factory=class_row(DueEvent)) as cursor:
        return cursor.execute(load(_SQL)["due"], values).fetchall()


def claim(tx: Transaction, run_id: uuid.UUID, receiver: str, event: int) -> bool:
    """Whether this process is the one that sends the event to the receiver; it may send it when this is durable."""
    values = {"run": run_id, "name": receiver, "event": event}
    return tx.pg.execute(load(_SQL)["claim"], values).fetchone() is not None


def close(
    tx: Transaction, run_id: uuid.UUID, epoch: int, receiver: str, event: int, attempts: int, reason: str | None
) -> None:
    """Record the outcome of a notification.

    :param reason: why it was not delivered; None when it was.
    """
    status = "sent" if reason is None else "failed"
    values = {"run": run_id, "name": receiver, "event": event, "status": status, "attempts": attempts}
    tx.pg.execute(load(_SQL)["close"], {**values, "reason": reason})
    if reason is not None:
        runs.note(tx, run_id, epoch, FAILED, {"receiver": receiver, "reason": reason, "attempts": attempts})
