"""What each command does from end to end: name the databases, hold the run, take the step, move the state.

The commands of the CLI parse, call one of these, and render what it returns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from confiture import build, config, mapping
from confiture.catalog import Identity
from confiture.config import Database, UnknownEnvironment, redact
from confiture.copy.throttle import Throttle
from confiture.copy.throttle import from_json as throttle_from_json
from confiture.errors import (
    Blocked,
    ConfitureError,
    CutoverUnfinished,
    DataFailure,
    DifferencesFound,
    Fault,
    Refused,
    UsageError,
)
from confiture.failpoints import failpoint
from confiture.journal import leases, runs, schema, steps, verifications
from confiture.journal.runs import Run
from confiture.log import log
from confiture.mapping import Mapping
from confiture.naming import Naming, naming
from confiture.plan.planner import RECOPY_MB, Options, Plan, plan_from_json
from confiture.pooler import Pooler
from confiture.pooler.config_file import Address
from confiture.pooler.pgbouncer import PgBouncer, Pool
from confiture.postgres import yielding
from confiture.postgres.failure import failure
from confiture.postgres.retry import retryable
from confiture.postgres.session import Session, Transaction
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.runner.lease import hold
from confiture.runner.progress import Progress
from confiture.schema_to_schema import cleanup as cleaning
from confiture.schema_to_schema import cutover as switching
from confiture.schema_to_schema import cutover_offline as cutting
from confiture.schema_to_schema import follow as following
from confiture.schema_to_schema import materialized_views, plan_store, switchover
from confiture.schema_to_schema import migrate as migrating
from confiture.schema_to_schema import rehearse as rehearsing
from confiture.schema_to_schema import repair as repairing
from confiture.schema_to_schema import reverse as going_home
from confiture.schema_to_schema import reverse_verify as reverse_verifying
from confiture.schema_to_schema import rollback as rolling_back
from confiture.schema_to_schema import setup as setting_up
from confiture.schema_to_schema import verify as verifying
from confiture.schema_to_schema.cutover_offline import Differs
from confiture.schema_to_schema.plan_store import Planned
from confiture.schema_to_schema.preconditions import databases, publications
from confiture.schema_to_schema.rehearse import Rehearsal
from confiture.schema_to_schema.setup import SetupRequest
from confiture.schema_to_schema.table_lock import Limits
from confiture.schema_to_schema.verify import Result
from confiture.states import ABORTED, CLEANED, CUTOVER, FINAL, MIGRATING, SETUP, VERIFIED
from confiture.types import TableRef, shell_word


@dataclass(frozen=True)
class Endpoints:
    """Which databases a command is about, as the user named them.

    :ivar source: None after setup, when the journal knows it.
    :ivar project: the folder with ``db/``.
    :ivar given_project: ``--project`` as it was given; None when the project was found.
    """

    target: str
    source: str | None = None
    project: Path = field(default_factory=Path.cwd)
    given_project: Path | None = None

    @property
    def naming(self) -> Naming:
        """How to name the target again in a command that is printed."""
        return naming(self.target, self.given_project)


@dataclass(frozen=True)
class RunOptions:
    """What ``plan`` and ``migrate`` may be told; None leaves what the journal has, else the default.

    :ivar accept_publication: the source may publish the run's own tables.
    :ivar capture: False for an application that is stopped; by default its writes are captured.
    """

    mapping: Path | None = None
    chunk_rows: int | None = None
    strategy: str | None = None
    fdw_threshold: int | None = None
    seen_as: str | None = None
    restart: tuple[str, ...] = ()
    capture: bool | None = None
    recopy_mb: int | None = None
    accept_publication: bool = False
    throttle: Throttle = field(default_factory=Throttle)


_START = "start with: confiture migrate schema-to-schema setup --source ... --target ..."


# Databases and runs --------------------------------------------------------------------------------


def _databases(where: Endpoints) -> tuple[Database, Database]:
    """Source and target of a run that may not be there yet."""
    if where.source is None:
        return _known_databases(where)
    source = config.resolve(where.source, where.project)
    try:
        return source, config.resolve(where.target, where.project)
    except UnknownEnvironment as error:
        if source.environment is None:
            fix = "name the source by its environment to have the target made beside it, or the target by a URI"
            raise UnknownEnvironment(error.what, why=error.why, fix=fix) from None
    return source, source.with_dbname(where.target)


def _known_databases(where: Endpoints) -> tuple[Database, Database]:
    """Source and target of a run that is there: the journal knows the source."""
    try:
        target = config.resolve(where.target, where.project)
    except UnknownEnvironment as error:
        fix = f"{error.fix} (a new run needs --source too)"
        raise UnknownEnvironment(error.what, why=error.why, fix=fix) from None
    return _source_of(find_run(target, look=True), where), target


def find_run(target: Database, *, look: bool = False) -> Run:
    """The target's live run, else its last. A journal that an older tool wrote is upgraded.

    :param look: change nothing; refuse an older journal.
    :raises Refused: when there never was one, or the journal is newer than this tool.
    """
    if not setting_up.database_exists(target):
        raise Refused(f"there is no database {target.dbname or target.name}", why="setup makes it", fix=_START)
    with _telling("looking"), Session(target, "command") as session:
        if not look:
            schema.keep_up(session)
        with session.transaction(read_only=True) as tx:
            have = schema.version(tx)
            schema.refuse_newer(have)
            schema.refuse_older(have)
            run = runs.latest(tx) if have else None
    if run is None:
        raise Refused(f"{target.name} has no run", why="its database holds no journal of one", fix=_START)
    return run


def _source_of(run: Run, where: Endpoints) -> Database:
    """The run's source: as named now, as its environment says, or as the journal has it."""
    if where.source is not None:
        return config.resolve(where.source, where.project)
    if run.source_name in config.environments(where.project):
        return config.resolve(run.source_name, where.project)
    return config.resolve(run.source_conninfo, where.project)


def _refuse_other(run: Run, side: str, known: dict[str, Any], found: Identity) -> None:
    if (known["system_identifier"], known["oid"]) != (found.system_identifier, found.oid):
        raise Refused(
            f"the {side} is not the database the run began with",
            why=f"run {run.short} knows {known['database']} of server {known['system_identifier']}, "
            f"this is {found.database} of server {found.system_identifier}",
            fix=f"name the right {side}",
        )


@contextmanager
def _holding(where: Endpoints, command: str, progress_: Progress) -> Iterator[tuple[Context, Run]]:
    target = config.resolve(where.target, where.project)
    run = find_run(target)
    if run.state in FINAL:
        raise Refused("the run is over", why=f"run {run.short} is {run.state}", fix="a new setup starts a new run")
    source = _source_of(run, where)
    accept = bool(run.options.get("accept_fsync_off"))
    here, there = setting_up.identity_of(source), setting_up.identity_of(target)
    _refuse_other(run, "source", run.source_identity, here)
    _refuse_other(run, "target", run.target_identity, there)
    databases.check(here, there, accept_fsync_off=accept)
    with _telling(command), hold(source, target, run, command, progress_) as context:
        run = context.run()
        _refuse_ending(context, run, command, where)
        _refuse_halfway(context, run, command, where)
        with _storing_blocks(context, command, where):
            yield context, run


@contextmanager
def _storing_blocks(context: Context, command: str, where: Endpoints) -> Iterator[None]:
    """An error inside the block that the same command would meet again is stored as what blocks the run."""
    try:
        yield
    except (ConfitureError, psycopg.Error) as error:
        told = failure(error, f"running {command}") if isinstance(error, psycopg.Error) else error
        if _blocks(error):
            # The error itself matters more than its record, where the target is lost too.
            with contextlib.suppress(psycopg.Error, ConfitureError):
                _store_block(context, told, command, where)
        raise


def _blocks(error: ConfitureError | psycopg.Error) -> bool:
    """Whether the same command would meet the error again: a fact, SQL that fails, or a privilege that is missing."""
    if isinstance(error, (Blocked, DataFailure)):
        return True
    cause = error.__cause__ if isinstance(error, Refused) else error
    cancelled = isinstance(cause, psycopg.errors.QueryCanceled)
    return isinstance(cause, psycopg.Error) and not retryable(cause) and not cancelled


def _store_block(context: Context, error: ConfitureError, command: str, where: Endpoints) -> None:
    run = context.run()
    step = command
    if isinstance(error, Blocked):
        step = _continuing(error, run) or command
        if error.step is not None:
            error.fix = f"{error.fix}: {where.naming.command(step)}" if error.fix else where.naming.command(step)
    with context.fenced() as tx:
        reason = " ".join(": ".join(filter(None, (error.what, error.why))).split())
        runs.block(tx, run.id, context.epoch, redact(reason), step)


def _continuing(error: Blocked, run: Run) -> str | None:
    """The step that continues a blocked run; it names target tables and the mapping file of the run."""
    if error.restart and run.plan is not None:
        targets = [t.target for t in plan_from_json(run.plan).tables if str(t.source) in error.restart]
        if targets:
            return " ".join(["migrate", *(f"--restart-table {shell_word(str(t))}" for t in targets)])
    if error.step is None or run.mapping_file is None:
        return error.step
    return error.step.replace("--mapping FILE", f"--mapping {shell_word(run.mapping_file)}")


def _unblock(context: Context, command: str) -> None:
    """A command that checks everything has found nothing: clear what blocked the run.

    Verification does not look at the numbers of the passes, so it clears nothing that only an abort resolves.
    """
    run = context.run()
    if run.blocked_reason is not None and not (command == "verify" and run.blocked_command == "abort"):
        with context.fenced() as tx:
            runs.unblock(tx, run.id)


def _refuse_ending(context: Context, run: Run, command: str, where: Endpoints) -> None:
    """:raises Refused: when another command has begun to drop what the run made."""
    with context.target.transaction(read_only=True) as tx:
        ending = steps.ending(tx, run.id)
    if ending is not None and ending != command:
        raise Refused(
            f"the {ending} of run {run.short} was begun and is not done",
            why="part of what the run needs is dropped already",
            fix=_next(ending, where),
        )


def _refuse_halfway(context: Context, run: Run, command: str, where: Endpoints) -> None:
    """:raises CutoverUnfinished: when another command has closed a database and not opened the other yet."""
    live, phase = run.options.get("capture"), run.cutover_phase or ""
    if live and run.state in (MIGRATING, VERIFIED) and command != "cutover" and switching.is_closed(context):
        raise CutoverUnfinished(
            "a cutover is half-way: the old database is closed, the new one not open yet",
            why="nothing else can be done before it is ended",
            fix=_next("cutover", where),
        )
    if live and run.state == CUTOVER and command != "rollback" and phase.startswith(rolling_back.PHASE):
        if rolling_back.is_halfway(context):
            raise CutoverUnfinished(
                "a rollback is half-way: the new database is closed",
                why="nothing else can be done before it is ended",
                fix=_next("rollback", where),
            )


@contextmanager
def _telling(doing: str) -> Iterator[None]:
    """Server errors that nobody nearer has told, told with what was being done."""
    try:
        yield
    except psycopg.Error as error:
        raise failure(error, f"running {doing}") from error


def _fire(context: Context, trigger: str, detail: dict[str, Any] | None = None) -> None:
    with context.fenced() as tx:
        run = runs.get(tx, context.run_id)
        transitions.fire(tx, run, trigger, detail)
        failpoint(f"state.{trigger}.before_commit")
    failpoint(f"state.{trigger}.after_commit")


# Planning ------------------------------------------------------------------------------------------


def _mapping(run: Run | None, choices: RunOptions) -> tuple[Mapping, tuple[Fault, ...]]:
    """The mapping named now, else the stored one; with the faults its parsing found."""
    if choices.mapping is not None:
        return mapping.load(choices.mapping)
    return mapping.parse(run.mapping or "", run.mapping_file or Mapping().file) if run else (Mapping(), ())


def _options(choices: RunOptions, stored: dict[str, Any], fdw_problem: str | None) -> Options:
    def chosen(name: str) -> Any:
        given = getattr(choices, name)
        return given if given is not None else stored.get(name)

    threshold, capture, recopy_mb = chosen("fdw_threshold"), chosen("capture"), chosen("recopy_mb")
    return Options(
        chunk_rows=chosen("chunk_rows"),
        strategy=chosen("strategy"),
        fdw_problem=fdw_problem,
        capture=True if capture is None else bool(capture),
        recopy_mb=RECOPY_MB if recopy_mb is None else recopy_mb,
        **({"fdw_threshold": threshold} if threshold is not None else {}),
    )


def _chosen(options: Options) -> dict[str, Any]:
    """The options a run keeps."""
    return {
        "chunk_rows": options.chunk_rows,
        "strategy": options.strategy,
        "fdw_threshold": options.fdw_threshold,
        "capture": options.capture,
        "recopy_mb": options.recopy_mb,
    }


def _stored_plan(run: Run, given: Mapping, options: Options) -> Plan | None:
    """The run's plan as stored; None when the mapping or the choices say something else by now."""
    chosen = _chosen(options)
    same = given.text == (run.mapping or "") and chosen == {name: run.options.get(name) for name in chosen}
    return plan_from_json(run.plan) if run.plan is not None and same else None


def plan(where: Endpoints, choices: RunOptions, *, accept_fsync_off: bool = True) -> Planned:
    """The plan of a run, or of one that may not be there yet; changes nothing.

    :raises FaultyInput: all faults of the mapping at once.
    :raises Refused: what setup would refuse.
    """
    source, target = _databases(where)
    with _telling("plan"):
        here = setting_up.identity_of(source)
        exists = setting_up.database_exists(target)
        there = setting_up.identity_of(target) if exists else None
        databases.check(here, there, accept_fsync_off=accept_fsync_off)
        run = setting_up.known_run(target, here) if exists else None
        if run is None:
            _check_publications(source, choices)
        return _planned(source, target, run, choices, exists=exists)


def _check_publications(source: Database, choices: RunOptions) -> None:
    with Session(source, "plan") as session, session.transaction(read_only=True) as tx:
        publications.check(tx, accepted=choices.accept_publication)


def _planned(source: Database, target: Database, run: Run | None, choices: RunOptions, *, exists: bool) -> Planned:
    given, faults = _mapping(run, choices)
    # DDL is tried where the target will be, or in the server's own database while there is none.
    look_at = target if exists else replace(target.with_dbname("postgres"), search_path=target.search_path)
    with yielding.watching(log.info), Session(source, "plan") as a, Session(look_at, "plan") as b:
        problem = (run.fdw or {}).get("problem") if run and run.fdw else plan_store.fdw_problem(a, b, choices.seen_as)
        options = _options(choices, run.options if run else {}, problem)
        stored = _stored_plan(run, given, options) if run else None
        if stored is not None:
            return Planned(stored, plan_store.look(a)[0], plan_store.look(b)[0])
        there = plan_store.target_catalog(b) if exists else plan_store.rehearsed_catalog(look_at)
        return plan_store.make(a, there, given, faults, options)


def preview(
    where: Endpoints, choices: RunOptions, table: str, rows: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Rows of a target table before and after: (source row, target row), as text; changes nothing."""
    planned = plan(where, choices)
    ref = _table_named(planned.plan, table)
    chosen = next(t for t in planned.plan.tables if t.target == ref)
    source, _ = _databases(where)
    with (
        _telling("preview"),
        yielding.watching(log.info),
        Session(source, "preview", user_sql=True) as session,
    ):
        return plan_store.preview(session, chosen, planned.source.by_ref[chosen.source], rows)


def _plan_run(context: Context, run: Run, choices: RunOptions) -> Plan:
    """The run's plan: as stored, or made anew where the mapping or the choices say something else."""
    options = _options(choices, run.options, (run.fdw or {}).get("problem"))
    given, faults = _mapping(run, choices)
    stored = _stored_plan(run, given, options)
    if stored is not None and not choices.restart:
        plan_store.ensure_views(context, stored)
        return stored
    found = plan_store.make(context.source, plan_store.target_catalog(context.target), given, faults, options)
    if run.options.get("capture"):
        found = replace(found, plan=going_home.refuse_faulty(context, found.plan, given))
    return plan_store.store(context, given, found, choices.restart, {**run.options, **_chosen(options)})


def _table_named(plan: Plan, name: str) -> TableRef:
    for table in plan.tables:
        if name in (str(table.target), table.target.name, f"{table.target.schema}.{table.target.name}"):
            return table.target
    known = ", ".join(str(t.target) for t in plan.tables)
    raise UsageError(f"the plan has no table {name}", why=f"it has {known}", fix="name one of these")


# The five steps ------------------------------------------------------------------------------------


def setup(where: Endpoints, choices: RunOptions, wanted: dict[str, Any], progress_: Progress) -> Run:
    """Target database, new schema, journal, the run's schemas; with a mapping also the plan.

    :raises Refused: on one database for both, rows in the target, a live run of another source.
    """
    source, target = _databases(where)
    _, faults = _mapping(None, choices)
    if faults:
        raise plan_store.faulty(faults)
    request = SetupRequest(source, target, seen_as=choices.seen_as, capture=choices.capture is not False, **wanted)
    with _telling("setup"):
        with setting_up.target_database(request) as here:
            run = setting_up.known_run(target, here)
            if run is None:
                _check_publications(source, choices)
            if run is None and choices.mapping is not None:
                # A rehearsal: what is at fault is told before anything is there to be undone.
                _planned(source, target, None, choices, exists=True)
            run = run or setting_up.begin(request, here)
        _refuse_other_capture(run, choices, where)
        _name_target(where, source, target, progress_)
        if run.state != SETUP:
            progress_.say(f"setup is done already: run {run.short} is in state {run.state}")
            return run
        with hold(source, target, run, "setup", progress_) as context:
            _refuse_ending(context, run, "setup", where)
            with _storing_blocks(context, "setup", where):
                setting_up.setup(context, request)
                if choices.mapping is not None:
                    _capture(context, _plan_run(context, context.run(), choices))
                else:
                    _keep_choices(context, choices)
                _unblock(context, "setup")
                return context.run()


def _refuse_other_capture(run: Run, choices: RunOptions, where: Endpoints) -> None:
    if choices.capture is not None and choices.capture != bool(run.options.get("capture")):
        raise Refused(
            f"run {run.short} was set up {'without' if choices.capture else 'with'} capture",
            why="it is chosen once, before the first row is read",
            fix=f"go on without the option, or give the run up: {_next('abort', where)}",
        )


def _keep_choices(context: Context, choices: RunOptions) -> None:
    """What was chosen at setup holds for the plan that a later command makes."""
    run = context.run()
    options = _chosen(_options(choices, run.options, None))
    with context.fenced() as tx:
        runs.update(tx, context.run_id, options={**run.options, **options})


def _capture(context: Context, plan: Plan) -> None:
    """Capture on the source and the target closed, before the first row is read: no write goes unseen."""
    if context.run().options.get("capture"):
        following.install(context, plan)
        following.close_target(context, plan)


def _name_target(where: Endpoints, source: Database, target: Database, progress_: Progress) -> None:
    """Write the environment of a target that was named by a word nobody knew."""
    if target.environment is not None or source.environment is None or where.target != target.name:
        return
    if where.target not in config.environments(where.project) and target.name == target.dbname:
        path = config.write_environment(where.project, where.target, source.environment, where.target)
        progress_.say(f"wrote {path.relative_to(where.project)}")


def migrate(where: Endpoints, choices: RunOptions, progress_: Progress) -> tuple[Run, int]:
    """Copy what is not copied; the run after, and the rows copied by this call."""
    with _holding(where, "migrate", progress_) as (context, run):
        if run.state == CUTOVER:
            progress_.say("nothing to migrate: the target serves already")
            return run, 0
        _refuse_half_set_up(context)
        plan = _plan_run(context, run, choices)
        run = context.run()
        if run.state == VERIFIED:
            progress_.say("nothing to migrate: every row is copied and verified")
            return run, 0
        if run.state in (SETUP, MIGRATING):
            _capture(context, plan)
        if run.state == SETUP:
            _fire(context, "begin")
        if choices.throttle:
            with context.fenced() as tx:
                _limit(tx, run, choices.throttle)
        copied = migrating.copy_all(context, plan, capture=bool(run.options.get("capture")))
        _unblock(context, "migrate")
        return context.run(), copied


def _refuse_half_set_up(context: Context) -> None:
    with context.target.transaction(read_only=True) as tx:
        done = steps.is_done(tx, context.run_id, "setup", setting_up.LAST_STEP)
    if not done:
        raise Refused("setup is not finished", why="it stopped on the way", fix="run the same setup command again")


def verify(
    where: Endpoints, report: Path | None, again: bool, progress_: Progress, *, repair: bool = False
) -> tuple[Run, Result]:
    """Compare everything and move the run to ``verified``.

    :param report: where the differences are written, one JSON object a line.
    :param repair: heal the rows that differ through catch-up, and compare anew.
    :raises DifferencesFound: after writing them down.
    """
    if report is not None:
        verifying.refuse_unwritable(report)
    with _holding(where, "verify", progress_) as (context, run):
        _refuse_to_verify(run, where)
        if repair:
            repairing.refuse_uncaptured(run)
        plan = migrating.stored_plan(context)
        if run.state == CUTOVER:
            return _verified_back(context, run, plan, where, report, repair=repair)
        if run.state == VERIFIED and not (again or repair):
            found = _last_result(context, plan)
            if found is not None:
                progress_.say("verified already; --again compares everything anew")
                return run, found
        plan_store.ensure_views(context, plan)
        result = _compared(context, plan)
        if repair:
            result = _repaired(context, plan, result)
        if result.equal:
            _unblock(context, "verify")
        after = context.run()
    if not result.equal and report is not None:
        verifying.write_differences(report, result.differences)
    return after, result


def _verified_back(
    context: Context, run: Run, plan: Plan, where: Endpoints, report: Path | None, *, repair: bool
) -> tuple[Run, Result]:
    """After the cutover: every row of the source against the target, for a rollback."""
    _refuse_unfinished(run, where)
    rolling_back.refuse_for_verify(context, plan)
    result = reverse_verifying.compare(context, plan, repair=repair)
    if not result.equal and report is not None:
        verifying.write_differences(report, result.differences)
    return run, result


def _compared(context: Context, plan: Plan) -> Result:
    """Verify once; the run's state follows from what was found."""
    run = context.run()
    result = verifying.verify(context, plan, capture=bool(run.options.get("capture")))
    if result.equal and run.state == MIGRATING:
        _fire(context, "verify", {"verification": result.number})
    elif not result.equal and run.state == VERIFIED:
        _fire(context, "reopen", {"reason": "verification found differences"})
    return result


def _repaired(context: Context, plan: Plan, result: Result) -> Result:
    """Heal and compare until nothing differs, or only what was tried before: each round tells a limited number."""
    tried: frozenset[repairing.Wrong] = frozenset()
    while wrong := repairing.wrong_keys(plan, result.differences) - tried:
        repairing.repair(context, plan, wrong)
        tried |= wrong
        result = _compared(context, plan)
    return result


def follow(where: Endpoints, once: bool, progress_: Progress, verify_every: float | None = None) -> tuple[Run, int]:
    """Bring over what the application changes, as the state allows (I-7.5), until a signal; the rows brought over.

    :param once: stop when the backlog is small instead.
    :param verify_every: seconds from one complete verification to the next; as in ``steps.follow``.
    """
    with _holding(where, "follow", progress_) as (context, run):
        if not run.options.get("capture"):
            raise Refused(
                "this run does not capture writes", why="it was set up with --no-capture", fix="stop the application"
            )
        if run.state == CUTOVER and not _cutover_left(run):
            stored = migrating.stored_plan(context)
            return _followed(context, once, lambda until_small: going_home.follow(context, stored, once=until_small))
        if run.state not in (MIGRATING, VERIFIED):
            raise Refused(
                "there is nothing to follow",
                why=f"run {run.short} is in state {run.state}",
                fix=_next("migrate" if run.state == SETUP else "cleanup", where),
            )
        plan = migrating.stored_plan(context)
        plan_store.ensure_views(context, plan)
        verifying.refuse_unfinished(context)
        return _followed(
            context,
            once,
            lambda until_small: following.follow(
                context, plan, once=until_small, verify_every=verify_every if until_small == once else None
            ),
        )


def _followed(context: Context, once: bool, follow: Callable[[bool], int]) -> tuple[Run, int]:
    """Follow until little is waiting, which clears what blocked the run; then on, unless that is all that is wanted."""
    rows = follow(True)
    _unblock(context, "follow")
    if not once:
        rows += follow(False)
    return context.run(), rows


def _refuse_to_verify(run: Run, where: Endpoints) -> None:
    if run.state == SETUP:
        raise Refused(
            "there is nothing to verify", why=f"run {run.short}: nothing is copied", fix=_next("migrate", where)
        )
    if run.state == CUTOVER and not run.options.get("capture"):
        raise Refused("there is nothing to verify", why="the target is serving", fix=_next("cleanup", where))


def _next(step: str, where: Endpoints) -> str:
    return where.naming.command(step)


def _last_result(context: Context, plan: Plan) -> Result | None:
    with context.target.transaction(read_only=True) as tx:
        last = verifications.latest(tx, context.run_id, "verify")
    if last is None or verifying.why_stale(context, plan, last) is not None:
        return None
    with context.target.transaction(read_only=True) as tx:
        units = verifications.units(tx, context.run_id, last.number)
    return verifying.result_of(plan, last.number, units, ())


def differences_found(run: Run, result: Result, report: Path | None, where: Endpoints) -> DifferencesFound:
    """The error that ends a verify which found something."""
    first = result.differences[0] if result.differences else None
    table = next((t.target for t in result.tables if not t.equal), "NAME")
    heal = f"repair the rows: {_next('verify --repair', where)}" if run.options.get("capture") else "fix them"
    return DifferencesFound(
        f"{len(result.differences)} differences between {run.source_name} and {run.target_name}",
        why=f"the first: {first.place}; all are in {report}" if first else "the counts differ",
        fix=f"{heal}, or copy the table again: {_next(f'migrate --restart-table {shell_word(table)}', where)}",
    )


def cutover(
    where: Endpoints, limits: Limits, report: Path, progress_: Progress, pool: Pool | None = None
) -> tuple[Run, Database, Database]:
    """Switch to the target, for an application that is stopped: the run, its source and its target.

    :param report: where differences found under the lock are written.
    :param pool: of a PgBouncer that the application writes through, to be led to the target.
    """
    verifying.refuse_unwritable(report)
    with _holding(where, "cutover", progress_) as (context, run):
        ends = context.source.database, context.target.database
        if run.state == CUTOVER and not _cutover_left(run) and not (pool and run.options.get(switchover.OPTION)):
            progress_.say("cut over already: the target serves")
            if run.options.get("capture"):
                materialized_views.refresh(context, migrating.stored_plan(context))
            return run, *ends
        plan = _plan_to_cut_over(context, run, limits)
        with _gate(context, run, pool, switchover.FORTH) as gate:
            if run.options.get("capture"):
                switching.switch(context, plan, limits, gate)
                _unblock(context, "cutover")
                return context.run(), *ends
        try:
            cutting.cutover(context, plan, limits)
        except Differs as error:
            _write_differing(error, where, report)
            raise
        _unblock(context, "cutover")
        return context.run(), *ends


@contextmanager
def _gate(
    context: Context, run: Run, pool: Pool | None, way: switchover.Way, *, only_look: bool = False
) -> Iterator[Pooler | None]:
    """The pool as a gate, checked; None where none was named.

    :param only_look: leave it held if a crash left it so.
    """
    if pool is not None and not run.options.get("capture"):
        raise Refused(
            "a pool is held only for an application that writes",
            why="this run was set up without --capture",
            fix="re-point the pool by hand, or by --hook",
        )
    closed = bool(run.options.get("capture")) and switchover.is_closed(context, way)
    if pool is None:
        if not closed:
            switchover.refuse_unnamed(context, way)
        yield None
        return
    ends = {"source": (context.source, run.source_identity), "target": (context.target, run.target_identity)}
    info = ends[way.opens][0].pg.info
    with contextlib.closing(PgBouncer(pool, Address(info.host, info.port, info.dbname))) as gate:
        if not closed:  # else the other side is opened first, whatever the gate is like
            gate.check()
            session, known = ends[way.closes]
            _refuse_other(run, way.closes, known, setting_up.identity_of(gate.leads_to(session.database)))
            if not only_look:
                switchover.release(context, gate, way)
        yield gate


def _plan_to_cut_over(context: Context, run: Run, limits: Limits) -> Plan:
    if run.state != CUTOVER:
        cutting.refuse_unverified(run)
        closed = bool(run.options.get("capture")) and switching.is_closed(context)
        if limits.max_verification_age is not None and not closed:  # else there is only forward
            verifying.refuse_older(context, limits.max_verification_age)
    plan = migrating.stored_plan(context)
    plan_store.ensure_views(context, plan)
    return plan


def rehearse(
    where: Endpoints, limits: Limits, report: Path, progress_: Progress, pool: Pool | None = None
) -> tuple[Run, Rehearsal | None]:
    """A cutover up to its lock, and what its write pause would be; None when it is made already.

    :param report: as in ``cutover``, like ``pool``.
    :raises CutoverUnfinished: when there is nothing to rehearse any more, only to end.
    """
    verifying.refuse_unwritable(report)
    with _holding(where, "cutover", progress_) as (context, run):
        if run.state == CUTOVER and not _cutover_left(run):
            progress_.say("cut over already: the target serves")
            return run, None
        live = bool(run.options.get("capture"))
        if run.state == CUTOVER or (live and switching.is_closed(context)):
            raise CutoverUnfinished(
                "a cutover is half-way", why="it has things left to do", fix=_next("cutover", where)
            )
        plan = _plan_to_cut_over(context, run, limits)
        with _gate(context, run, pool, switchover.FORTH, only_look=True):
            pass
        if live:
            return run, rehearsing.rehearse(context, plan, limits)
        try:
            return run, rehearsing.rehearse_stopped(context, plan, limits)
        except Differs as error:
            _write_differing(error, where, report)
            raise


def _write_differing(error: Differs, where: Endpoints, report: Path) -> None:
    verifying.write_differences(report, error.result.differences)
    again = _next("verify --again", where)
    error.fix = f"the source serves on; stop its writes, mend what {report} names, then: {again}"


def _cutover_left(run: Run) -> bool:
    """Whether a live cutover has opened the target, and has things left to do."""
    phase = run.cutover_phase
    return phase not in (None, "done") and not phase.startswith(rolling_back.PHASE)


def rollback(
    where: Endpoints, limits: Limits, progress_: Progress, pool: Pool | None = None
) -> tuple[Run, Database, Database]:
    """Back to the old database, with all that was written since the cutover: the run, its source and its target.

    :param pool: what the application's connections pass through; None where they are its own affair.
    """
    with _holding(where, "rollback", progress_) as (context, run):
        ends = context.source.database, context.target.database
        with context.target.transaction(read_only=True) as tx:
            last = runs.last_trigger(tx, run.id, ("cutover", "rollback"))
        if run.state in (MIGRATING, VERIFIED) and last == "rollback":
            if pool is not None and run.options.get(switchover.OPTION):
                with _gate(context, run, pool, switchover.BACK) as gate:
                    switchover.lead(context, gate, switchover.BACK)
                switchover.set_phase(context, None, None)
            progress_.say("rolled back already: the source serves")
            return run, *ends
        _refuse_to_roll_back(run, where)
        plan = migrating.stored_plan(context)
        plan_store.ensure_views(context, plan)
        with _gate(context, run, pool, switchover.BACK) as gate:
            rolling_back.rollback(context, plan, limits, gate)
        _unblock(context, "rollback")
        return context.run(), *ends


def rehearse_rollback(where: Endpoints, limits: Limits, progress_: Progress) -> tuple[Run, Rehearsal]:
    """A rollback up to its lock, and what its write pause would be; nothing is switched."""
    with _holding(where, "rollback", progress_) as (context, run):
        _refuse_to_roll_back(run, where)
        plan = migrating.stored_plan(context)
        plan_store.ensure_views(context, plan)
        return run, rehearsing.rehearse_rollback(context, plan, limits)


def _refuse_to_roll_back(run: Run, where: Endpoints) -> None:
    if run.state != CUTOVER or not run.options.get("capture"):
        why = f"run {run.short} is in state {run.state}"
        if run.state == CUTOVER:
            why = "it was set up for a stopped application: what was written since the cutover is not captured"
        raise Refused("there is nothing to roll back", why=why, fix="look at it: confiture status")
    _refuse_unfinished(run, where)


def _refuse_unfinished(run: Run, where: Endpoints) -> None:
    if _cutover_left(run):
        raise CutoverUnfinished(
            "the cutover is not finished", why="it has things left to do", fix=_next("cutover", where)
        )


def rollback_problems(where: Endpoints) -> tuple[str, ...]:
    """Why a rollback after the cutover of this run will not be possible; empty when it will be, or nothing is planned.

    The tables of a run without capture are not among them: that choice was made at setup.
    """
    run = find_run(config.resolve(where.target, where.project))
    if run.plan is None or run.state == CUTOVER or not run.options.get("capture"):
        return ()
    return plan_from_json(run.plan).rollback_problems


def rollback_told(run: Run) -> tuple[str, ...]:
    """Whether a rollback will be possible after the cutover of this run, in lines; empty once it is cut over."""
    if run.plan is None or run.state not in (MIGRATING, VERIFIED):
        return ()
    if not run.options.get("capture"):
        return ("Rollback after the cutover: not possible, the run has no capture.",)
    problems = plan_from_json(run.plan).rollback_problems
    if problems:
        return ("Rollback after the cutover: not possible:", *(f"  {problem}" for problem in problems))
    return ("Rollback after the cutover: possible.",)


def cleanup(where: Endpoints, drop_source: str | None, confirm: Callable[[], None], progress_: Progress) -> Run:
    """Drop what the run made; the journal stays as history.

    :param drop_source: the old database's exact name to have it dropped too; None keeps it.
    :param confirm: called when nothing refuses, before anything is dropped; raises to stop.
    """
    target = config.resolve(where.target, where.project)
    run = find_run(target)
    cleaning.refuse_before_cutover(run)
    if drop_source is not None:
        cleaning.refuse_other_name(run, drop_source)
    if run.state == CLEANED and (drop_source is None or not cleaning.source_is_there(_source_of(run, where), run)):
        progress_.say("cleaned up already")
        return run
    confirm()
    if run.state == CUTOVER:
        with _holding(where, "cleanup", progress_) as (context, _):
            cleaning.cleanup(context)
            run = context.run()
    if drop_source is not None:
        with _telling("cleanup"):
            cleaning.drop_source_database(_source_of(run, where), drop_source)
        progress_.say(f"dropped the database {drop_source}")
    return run


def abort(where: Endpoints, confirm: Callable[[], None], progress_: Progress) -> Run:
    """Give the run up; the source is as it was, the target empty but for the journal.

    :param confirm: as in ``cleanup``.
    """
    target = config.resolve(where.target, where.project)
    run = find_run(target)
    if run.state == ABORTED:
        progress_.say(f"nothing to abort: run {run.short} is {run.state}")
        return run
    cleaning.refuse_after_cutover(run)
    confirm()
    with _holding(where, "abort", progress_) as (context, _):
        cleaning.abort(context)
        return context.run()


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
    with _telling(kind), Session(target, "request", run.short) as session, session.transaction() as tx:
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
    with _telling("throttle"), Session(target, "request", run.short) as session, session.transaction() as tx:
        return run, _limit(tx, run, given, off=off)


def _limit(tx: Transaction, run: Run, given: Throttle, *, off: bool = False) -> Throttle:
    before = Throttle() if off else throttle_from_json(leases.limits(tx, run.id))
    limits = before.with_limits(given)
    leases.ask(tx, run.id, "throttle", runs.actor(), asdict(limits))
    runs.note(tx, run.id, run.epoch, "throttle", asdict(limits))
    return limits


def build_database(name: str, project: Path) -> tuple[Database, int]:
    """Medium 1 on its own: build a database's schema in one transaction; how many statements."""
    if not name:
        raise UsageError("which database is to be built?", why="--apply builds one", fix="name it with --env")
    database = config.resolve(name, project)
    files = build.collect(database.schema_dir or project / config.SCHEMA, database.include, database.exclude)
    with _telling("build"), Session(database, "build", user_sql=True) as session, session.transaction() as tx:
        tx.pg.execute(sql.SQL("SET LOCAL row_security = on"))
        # Nothing but DDL happens here: the database's event triggers fire, unlike during a run.
        tx.pg.execute(
            "SELECT set_config('event_triggers', 'on', true) WHERE current_setting('event_triggers', true) = 'off'"
        )
        return database, build.apply(tx.pg, files)


def ddl(environment: str | None, project: Path) -> str:
    """Every DDL file in its order as one text; an environment's include and exclude hold."""
    if environment is None:
        return build.render(build.collect(project / config.SCHEMA, (), ()))
    database = config.resolve(environment, project)
    return build.render(
        build.collect(database.schema_dir or project / config.SCHEMA, database.include, database.exclude)
    )
