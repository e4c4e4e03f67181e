"""``plan`` and ``preview``, and the plan of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from confiture import config, mapping
from confiture.catalog_model import Catalog
from confiture.commands import plan_file
from confiture.commands.databases import both_databases, find_run, target_of
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.config import Database
from confiture.errors import Fault, MissingPrivileges, Refused, UsageError
from confiture.journal.model import Run
from confiture.log import log
from confiture.mapping import Mapping
from confiture.plan import free_connections, index_builds, privileges
from confiture.plan.model import (
    RECOPY_MB,
    SOURCE_CONNECTIONS,
    TARGET_CONNECTIONS,
    Options,
    Plan,
    TablePlan,
    plan_from_json,
)
from confiture.postgres import yielding
from confiture.postgres.session import Session, Transaction
from confiture.runner.context import Context
from confiture.schema_to_schema import blockers, plan_store, reverse, setup
from confiture.schema_to_schema.outcomes import Blocker
from confiture.schema_to_schema.plan_store import Planned
from confiture.schema_to_schema.preconditions import connections, databases, functions, publications
from confiture.states import CUTOVER, MIGRATING, SETUP, VERIFIED
from confiture.types import NAMES_SHOWN, Json, did_you_mean, shell_word, some


def mapping_of(run: Run | None, run_options: RunOptions) -> tuple[Mapping, tuple[Fault, ...]]:
    """The mapping that is named now, else the recorded mapping; with the faults that parsing found."""
    if run_options.mapping is not None:
        return mapping.load(run_options.mapping)
    return mapping.parse(run.mapping or "", run.mapping_file or Mapping().file) if run else (Mapping(), ())


def options_of(run_options: RunOptions, stored: Json, fdw: Json) -> Options:
    """The options of the plan: as given, else as recorded, else the defaults.

    :param fdw: as in :func:`confiture.schema_to_schema.plan_store.fdw_facts`.
    """

    def chosen(name: str) -> Any:
        given = getattr(run_options, name)
        return given if given is not None else stored.get(name)

    capture, recopy_mb = chosen("capture"), chosen("recopy_mb")
    return Options(
        chunk_rows=chosen("chunk_rows"),
        strategy=chosen("strategy"),
        fdw_problem=fdw.get("problem"),
        near=fdw.get("near", True),
        capture=True if capture is None else bool(capture),
        recopy_mb=RECOPY_MB if recopy_mb is None else recopy_mb,
        first="database" not in stored,
        ddl=stored.get("ddl"),
        agreed={t.target: t.strategy for t in run_options.agreed.tables} if run_options.agreed is not None else {},
    )


def recorded_options(options: Options) -> Json:
    """The options that the journal records."""
    return {
        "chunk_rows": options.chunk_rows,
        "strategy": options.strategy,
        "capture": options.capture,
        "recopy_mb": options.recopy_mb,
    }


def stored_plan(run: Run, given: Mapping, options: Options) -> Plan | None:
    """The recorded plan; None when it was made from another mapping or other options."""
    chosen = recorded_options(options)
    same = given.text == (run.mapping or "") and chosen == {name: run.options.get(name) for name in chosen}
    return plan_from_json(run.plan) if run.plan is not None and same else None


def make(where: Endpoints, run_options: RunOptions, *, accept_fsync_off: bool = True) -> Planned:
    """The plan of a run that may not exist yet. Nothing is changed.

    :raises FaultyInput: with all faults of the mapping.
    :raises Refused: when setup would refuse.
    """
    source, target = both_databases(where)
    with translated("plan"):
        here = setup.identity_of(source)
        exists = setup.database_exists(target)
        there = setup.identity_of(target) if exists else None
        databases.check(here, there, accept_fsync_off=accept_fsync_off)
        connections.check(here, there)
        missing = setup.missing_privileges(here, there, target)
        with Session(target, "setup") as session:
            run = setup.known_run(session, here, look=True) if exists else None
        if run is None:
            check_publications(source, run_options)
        planned = propose(source, target, run, run_options, exists=exists, missing=missing)
        captured = options_of(run_options, run.options if run else {}, {}).capture
        waits = _blockers(source, planned.plan) if run is None and captured else ()
        created = None if exists else _created(where, source, target)
        shown = replace(planned.plan, notes=(*planned.plan.notes, *_resources(planned, run_options)))
        state = run.state if run else None
        return replace(planned, plan=shown, state=state, captured=captured, blockers=waits, created=created)


def _resources(planned: Planned, run_options: RunOptions) -> Iterator[str]:
    """The connections and index builds of a ``migrate`` with these options, in words."""
    servers = planned.source.identity, planned.target.identity
    here, there = free_connections.WORKER
    jobs, reduced = free_connections.permitted(*servers, run_options.jobs or 1, free_connections.WORKER)
    workers = jobs if jobs > 1 else 0
    copying = f"; up to {workers} chunks are copied at a time" if workers else ""
    yield (
        f"the run uses up to {SOURCE_CONNECTIONS + here * workers} connections to the source and"
        f" {TARGET_CONNECTIONS + there * workers} connections to the target at a time{copying}"
    )
    builds = index_builds.of_servers(*servers, run_options.index_jobs)
    yield f"{builds}; migrate --index-jobs sets how many"
    yield from filter(None, (reduced, builds.reduced))


def _created(where: Endpoints, source: Database, target: Database) -> str:
    """The database that setup would create; a name that resembles an environment may be a mistake."""
    host, port = config.place(target.conninfo)
    place = f" at {host}{f':{port}' if port is not None else ''}" if host is not None else ""
    unknown = target.environment is None and target.name == where.target
    close = did_you_mean(where.target, config.environments(where.project)) if unknown else ""
    more = [note for note in (close, setup.locale_problem(source, target)) if note]
    return "; ".join([f"setup creates the database {target.dbname}{place}", *more])


def _blockers(source: Database, plan: Plan) -> tuple[Blocker, ...]:
    with Session(source, "plan") as session, session.transaction(read_only=True) as tx:
        return tuple(blockers.lasting(tx, [t.source for t in plan.tables]))


def next_command(
    where: Endpoints,
    run_options: RunOptions,
    planned: Planned,
    written: Path | None = None,
    more: Sequence[str] = (),
) -> str:
    """The command that follows the plan, with the options of the plan, quoted for a shell.

    :param written: the file of the plan, which setup is to be given; None when there is none.
    :param more: words of the command that only setup accepts.
    """
    if planned.state is not None:
        return where.naming.command("migrate" if planned.state == SETUP else "status")
    source = (config.public_form(where.source) or where.source) if where.source is not None else None
    given = {
        "--source": source,
        "--mapping": run_options.mapping,
        "--chunk-rows": run_options.chunk_rows,
        "--strategy": run_options.strategy,
        "--source-seen-from-target": run_options.seen_as,
        "--recopy-mb": run_options.recopy_mb,
        "--plan": written or run_options.agreed_file,
        "--target-disk": run_options.target_disk,
    }
    words = [word for name, value in given.items() if value is not None for word in (name, shell_word(str(value)))]
    words += ["--no-capture"] if run_options.capture is False else []
    words += ["--accept-publication"] if run_options.accept_publication else []
    words += ["--no-sample"] if not run_options.sample else []
    words += ["--accept-small-disk"] if run_options.accept_small_disk else []
    return where.naming.command(" ".join(("setup", *words, *more)))


def check_publications(source: Database, run_options: RunOptions) -> None:
    """:raises Refused: when a publication of the source would include the run's own tables."""
    with Session(source, "plan") as session, session.transaction(read_only=True) as tx:
        publications.check(tx, accepted=run_options.accept_publication)


def propose(
    source: Database,
    target: Database,
    run: Run | None,
    run_options: RunOptions,
    *,
    exists: bool,
    missing: Sequence[str] = (),
) -> Planned:
    """The recorded plan of a run, else a new plan.

    :param exists: whether the target database exists.
    :param missing: privileges on the databases that the roles lack, which are reported with those on their objects.
    :raises MissingPrivileges: with everything that the roles lack on both sides, as far as it can be read.
    """
    if run is not None and missing:
        raise privileges.refusal(missing)
    given, faults = mapping_of(run, run_options)
    # The DDL is tried in the target, or in the server's own database while the target does not exist.
    look_at = target if exists else replace(target.with_dbname("postgres"), search_path=target.search_path)
    with yielding.watching(log.info), Session(source, "plan") as a, Session(look_at, "plan") as b:
        recorded = run.fdw if run else None
        fdw = recorded or plan_store.fdw_facts(a, b, run_options.seen_as)
        options = options_of(run_options, run.options if run else {}, fdw)
        stored = stored_plan(run, given, options) if run else None
        if stored is not None:
            plan_file.refuse_other(run_options.agreed, stored, stored=True)
            return Planned(stored, plan_store.read_catalog(a)[0], plan_store.read_catalog(b)[0])
        with ExitStack() as stack:
            built, more = _new_schema(stack, b, look_at, source, target, exists=exists, blind=bool(missing))
            if built is None or missing:
                there = None if built is None else built[1]
                raise plan_store.missing_privileges(a, there, given, options, [*missing, *more])
            tx, there, ddl = built
            options = replace(options, ddl=options.ddl or ddl)
            planned = plan_store.create(a, there, given, faults, options)
            if options.capture:
                plan = reverse.refuse_faulty(tx, planned.plan, given, look_at.search_path)
                planned = replace(planned, plan=plan)
            plan_file.refuse_other(run_options.agreed, planned.plan)
            functions.check(source, tx, planned.plan, there, look_at.search_path)
            return planned


def _new_schema(
    stack: ExitStack,
    session: Session,
    look_at: Database,
    source: Database,
    target: Database,
    *,
    exists: bool,
    blind: bool,
) -> tuple[tuple[Transaction, Catalog, str | None] | None, Sequence[str]]:
    """What :func:`plan_store.as_built` yields; None when too many privileges are missing, with the DDL's.

    :param blind: whether privileges on the databases are missing, of which any refusal here may be a consequence.
    """
    try:
        found = plan_store.catalog_of(session) if exists else None
        return stack.enter_context(plan_store.as_built(look_at, found)), ()
    except MissingPrivileges as error:
        return None, error.reasons
    except Refused as error:
        if blind:
            return None, ()
        if exists or "missing privilege" not in error.what:
            raise
        raise Refused(
            "the DDL cannot be tried before the target database exists",
            why=f"in the database {look_at.dbname} of its server: {error.why}",
            fix=f"run {setup.create_statement_of(source, target)} there, then plan again; or run setup, which plans in"
            " the database that it creates, and drops it when the plan is refused",
        ) from error


def preview(
    where: Endpoints, run_options: RunOptions, table: str, rows: int
) -> list[tuple[dict[str, str | None], dict[str, str | None]]]:
    """Rows of a target table before and after the mapping: (source row, target row), as text. Nothing is changed.

    :raises UsageError: when the plan has no such table.
    """
    planned = make(where, run_options)
    chosen = table_named(planned.plan, table)
    source, _ = both_databases(where)
    with (
        translated("preview"),
        yielding.watching(log.info),
        Session(source, "preview", user_sql=True) as session,
    ):
        return plan_store.preview(session, chosen, planned.source.by_ref[chosen.source], rows)


def plan_run(context: Context, run: Run, run_options: RunOptions) -> Plan:
    """The run's plan: as recorded, or recorded again for another mapping or other options."""
    options = options_of(run_options, run.options, run.fdw or {})
    given, faults = mapping_of(run, run_options)
    stored = stored_plan(run, given, options)
    if stored is not None and not run_options.restart:
        plan_file.refuse_other(run_options.agreed, stored, stored=True)
        plan_store.ensure_views(context, stored)
        return stored
    found = plan_store.create(context.source, plan_store.target_catalog(context.target), given, faults, options)
    if run.options.get("capture"):
        with context.beside("views", user_sql=True, side="target") as session, session.rehearsal() as tx:
            path = context.target.database.search_path
            found = replace(found, plan=reverse.refuse_faulty(tx, found.plan, given, path))
    plan_file.refuse_other(run_options.agreed, found.plan)
    return plan_store.store(context, given, found, run_options.restart, {**run.options, **recorded_options(options)})


def table_named(plan: Plan, name: str) -> TablePlan:
    """The table of the target that is called so, with or without its schema, quoted or not.

    :raises UsageError: when the plan has no such table.
    """
    for table in plan.tables:
        if name in (str(table.target), table.target.name, f"{table.target.schema}.{table.target.name}"):
            return table
    close = did_you_mean(name, [word for t in plan.tables for word in (t.target.name, str(t.target))])
    raise UsageError(
        f"the plan has no table {name}",
        why=f"it has {some([str(t.target) for t in plan.tables], NAMES_SHOWN)}; {close}".removesuffix("; "),
        fix="name a table of the target; plan --all prints every table",
    )


def rollback_problems(where: Endpoints) -> tuple[str, ...]:
    """Why a rollback after the cutover will not be possible; empty when it will be possible, or there is no plan.

    A run without capture has no problems here: that choice was made at setup.
    """
    run = find_run(target_of(where))
    if run.plan is None or run.state == CUTOVER or not run.options.get("capture"):
        return ()
    return plan_from_json(run.plan).rollback_problems


def rollback_outlook(run: Run) -> tuple[str, ...]:
    """Lines that state whether a rollback will be possible after the cutover; empty after the cutover."""
    if run.plan is None or run.state not in (MIGRATING, VERIFIED):
        return ()
    if not run.options.get("capture"):
        return ("Rollback after the cutover: not possible, the run has no capture.",)
    problems = plan_from_json(run.plan).rollback_problems
    if problems:
        return ("Rollback after the cutover: not possible:", *(f"  {problem}" for problem in problems))
    return ("Rollback after the cutover: possible.",)
