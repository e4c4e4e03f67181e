"""Approvals of a cutover: by a role that does not run the migration, for one plan and one verification."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from confiture.errors import Refused
from confiture.journal import runs, viewed
from confiture.journal.model import Run
from confiture.naming import Naming
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.types import quoted

#: The event that makes an approval a condition of the cutover. The history is append-only, so that it stays.
REQUIRED = "approval required"


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval as the server knows it.

    :ivar role: that approved, as the server reports it.
    :ivar void: why it is no longer valid; None while it is.
    """

    role: str
    at: datetime
    note: str | None
    plan_hash: str
    verification: int
    void: str | None


def require(tx: Transaction, run: Run) -> None:
    """Make an approval a condition of the run's cutover, in the caller's transaction; nothing if it is one already."""
    if not is_required(tx, run.id):
        runs.note(tx, run.id, run.epoch, REQUIRED)


def is_required(tx: Transaction, run_id: uuid.UUID) -> bool:
    """Whether the cutover of the run needs an approval."""
    found = only_row(tx.pg.execute(viewed.statements(tx, "approval.sql")["required"], {"run": run_id}))
    return bool(found[0])


def standing(tx: Transaction, run_id: uuid.UUID) -> Approval | None:
    """The newest valid approval, else the newest that is void; None before the first."""
    with tx.pg.cursor(row_factory=class_row(Approval)) as cursor:
        return cursor.execute(viewed.statements(tx, "approval.sql")["standing"], {"run": run_id}).fetchone()


def record(tx: Transaction, run: Run, verification: int, note: str | None) -> str:
    """Approve the run as the role of the session, which is returned; durable with the caller's transaction.

    :raises Refused: when this role has run the migration.
    """
    statements = viewed.statements(tx, "approval.sql")
    role, runs_it = only_row(tx.pg.execute(statements["runs_it"], {"run": run.id}))
    if runs_it:
        raise Refused(
            f"role {quoted(role)} may not approve the run",
            why="it has run the migration, and an approval comes from another role",
            fix="approve as another role, which confiture grants --operator ROLE permits to do so",
        )
    values = {"plan_hash": run.plan_hash, "verification": verification, "note": note}
    tx.pg.execute(statements["record"], {"run": run.id, "actor": runs.actor(), **values})
    runs.note(tx, run.id, run.epoch, "approved", {"plan": run.plan_hash, "verification": verification, "note": note})
    return str(role)


def is_lacking(tx: Transaction, run: Run, *, always: bool) -> bool:
    """Whether the cutover of the run needs an approval and has none that is valid.

    :param always: whether the environment requires it, also of a run that began without the requirement.
    """
    if not always and not is_required(tx, run.id):
        return False
    found = standing(tx, run.id)
    return found is None or found.void is not None


def refuse_unapproved(tx: Transaction, run: Run, *, always: bool) -> None:
    """Refuse a cutover that needs an approval and has none that is valid.

    :param always: as in :func:`is_lacking`.
    :raises Refused: naming the command that approves.
    """
    if not is_lacking(tx, run, always=always):
        return
    found = standing(tx, run.id)
    why = "this run requires an approval, and it has none"
    if found is not None:
        why = f"the approval of role {quoted(found.role)} of {found.at:%Y-%m-%d %H:%M}Z is void: {found.void}"
    raise Refused(
        "the cutover is not approved",
        why=why,
        fix=f"as a role that has not run the migration: {Naming(run.target_name).command('approve')}",
    )
