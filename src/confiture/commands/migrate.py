"""``migrate``: copy every table, build its indexes and constraints, and catch up."""

from __future__ import annotations

from confiture.commands.endpoints import Endpoints
from confiture.commands.holding import hold_run, unblock
from confiture.commands.options import RunOptions
from confiture.commands.plan import plan_run
from confiture.commands.requests import set_limits
from confiture.commands.setup import install_capture
from confiture.journal.model import Run
from confiture.runner import transitions
from confiture.runner.progress import Progress
from confiture.schema_to_schema import jobs, migrate
from confiture.states import CUTOVER, MIGRATING, SETUP, VERIFIED


def execute(where: Endpoints, run_options: RunOptions, progress_: Progress) -> tuple[Run, int]:
    """Copy every row that is not copied yet; return the run, and the rows copied by this call.

    Each chunk is durable when it is reported as done. After a crash the same command continues.

    :raises Refused: when setup is not finished.
    """
    jobs.prepare(run_options.jobs, run_options.executor)
    with hold_run(where, "migrate", progress_) as (context, run):
        if run.state == CUTOVER:
            progress_.say("nothing to migrate: the target is serving")
            return run, 0
        migrate.stored_plan(context)  # refuses a run whose setup is not finished
        plan = plan_run(context, run, run_options)
        run = context.run()
        if run.state == VERIFIED:
            progress_.say("nothing to migrate: every row is copied and verified")
            return run, 0
        if run.state in (SETUP, MIGRATING):
            install_capture(context, plan)
        if run.state == SETUP:
            transitions.advance(context, "begin")
        if run_options.throttle:
            # The limits and their entry in the history become durable together.
            with context.fenced("throttle.limits") as tx:
                set_limits(tx, run, run_options.throttle)
        copied = migrate.copy_all(
            context,
            plan,
            capture=bool(run.options.get("capture")),
            asked=run_options.jobs,
            executor=run_options.executor,
            index_jobs=run_options.index_jobs,
        )
        unblock(context, "migrate")
        return context.run(), copied
