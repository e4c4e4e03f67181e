"""``pause``, ``resume`` and ``throttle``: requests to the runner of a run."""

from __future__ import annotations

from dataclasses import asdict

from confiture import config
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints, find_run
from confiture.config import Database
from confiture.copy.throttle import Throttle
from confiture.copy.throttle import from_json as throttle_from_json
from confiture.errors import Refused, UsageError
from confiture.journal import leases, runs
from confiture.journal.runs import Run
from confiture.postgres.session import Session, Transaction
from confiture.states import FINAL


def _askable(target: Database) -> Run:
    run = find_run(target)
    if run.state in FINAL:
        raise Refused(
            "there is nobody to ask", why=f"run {run.short} is {run.state}", fix="a new setup starts a new run"
        )
    return run


def request(where: Endpoints, kind: str) -> Run:
    """Ask whoever runs the run to pause or resume."""
    target = config.resolve(where.target, where.project)
    run = _askable(target)
    with translated(kind), Session(target, "request", run.short) as session, session.transaction() as tx:
        leases.ask(tx, run.id, kind, runs.actor())
        runs.note(tx, run.id, run.epoch, kind, {})
    return run


def throttle(where: Endpoints, given: Throttle, off: bool) -> tuple[Run, Throttle]:
    """Set limits for the copy of a run, running or not; the limits that hold from now on.

    :param given: a limit that is None stays as it was.
    :param off: lift what was set before.
    """
    if not given and not off:
        raise UsageError(
            "no limit is given",
            why="throttle sets --max-rate, --max-replica-lag or --max-backlog, or lifts them",
            fix="name one of them, or --off",
        )
    target = config.resolve(where.target, where.project)
    run = _askable(target)
    with translated("throttle"), Session(target, "request", run.short) as session, session.transaction() as tx:
        return run, set_limits(tx, run, given, off=off)


def set_limits(tx: Transaction, run: Run, given: Throttle, *, off: bool = False) -> Throttle:
    before = Throttle() if off else throttle_from_json(leases.limits(tx, run.id))
    limits = before.with_limits(given)
    leases.ask(tx, run.id, "throttle", runs.actor(), asdict(limits))
    runs.note(tx, run.id, run.epoch, "throttle", asdict(limits))
    return limits
