"""The steps of a sync under its lease, from the empty tables to the report. A process that is killed continues."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from confiture import catalog, secret_values
from confiture.copy import throttle
from confiture.copy.throttle import Throttle
from confiture.errors import DifferencesFound, Refused
from confiture.journal import leases, runs, table_plans
from confiture.journal.model import Run
from confiture.masking import key
from confiture.plan.model import Plan, plan_from_json
from confiture.postgres.retry import retry
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.states import MIGRATING, SETUP, VERIFIED
from confiture.sync import copying, finishing, options_of_run, proof, report, sides, store, tables
from confiture.sync.copying import Work
from confiture.sync.outcome import SyncReport
from confiture.sync.planning import Planned
from confiture.sync.references import Checked, check
from confiture.sync.request import Request
from confiture.types import counted


def work(context: Context, planned: Planned | None, request: Request, jobs: int | None, limits: Throttle) -> SyncReport:
    """Copy, prove, finish and report; each part is durable when it is done.

    :param planned: of a sync whose plan is not stored yet.
    :param jobs: chunks at a time; None for as many as there are cores.
    :raises DifferencesFound: when a clear value is found in a masked column, or a foreign key does not hold.
    """
    run = context.run()
    if run.plan is None:
        run = _store(context, planned, request)
    else:
        _refuse_other_key(run)
    if run.state == SETUP:
        retry(partial(transitions.advance, context, "begin"))
    _begin(context, limits)
    plan = plan_from_json(run.plan or {})
    masks = options_of_run.masks(run.options)
    source, _ = sides.read_source(context.source)
    copying.copy(context, Work(plan, masks, source, bool(run.options["consistent"]), jobs))
    with context.target.transaction(read_only=True) as tx:
        target, states = catalog.read(tx), table_plans.of_run(tx, context.run_id)
    read = {job.table.target: job for job in tables.jobs(context, plan, states, masks).values()}
    proof.prove(context, read, proof.Subject(plan, masks, source, target))
    finishing.finish(context, plan)
    return _complete(context, plan)


def _store(context: Context, planned: Planned | None, request: Request) -> Run:
    assert planned is not None, "a sync without a stored plan is planned before it is held"
    value = key.check_value(_key(), str(context.run_id)) if planned.masks.needs_key else None
    store.prepare(context, planned, options_of_run.options(request, planned, value))
    for note in planned.notes:
        context.progress.say(note)
    return context.run()


def _key() -> bytes:
    """The key of the masks, which no output may contain from now on."""
    found = key.from_environment()
    secret_values.use([found.decode(errors="replace")])
    return found


def _refuse_other_key(run: Run) -> None:
    """:raises Refused: when the environment has another key than the one that the sync began with."""
    known = run.options.get("mask_check")
    if known is not None and key.check_value(_key(), str(run.id)) != known:
        raise Refused(
            f"sync {run.short} began with another key",
            why=f"{key.KEY_VARIABLE} has another value: equal values would not stay equal",
            fix="set the key that it began with, or add --restart to abandon it and begin again",
        )


def _begin(context: Context, limits: Throttle) -> None:
    # Durable together: no error blocks the run, and the limits of this command.
    with context.fenced("sync.begun") as tx:
        runs.unblock(tx, context.run_id)
        if limits:
            before = throttle.from_json(leases.limits(tx, context.run_id))
            leases.ask(tx, context.run_id, "throttle", runs.actor(), asdict(before.with_limits(limits)))


def _complete(context: Context, plan: Plan) -> SyncReport:
    checked = check(context, copying.foreign_keys(context))
    _refuse_violations(checked)
    if context.run().state == MIGRATING:
        retry(partial(transitions.advance, context, "verify", {"foreign_keys": len(checked)}))
    options = context.run().options
    made = report.make(context, plan, options_of_run.masked_columns(options), checked, options["chosen"])
    if context.run().state == VERIFIED:
        retry(partial(transitions.advance, context, "complete", made.as_json()))
    return made


def _refuse_violations(checked: tuple[Checked, ...]) -> None:
    wrong = [c for c in checked if c.violations and c.key.validated]
    if wrong:
        raise DifferencesFound(
            f"{counted(len(wrong), 'foreign key')} do not hold in the target",
            why="\n".join(f"{c.key.name} of {c.key.table}: {c.violations:,} of {c.rows:,} rows" for c in wrong),
            fix="another session has changed the target; run the command with --restart",
        )
