"""What each command does from end to end: name the databases, hold the run, take the step, move the state.

The commands of the CLI parse, call one of these, and render what it returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from confiture import build, config, machine, mapping
from confiture.catalog import Identity
from confiture.checks import databases
from confiture.config import Database, UnknownEnvironment
from confiture.db import Session, failure
from confiture.errors import DifferencesFound, Fault, Refused, UsageError
from confiture.faults import failpoint
from confiture.journal import progress, runners, runs, schema, verifications
from confiture.journal.runs import Run
from confiture.mapping import Mapping
from confiture.plan import Options, Plan, plan_from_json
from confiture.runner import Context, Progress, hold
from confiture.states import CLEANED, CUTOVER, FINAL, MIGRATING, SETUP, VERIFIED
from confiture.steps import cleanup as cleaning
from confiture.steps import cutover as cutting
from confiture.steps import follow as following
from confiture.steps import migrate as migrating
from confiture.steps import planning
from confiture.steps import setup as setting_up
from confiture.steps import switch as switching
from confiture.steps import verify as verifying
from confiture.steps.cutover import Limits
from confiture.steps.planning import Planned
from confiture.steps.setup import Wanted
from confiture.steps.verify import Result
from confiture.types import TableRef


@dataclass(frozen=True)
class Where:
    """Which databases a command is about, as the user named them.

    :ivar source: None after setup, when the journal knows it.
    :ivar project: the folder with ``db/``.
    """

    target: str
    source: str | None = None
    project: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True)
class Choices:
    """What ``plan`` and ``migrate`` may be told; None leaves what the journal has, else the default."""

    mapping: Path | None = None
    chunk_rows: int | None = None
    strategy: str | None = None
    fdw_threshold: int | None = None
    seen_as: str | None = None
    restart: tuple[str, ...] = ()


# Databases and runs --------------------------------------------------------------------------------


def _databases(where: Where) -> tuple[Database, Database]:
    """Source and target of a run that may not be there yet."""
    if where.source is None:
        raise UsageError("which database is the source?", fix="name it with --source")
    source = config.resolve(where.source, where.project)
    try:
        return source, config.resolve(where.target, where.project)
    except UnknownEnvironment:
        if source.environment is None:
            raise
    return source, source.with_dbname(where.target)


def find_run(target: Database) -> Run:
    """The target's live run, else its last.

    :raises Refused: when there never was one, or the journal is newer than this tool.
    """
    if not setting_up.database_exists(target):
        raise Refused(f"there is no database {target.dbname or target.name}", fix="start with setup: it makes it")
    with Session(target, "command") as session, session.transaction(read_only=True) as tx:
        have = schema.version(tx)
        schema.refuse_newer(have)
        run = runs.latest(tx) if have else None
    if run is None:
        raise Refused(
            f"{target.name} has no run", fix="start with: confiture migrate schema-to-schema setup --source ... "
        )
    return run


def _source_of(run: Run, where: Where) -> Database:
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
            fix=f"name the right {side}, or abort the run",
        )


@contextmanager
def _holding(where: Where, command: str, progress_: Progress) -> Iterator[tuple[Context, Run]]:
    target = config.resolve(where.target, where.project)
    run = find_run(target)
    if run.state in FINAL:
        raise Refused(f"run {run.short} is {run.state}: it is over", fix="a new setup starts a new run")
    source = _source_of(run, where)
    accept = bool(run.options.get("accept_fsync_off"))
    here, there = setting_up.identity_of(source), setting_up.identity_of(target)
    _refuse_other(run, "source", run.source_identity, here)
    _refuse_other(run, "target", run.target_identity, there)
    databases.check(here, there, accept_fsync_off=accept)
    with _telling(command), hold(source, target, run, command, progress_) as context:
        yield context, context.run()


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
        assert run is not None
        machine.fire(tx, run, trigger, detail)
        failpoint(f"state.{trigger}.before_commit")
    failpoint(f"state.{trigger}.after_commit")


# Planning ------------------------------------------------------------------------------------------


def _read_mapping(path: Path | None) -> tuple[Mapping, tuple[Fault, ...]]:
    return (Mapping(), ()) if path is None else mapping.load(path)


def _options(choices: Choices, stored: dict[str, Any], fdw_problem: str | None) -> Options:
    def chosen(name: str) -> Any:
        given = getattr(choices, name)
        return given if given is not None else stored.get(name)

    threshold = chosen("fdw_threshold")
    return Options(
        chunk_rows=chosen("chunk_rows"),
        strategy=chosen("strategy"),
        fdw_problem=fdw_problem,
        **({"fdw_threshold": threshold} if threshold is not None else {}),
    )


def plan(where: Where, choices: Choices) -> Planned:
    """The plan of a run that may not be there yet; changes nothing.

    :raises FaultyInput: all faults of the mapping at once.
    """
    source, target = _databases(where) if where.source else _known_databases(where)
    exists = setting_up.database_exists(target)
    given, faults = _given_mapping(choices, target if exists else None)
    here = setting_up.identity_of(source)
    databases.check(here, setting_up.identity_of(target) if exists else None, accept_fsync_off=True)
    look_at = target if exists else target.with_dbname("postgres")
    with _telling("plan"), Session(source, "plan") as a, Session(look_at, "plan") as b:
        catalog = planning.target_catalog(b) if exists else planning.rehearsed_catalog(look_at)
        problem = planning.fdw_problem(a, b, choices.seen_as)
        return planning.make(a, catalog, given, faults, _options(choices, {}, problem))


def _given_mapping(choices: Choices, target: Database | None) -> tuple[Mapping, tuple[Fault, ...]]:
    """The mapping named, else the one a run of the target has stored."""
    if choices.mapping is None and target is not None:
        with Session(target, "plan") as session, session.transaction(read_only=True) as tx:
            run = runs.live(tx) if schema.version(tx) else None
        if run is not None and run.mapping:
            return mapping.parse(run.mapping, run.mapping_file or Mapping().file)
    return _read_mapping(choices.mapping)


def _known_databases(where: Where) -> tuple[Database, Database]:
    target = config.resolve(where.target, where.project)
    return _source_of(find_run(target), where), target


def preview(where: Where, choices: Choices, table: str, rows: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Rows of a target table before and after: (source row, target row), as text; changes nothing."""
    planned = plan(where, choices)
    chosen = next((t for t in planned.plan.tables if table in (str(t.target), t.target.name)), None)
    if chosen is None:
        raise UsageError(
            f"the plan has no table {table}", why=f"it has {', '.join(str(t.target) for t in planned.plan.tables)}"
        )
    source = _databases(where)[0] if where.source else _known_databases(where)[0]
    with Session(source, "preview", user_sql=True) as session, session.transaction(read_only=True) as tx:
        return planning.preview(tx, chosen, planned.source.by_ref[chosen.source], rows)


def _plan_run(context: Context, run: Run, choices: Choices) -> Plan:
    """The run's plan: as stored, or made anew where the mapping or the choices say something else."""
    problem = (run.fdw or {}).get("problem")
    options = _options(choices, run.options, problem)
    chosen = {"chunk_rows": options.chunk_rows, "strategy": options.strategy, "fdw_threshold": options.fdw_threshold}
    if choices.mapping is not None:
        given, faults = _read_mapping(choices.mapping)
    else:
        given, faults = mapping.parse(run.mapping or "", run.mapping_file or Mapping().file)
    stored = {k: run.options.get(k) for k in chosen}
    if run.plan is not None and given.text == (run.mapping or "") and chosen == stored:
        plan = plan_from_json(run.plan)
        planning.ensure_views(context, plan)
        return plan
    found = planning.make(context.source, planning.target_catalog(context.target), given, faults, options)
    if run.options.get("capture"):
        following.refuse_keyless(found.plan)
    restart = tuple(_table_named(found.plan, name) for name in choices.restart)
    plan = planning.store(context, given, found, restart)
    with context.fenced() as tx:
        runs.update(tx, context.run_id, options={**run.options, **chosen})
    return plan


def _table_named(plan: Plan, name: str) -> TableRef:
    for table in plan.tables:
        if name in (str(table.target), table.target.name, f"{table.target.schema}.{table.target.name}"):
            return table.target
    raise UsageError(f"the plan has no table {name}", why=f"it has {', '.join(str(t.target) for t in plan.tables)}")


# The five steps ------------------------------------------------------------------------------------


def setup(where: Where, choices: Choices, wanted: dict[str, Any], progress_: Progress) -> Run:
    """Target database, new schema, journal, the run's schemas; with a mapping also the plan.

    :raises Refused: on one database for both, rows in the target, a live run of another source.
    """
    source, target = _databases(where)
    _, faults = _read_mapping(choices.mapping)
    if faults:
        raise planning.faulty(faults)
    request = Wanted(source, target, seen_as=choices.seen_as, **wanted)
    with _telling("setup"):
        run = setting_up.begin(request)
    if target.environment is None and where.target not in config.environments(where.project) and source.environment:
        if where.target == target.dbname:
            config.write_environment(where.project, where.target, source.environment, where.target)
            progress_.say(f"wrote db/environments/{where.target}.yaml")
    if run.state != SETUP:
        progress_.say(f"setup is done already: run {run.short} is in state {run.state}")
        return run
    with _telling("setup"), hold(source, target, run, "setup", progress_) as context:
        setting_up.setup(context, request)
        if choices.mapping is not None:
            plan = _plan_run(context, context.run(), choices)
            if context.run().options.get("capture"):
                following.install(context, plan)
                following.close_target(context, plan)
        return context.run()


def migrate(where: Where, choices: Choices, progress_: Progress) -> tuple[Run, int]:
    """Copy what is not copied; the run after, and the rows copied by this call."""
    with _holding(where, "migrate", progress_) as (context, run):
        if run.state == CUTOVER:
            progress_.say("nothing to migrate: the target serves already")
            return run, 0
        _refuse_half_set_up(context)
        plan = _plan_run(context, run, choices)
        restart = [_table_named(plan, name) for name in choices.restart]
        unchanged = run.plan_hash == plan.hash
        if run.state == VERIFIED and not restart and unchanged:
            progress_.say("nothing to migrate: every row is copied and verified")
            return run, 0
        capture = bool(run.options.get("capture"))
        if capture and run.state in (SETUP, MIGRATING):
            # Committed before the first row is read: no write goes unseen.
            following.install(context, plan)
            following.close_target(context, plan)
        if run.state == SETUP:
            _fire(context, "begin")
        elif run.state == VERIFIED:
            _fire(context, "reopen", {"reason": "tables are copied again"})
        for table in restart:
            planning.restart_table(context, table)
        copied = migrating.copy_all(context, plan, capture=capture)
        return context.run(), copied


def _refuse_half_set_up(context: Context) -> None:
    with context.target.transaction(read_only=True) as tx:
        done = progress.step_done(tx, context.run_id, "setup", setting_up.LAST_STEP)
    if not done:
        raise Refused("setup is not finished", why="it stopped on the way", fix="run the same setup command again")


def verify(where: Where, report: Path | None, again: bool, progress_: Progress) -> tuple[Run, Result]:
    """Compare everything and move the run to ``verified``.

    :param report: where the differences are written, one JSON object a line.
    :raises DifferencesFound: after writing them down.
    """
    with _holding(where, "verify", progress_) as (context, run):
        if run.state not in (MIGRATING, VERIFIED):
            raise Refused(
                f"a run in state {run.state} is not verified",
                why="nothing is copied yet" if run.state == SETUP else "the target serves already",
            )
        plan = migrating.stored_plan(context)
        if run.state == VERIFIED and not again:
            found = _last_result(context, plan)
            if found is not None:
                progress_.say("verified already; --again compares everything anew")
                return run, found
        planning.ensure_views(context, plan)
        result = verifying.verify(context, plan, capture=bool(run.options.get("capture")))
        if result.equal and run.state == MIGRATING:
            _fire(context, "verify", {"verification": result.number})
        elif not result.equal and run.state == VERIFIED:
            _fire(context, "reopen", {"reason": "verification found differences"})
        after = context.run()
    if not result.equal and report is not None:
        verifying.write_differences(report, result.differences)
    return after, result


def follow(where: Where, once: bool, progress_: Progress) -> tuple[Run, int]:
    """Bring over what the application changes, until a signal; the rows brought over.

    :param once: stop when the backlog is small instead.
    """
    with _holding(where, "follow", progress_) as (context, run):
        if not run.options.get("capture"):
            raise Refused(
                "this run does not capture writes", why="it was set up with --no-capture", fix="nothing to do"
            )
        if run.state not in (MIGRATING, VERIFIED):
            raise Refused(f"there is nothing to follow in state {run.state}", fix="migrate first")
        plan = migrating.stored_plan(context)
        planning.ensure_views(context, plan)
        verifying.refuse_unfinished(context)
        rows = following.follow(context, plan, once=once)
        return context.run(), rows


def _last_result(context: Context, plan: Plan) -> Result | None:
    with context.target.transaction(read_only=True) as tx:
        last = verifications.latest(tx, context.run_id, "verify")
        if last is None or last.verdict != "equal" or last.plan_hash != plan.hash:
            return None
        units = verifications.units(tx, context.run_id, last.number)
    return verifying.result_of(plan, last.number, units, ())


def differences_found(run: Run, result: Result, report: Path | None) -> DifferencesFound:
    """The error that ends a verify which found something."""
    first = result.differences[0] if result.differences else None
    return DifferencesFound(
        f"{len(result.differences)} differences between {run.source_name} and {run.target_name}",
        why=f"the first: {first.subject} {first.key or ''} {first.kind}" if first else "the counts differ",
        fix=f"they are in {report}; mend them, or copy a table again: migrate --restart-table NAME",
    )


def cutover(where: Where, limits: Limits, progress_: Progress) -> Run:
    """Switch to the target, for an application that is stopped."""
    with _holding(where, "cutover", progress_) as (context, run):
        if run.state == CUTOVER and run.cutover_phase in (None, "done"):
            progress_.say("cut over already: the target serves")
            return run
        plan = migrating.stored_plan(context)
        planning.ensure_views(context, plan)
        if run.options.get("capture"):
            cutting.refuse_unverified(context, plan)
            switching.switch(context, plan, limits)
        else:
            cutting.cutover(context, plan, limits)
        return context.run()


def cleanup(where: Where, drop_source: str | None, progress_: Progress) -> Run:
    """Drop what the run made; the journal stays as history."""
    target = config.resolve(where.target, where.project)
    run = find_run(target)
    if run.state == CLEANED:
        progress_.say("cleaned up already")
        return run
    with _holding(where, "cleanup", progress_) as (context, _):
        if drop_source is not None:
            cleaning.refuse_other_name(context, drop_source)
        cleaning.cleanup(context)
        if drop_source is not None:
            cleaning.drop_source_database(context, drop_source)
        return context.run()


def abort(where: Where, progress_: Progress) -> Run:
    """Give the run up; the source is as it was, the target empty but for the journal."""
    target = config.resolve(where.target, where.project)
    run = find_run(target)
    if run.state in FINAL:
        progress_.say(f"nothing to abort: run {run.short} is {run.state}")
        return run
    with _holding(where, "abort", progress_) as (context, _):
        cleaning.abort(context)
        return context.run()


def request(where: Where, kind: str) -> Run:
    """Ask whoever runs the run to pause or resume."""
    target = config.resolve(where.target, where.project)
    run = find_run(target)
    if run.state in FINAL:
        raise Refused(f"run {run.short} is {run.state}: there is nobody to ask")
    with Session(target, "request", run.short) as session, session.transaction() as tx:
        runners.ask(tx, run.id, kind, runs.actor())
        runs.note(tx, run.id, run.epoch, kind, {})
    return run


def build_database(name: str, project: Path) -> tuple[Database, int]:
    """Medium 1 on its own: build a database's schema in one transaction; how many statements."""
    database = config.resolve(name, project)
    files = build.collect(database.schema_dir or project / config.SCHEMA, database.include, database.exclude)
    with Session(database, "build", user_sql=True) as session, session.transaction() as tx:
        tx.pg.execute(sql.SQL("SET LOCAL row_security = on"))
        return database, build.apply(tx.pg, files)


def ddl(environment: str | None, project: Path) -> str:
    """Every DDL file in its order as one text; an environment's include and exclude hold."""
    if environment is None:
        return build.render(build.collect(project / config.SCHEMA, (), ()))
    database = config.resolve(environment, project)
    return build.render(
        build.collect(database.schema_dir or project / config.SCHEMA, database.include, database.exclude)
    )
