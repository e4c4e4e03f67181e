"""``approve``: the approval of a cutover by a role that does not run the migration."""

from __future__ import annotations

from contextlib import suppress

import psycopg
from psycopg import IsolationLevel

from confiture.commands.databases import find_run, target_of
from confiture.commands.endpoints import Endpoints
from confiture.commands.requests import for_operators
from confiture.errors import ConfitureError, Refused
from confiture.journal import approvals, runs, verifications
from confiture.journal.approvals import Approval
from confiture.journal.model import Run, Verification
from confiture.postgres.session import Session, Transaction
from confiture.states import VERIFIED


def execute(where: Endpoints, note: str | None) -> tuple[Run, Approval]:
    """Approve the run of a target as it is now: its plan and its last verification.

    The approval is durable when the command returns. It is void from the moment in which the run is planned again or a
    difference is found.

    :raises Refused: when the run is not verified, or the role of this session has run the migration.
    """
    target = target_of(where)
    run = find_run(target)
    with (
        for_operators(where, "approve"),
        Session(target, "request", run.short) as session,
        session.transaction(isolation=IsolationLevel.REPEATABLE_READ) as tx,
    ):
        now = runs.latest(tx) or run
        last = _refuse_unverified(tx, now, where)
        role = approvals.record(tx, now, last.number, note)
        found = approvals.standing(tx, now.id)
        assert found is not None
        assert found.role == role
        return now, found


def next_step(where: Endpoints, run: Run) -> str | None:
    """``approve`` for a verified run whose cutover lacks its approval; None where the state determines the step.

    It is also None where the target cannot be asked: the work that was done before is not a failure then.
    """
    if run.state != VERIFIED:
        return None
    target = target_of(where)
    with (
        suppress(psycopg.Error, ConfitureError),
        Session(target, "request", run.short) as session,
        session.transaction(read_only=True) as tx,
    ):
        return "approve" if approvals.is_lacking(tx, run, always=target.require_approval) else None
    return None


def _refuse_unverified(tx: Transaction, run: Run, where: Endpoints) -> Verification:
    """The verification that is approved.

    :raises Refused: when there is none without differences.
    """
    last = verifications.latest(tx, run.id, "verify")
    if run.state != VERIFIED or last is None or last.verdict != "equal" or last.plan_hash != run.plan_hash:
        raise Refused(
            f"the run is in state {run.state}, and there is nothing to approve"
            if run.state != VERIFIED
            else "the last verification is not finished, or not of the present plan",
            why="an approval is for a plan and a verification without differences",
            fix=f"after {where.naming.command('verify')}, approve the run",
        )
    return last
