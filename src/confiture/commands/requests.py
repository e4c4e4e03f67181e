"""``pause``, ``resume`` and ``throttle``: requests to the runner of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import psycopg

from confiture.commands.databases import find_run, target_of
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.config import Database
from confiture.copy.throttle import Throttle
from confiture.copy.throttle import from_json as throttle_from_json
from confiture.errors import Refused, UsageError
from confiture.journal import leases, runs
from confiture.journal.model import Run
from confiture.postgres.session import Session, Transaction
from confiture.states import FINAL


def _active_run(target: Database) -> Run:
    run = find_run(target)
    if run.state in FINAL:
        raise Refused(
            "the target has no active run", why=f"run {run.short} is {run.state}", fix="a new setup starts a new run"
        )
    return run


@contextmanager
def for_operators(where: Endpoints, doing: str) -> Iterator[None]:
    """Translate the errors of a request, which needs the privileges of an operator of the run.

    :raises Refused: when the role of the session lacks one.
    """
    with translated(doing):
        try:
            yield
        except psycopg.errors.InsufficientPrivilege as error:
            raise Refused(
                f"missing privilege while running {doing}",
                why=str(error.diag.message_primary),
                fix=f"the owner of the journal grants it with {where.naming.command('grants --operator ROLE')}",
            ) from error


def request(where: Endpoints, kind: str) -> Run:
    """Request that the running command pauses or resumes. It reads the request at its next checkpoint.

    :param kind: ``pause`` or ``resume``.
    """
    target = target_of(where)
    run = _active_run(target)
    with for_operators(where, kind), Session(target, "request", run.short) as session, session.transaction() as tx:
        leases.ask(tx, run.id, kind, runs.actor())
        runs.note(tx, run.id, run.epoch, kind, {})
    return run


def throttle(where: Endpoints, given: Throttle, off: bool) -> tuple[Run, Throttle]:
    """Set limits for the copy of a run, whether a command is running or not; return the limits now in force.

    :param given: a limit that is None is unchanged.
    :param off: remove the earlier limits first.
    :raises UsageError: when no limit is given.
    """
    if not given and not off:
        raise UsageError(
            "no limit is given",
            why="throttle sets --max-rate, --max-replica-lag or --max-backlog, or removes them with --off",
            fix="give one of these options",
        )
    target = target_of(where)
    run = _active_run(target)
    with (
        for_operators(where, "throttle"),
        Session(target, "request", run.short) as session,
        session.transaction() as tx,
    ):
        return run, set_limits(tx, run, given, off=off)


def set_limits(tx: Transaction, run: Run, given: Throttle, *, off: bool = False) -> Throttle:
    """Record the limits in the caller's transaction; return the limits now in force."""
    before = Throttle() if off else throttle_from_json(leases.limits(tx, run.id))
    limits = before.with_limits(given)
    leases.ask(tx, run.id, "throttle", runs.actor(), asdict(limits))
    runs.note(tx, run.id, run.epoch, "throttle", asdict(limits))
    return limits
