"""``setup``: the target database, the new schema, the journal, the plan and the capture."""

from __future__ import annotations

from dataclasses import replace

from confiture import config
from confiture.catalog_model import Identity
from confiture.commands import forecast, plan_file
from confiture.commands.databases import both_databases
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints, next_command
from confiture.commands.holding import refuse_ending, refuse_lost_schema, storing_blocks, unblock
from confiture.commands.hooks import announced
from confiture.commands.options import RunOptions
from confiture.commands.plan import check_publications, mapping_of, plan_run, propose
from confiture.config import Database
from confiture.errors import Refused
from confiture.journal import approvals
from confiture.journal.model import Run
from confiture.log import log
from confiture.plan import privileges
from confiture.plan.model import Plan, plan_from_json
from confiture.postgres import yielding
from confiture.postgres.session import Session
from confiture.runner.context import Context
from confiture.runner.lease import hold, runner_sessions
from confiture.runner.progress import Progress
from confiture.schema_to_schema import follow, plan_store, setup
from confiture.schema_to_schema.setup import SetupRequest
from confiture.states import SETUP


def execute(
    where: Endpoints,
    run_options: RunOptions,
    progress_: Progress,
    *,
    encoding: str | None = None,
    locale: str | None = None,
    accept_fsync_off: bool = False,
    require_approval: bool = False,
) -> Run:
    """Create the target database, its schema, the journal, the run's schemas and the plan.

    Everything that the plan refuses is reported before the first change. Each step is durable when it is done. A
    killed setup is continued by the same command.

    :param encoding: of a new target; None for that of the source, as for ``locale``.
    :param accept_fsync_off: accept servers that can lose committed data in a crash.
    :param require_approval: let the cutover need an approval, also in a run that exists.
    :raises Refused: when source and target are one database, the target has rows, or another source has an active run.
    """
    source, target = both_databases(where)
    _, faults = mapping_of(None, run_options)
    if faults:
        raise plan_store.faulty(faults)
    captured = run_options.capture is not False
    required = require_approval or target.require_approval
    request = SetupRequest(source, target, run_options.seen_as, encoding, locale, accept_fsync_off, captured, required)
    with translated("setup"):
        exists, here = setup.database_exists(target), setup.identity_of(source)
        if not exists:
            _refuse_to_create(here, source, target, run_options)
        with setup.target_database(request, here, exists=exists) as (session, there):
            run = _known_or_begun(session, request, here, there, run_options)
        _refuse_other_capture(run, run_options, where)
        _name_target(where, source, target, progress_)
        if run.state != SETUP:
            if run.plan is not None:
                plan_file.refuse_other(run_options.agreed, plan_from_json(run.plan), stored=True)
            progress_.say(f"setup is done already: run {run.short} is in state {run.state}")
            return run
        hooks = announced(where.hooks)
        with (
            runner_sessions(source, target, run) as (src, tgt),
            hold(src, tgt, run, "setup", progress_, hooks) as context,
        ):
            refuse_ending(context, run, "setup", where)
            with storing_blocks(context, "setup", where):
                refuse_lost_schema(context, run)
                setup.setup(context, request)
                install_capture(context, plan_run(context, context.run(), run_options))
                unblock(context, "setup")
                return context.run()


def _refuse_to_create(here: Identity, source: Database, target: Database, run_options: RunOptions) -> None:
    """:raises MissingPrivileges: when the role may not create the target, which does not exist."""
    missing = setup.missing_privileges(here, None, target)
    if missing:
        propose(source, target, None, run_options, exists=False, missing=missing)


def _known_or_begun(
    session: Session, request: SetupRequest, here: Identity, there: Identity, run_options: RunOptions
) -> Run:
    """The target's run, created if there is none."""
    missing = setup.missing_privileges(here, there, request.target)
    run = setup.known_run(session, here)
    if run is None:
        check_publications(request.source, run_options)
        # Report every fault of the plan before anything is created that would have to be dropped.
        planned = propose(request.source, request.target, None, run_options, exists=True, missing=missing)
        planned = replace(planned, captured=request.capture)
        with yielding.watching(log.info):
            found = forecast.make(request.source, session, planned, run_options)
        forecast.check(found, run_options)
        return setup.begin(session, request, here, found)
    if missing:
        raise privileges.refusal(missing)
    if request.require_approval:
        # Durable: the requirement, of a run that began without it.
        with session.transaction() as tx:
            approvals.require(tx, run)
    return run


def _refuse_other_capture(run: Run, run_options: RunOptions, where: Endpoints) -> None:
    if run_options.capture is not None and run_options.capture != bool(run.options.get("capture")):
        raise Refused(
            f"run {run.short} was set up {'without' if run_options.capture else 'with'} capture",
            why="capture is chosen once, before the first row is read",
            fix=f"continue without the option, or abort the run: {next_command('abort', where)}",
        )


def install_capture(context: Context, plan: Plan) -> None:
    """Install capture on the source and close the target, before the first row is read, so that no write is missed."""
    if context.run().options.get("capture"):
        follow.install(context, plan)
        follow.close_target(context, plan)


def _name_target(where: Endpoints, source: Database, target: Database, progress_: Progress) -> None:
    """Write the environment file of a new target that was named by a word only."""
    if target.environment is not None or source.environment is None or where.target != target.name:
        return
    if where.target not in config.environments(where.project) and target.name == target.dbname:
        path = config.write_environment(where.project, where.target, source.environment, where.target)
        progress_.say(f"wrote {path.relative_to(where.project)}")
