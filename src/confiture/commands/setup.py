"""``setup``: the target database, the new schema, the journal, and with a mapping the plan and the capture."""

from __future__ import annotations

from typing import Any

from confiture import config
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints, both_databases, next_command
from confiture.commands.holding import refuse_ending, storing_blocks, unblock
from confiture.commands.options import RunOptions
from confiture.commands.plan import check_publications, mapping_of, options_of, plan_run, propose, stored_choices
from confiture.config import Database
from confiture.errors import Refused
from confiture.journal import runs
from confiture.journal.runs import Run
from confiture.plan.model import Plan
from confiture.runner.context import Context
from confiture.runner.lease import hold
from confiture.runner.progress import Progress
from confiture.schema_to_schema import follow, plan_store, setup
from confiture.schema_to_schema.setup import SetupRequest
from confiture.states import SETUP


def execute(where: Endpoints, choices: RunOptions, wanted: dict[str, Any], progress_: Progress) -> Run:
    """Target database, new schema, journal, the run's schemas; with a mapping also the plan.

    :raises Refused: on one database for both, rows in the target, a live run of another source.
    """
    source, target = both_databases(where)
    _, faults = mapping_of(None, choices)
    if faults:
        raise plan_store.faulty(faults)
    request = SetupRequest(source, target, seen_as=choices.seen_as, capture=choices.capture is not False, **wanted)
    with translated("setup"):
        with setup.target_database(request) as here:
            run = setup.known_run(target, here)
            if run is None:
                check_publications(source, choices)
            if run is None and choices.mapping is not None:
                # A rehearsal: what is at fault is told before anything is there to be undone.
                propose(source, target, None, choices, exists=True)
            run = run or setup.begin(request, here)
        _refuse_other_capture(run, choices, where)
        _name_target(where, source, target, progress_)
        if run.state != SETUP:
            progress_.say(f"setup is done already: run {run.short} is in state {run.state}")
            return run
        with hold(source, target, run, "setup", progress_) as context:
            refuse_ending(context, run, "setup", where)
            with storing_blocks(context, "setup", where):
                setup.setup(context, request)
                if choices.mapping is not None:
                    install_capture(context, plan_run(context, context.run(), choices))
                else:
                    _keep_choices(context, choices)
                unblock(context, "setup")
                return context.run()


def _refuse_other_capture(run: Run, choices: RunOptions, where: Endpoints) -> None:
    if choices.capture is not None and choices.capture != bool(run.options.get("capture")):
        raise Refused(
            f"run {run.short} was set up {'without' if choices.capture else 'with'} capture",
            why="it is chosen once, before the first row is read",
            fix=f"go on without the option, or give the run up: {next_command('abort', where)}",
        )


def _keep_choices(context: Context, choices: RunOptions) -> None:
    """What was chosen at setup holds for the plan that a later command makes."""
    run = context.run()
    options = stored_choices(options_of(choices, run.options, None))
    with context.fenced() as tx:
        runs.update(tx, context.run_id, options={**run.options, **options})


def install_capture(context: Context, plan: Plan) -> None:
    """Capture on the source and the target closed, before the first row is read: no write goes unseen."""
    if context.run().options.get("capture"):
        follow.install(context, plan)
        follow.close_target(context, plan)


def _name_target(where: Endpoints, source: Database, target: Database, progress_: Progress) -> None:
    """Write the environment of a target that was named by a word nobody knew."""
    if target.environment is not None or source.environment is None or where.target != target.name:
        return
    if where.target not in config.environments(where.project) and target.name == target.dbname:
        path = config.write_environment(where.project, where.target, source.environment, where.target)
        progress_.say(f"wrote {path.relative_to(where.project)}")
