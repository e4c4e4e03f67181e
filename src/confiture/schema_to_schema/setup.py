"""setup: the target database, the new schema in it, the journal, and the run's own objects on both sides.

Every step is resumable: after a crash at any point, the same command completes it. The one action that the journal
cannot record is creating the database itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture import build, catalog
from confiture.catalog_model import Identity
from confiture.config import Database
from confiture.copy import foreign_server
from confiture.errors import CannotConnect, Refused
from confiture.failpoints import failpoint
from confiture.journal import approvals, built_objects, deferred_objects, runs, schema, source
from confiture.journal.model import Deferred, Run
from confiture.naming import Naming
from confiture.plan import privileges
from confiture.plan.forecast import Forecast
from confiture.postgres.create_database import PROVIDERS_SINCE, create_statement
from confiture.postgres.session import Session, Transaction, claiming
from confiture.runner.begin import exclusively, refuse_other_medium
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Step, run_steps
from confiture.schema_to_schema import forecast
from confiture.schema_to_schema.deferred_objects import describe, take_off
from confiture.schema_to_schema.preconditions import connections, databases, empty_target
from confiture.sql import load
from confiture.states import SCHEMA_TO_SCHEMA
from confiture.types import counted, quoted


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """The options of setup.

    :ivar seen_as: address of the source as the target's server reaches it; None for the address this process uses.
    :ivar capture: whether the application writes to the source during the run.
    :ivar require_approval: whether the cutover needs an approval.
    """

    source: Database
    target: Database
    seen_as: str | None = None
    encoding: str | None = None
    locale: str | None = None
    accept_fsync_off: bool = False
    capture: bool = True
    require_approval: bool = False


def identity_of(database: Database) -> Identity:
    """The identity of the database that the connection parameters name now."""
    with Session(database, "setup") as session:
        return identity_in(session)


def identity_in(session: Session) -> Identity:
    """The identity of the database that a session has reached."""
    with session.transaction(read_only=True) as tx:
        return catalog.identity(tx)


def missing_privileges(source: Identity, target: Identity | None, database: Database) -> list[str]:
    """The privileges that the roles lack on the databases themselves, each reason with its statement.

    :param target: None while ``database`` does not exist, which is then to be created.
    """
    reasons = list(privileges.of_database("source", source))
    if target is not None:
        return [*reasons, *privileges.of_database("target", target)]
    here = identity_of(database.with_dbname("postgres"))
    if not here.may_create_databases:
        role = quoted(here.role)
        reasons.append(
            f"the target database {quoted(database.dbname or '')} does not exist, and role {role} may not create it:"
            f" ALTER ROLE {role} CREATEDB"
        )
    return reasons


def database_exists(target: Database) -> bool:
    """Whether the target database exists; when connecting to it fails, its server's catalog is read.

    :raises CannotConnect: when the server itself cannot be reached.
    """
    try:
        return _accepts_connections(target)
    except CannotConnect as refused:
        for maintenance in ("postgres", "template1"):
            try:
                with Session(target.with_dbname(maintenance), "setup") as session, session.transaction() as tx:
                    row = tx.pg.execute("SELECT 1 FROM pg_database WHERE datname = %s", (target.dbname,)).fetchone()
            except CannotConnect:
                continue
            return row is not None and _accepts_connections(target)
        raise refused


def _accepts_connections(target: Database) -> bool:
    """Connect to the target: it may have been created a moment ago. A refused connection raises its reason here."""
    with Session(target, "setup") as session:
        return bool(session.backend)


@contextmanager
def target_database(wanted: SetupRequest, source: Identity, *, exists: bool) -> Iterator[tuple[Session, Identity]]:
    """Create the target database if it does not exist, for the block; yields a session to it, and its identity.

    A database created here is dropped when the block raises. A crash leaves an empty database, which the next setup
    uses.

    :raises Refused: when source and target are one database, or one of them is not durable.
    """
    known = identity_of(wanted.target) if exists else None
    databases.check(source, known, accept_fsync_off=wanted.accept_fsync_off)
    connections.check(source, known)
    created = not exists and _create_database(wanted, source)
    failpoint("setup.database_made")
    try:
        with exclusively(wanted.target) as session:
            target = identity_in(session)
            databases.check(source, target, accept_fsync_off=wanted.accept_fsync_off)
            databases.refuse_read_only(session)
            connections.check(source, target)
            yield session, target
    except BaseException:
        if created:
            _drop_database(wanted.target)
        raise


def _create_database(wanted: SetupRequest, source: Identity) -> bool:
    """Create the database, with the source's encoding and locale by default; whether this process created it."""
    name = wanted.target.dbname or ""
    with Session(wanted.target.with_dbname("postgres"), "setup") as session:
        try:
            session.pg.execute(_create_statement(wanted, source, session.pg.info.server_version))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return False  # another setup created it concurrently
        except psycopg.errors.InsufficientPrivilege as error:
            raise Refused(
                f"the database {quoted(name)} cannot be created",
                why=str(error.diag.message_primary),
                fix=f"ALTER ROLE {quoted(session.pg.info.user)} CREATEDB; or create the database with that owner",
            ) from None
        except psycopg.Error as error:
            raise Refused(
                f"the database {quoted(name)} cannot be created with the source's encoding and locale",
                why=str(error.diag.message_primary),
                fix="specify others with --encoding and --locale",
            ) from None
    return True


def create_statement_of(source: Database, target: Database) -> str:
    """The statement with which setup creates the target, with the source's encoding and locale."""
    version = identity_of(target.with_dbname("postgres")).version
    return _create_statement(SetupRequest(source, target), identity_of(source), version).as_string()


def locale_problem(source: Database, target: Database) -> str | None:
    """Why setup cannot create the target with the source's locale, with the option that it needs; None if it can."""
    found, version = identity_of(source), identity_of(target.with_dbname("postgres")).major
    name, since = PROVIDERS_SINCE.get(found.locale_provider, ("", 0))
    if version >= since:
        return None
    return f"PostgreSQL {version} lacks the source's locale provider {name}: run setup with --locale {found.collate}"


def _create_statement(wanted: SetupRequest, source: Identity, server_version: int) -> sql.Composed:
    name = wanted.target.dbname or ""
    return create_statement(name, source, server_version, encoding=wanted.encoding, locale=wanted.locale)


def _drop_database(target: Database) -> None:
    with Session(target.with_dbname("postgres"), "setup") as session:
        # In use: another setup has connected to it.
        with suppress(psycopg.errors.ObjectInUse):
            session.pg.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(target.dbname or "")))


def known_run(session: Session, source: Identity, *, look: bool = False) -> Run | None:
    """The target's live run; None when there is none and a new one may begin. An older journal is upgraded.

    :param session: to the target.
    :param look: change nothing; refuse an older journal.
    :raises Refused: when the live run has another source, the target holds rows, or its journal has a newer version.
    """
    if not look:
        schema.keep_up(session)
    with session.transaction(read_only=True) as tx:
        return _known_run(tx, source)


def _known_run(tx: Transaction, source: Identity) -> Run | None:
    have = schema.version(tx)
    schema.refuse_newer(have)
    schema.refuse_older(have)
    run = runs.live(tx) if have else None
    if run is not None:
        refuse_other_medium(run, SCHEMA_TO_SCHEMA)
    if run is None:
        empty_target.check(tx)
    else:
        _refuse_other_source(run, source)
    return run


def begin(session: Session, wanted: SetupRequest, source: Identity, expected: Forecast) -> Run:
    """The target's live run, created here if there is none: the journal, the run's row and its forecast in one commit.

    :param expected: recorded with a new run, so that ``status`` compares it with the actual values.

    :raises Refused: as :func:`known_run`, and when the DDL cannot be used.
    """
    with session.transaction() as tx:
        claiming(tx)
        run = _known_run(tx, source)
        if run is None:
            if not catalog.outlines(tx):
                build.render(_ddl_files(wanted.target))
            schema.install(tx)
            run = runs.create(
                tx,
                run_id=uuid.uuid4(),
                source=(wanted.source.name, wanted.source.public, source.as_json()),
                target=(wanted.target.name, catalog.identity(tx).as_json()),
                options={
                    "seen_as": wanted.seen_as,
                    "accept_fsync_off": wanted.accept_fsync_off,
                    "capture": wanted.capture,
                },
            )
            forecast.record(tx, run, expected)
        if wanted.require_approval:
            approvals.require(tx, run)
        failpoint("setup.run.before_commit")
    return run


def _ddl_files(target: Database) -> tuple[build.DdlFile, ...]:
    directory = target.schema_dir
    if directory is None or not directory.is_dir():
        raise Refused(
            "there is no new schema to build",
            why=f"the target is empty and {directory or 'db/schema'} does not exist",
            fix="put ordered DDL under db/schema/, or build the target's tables yourself",
        )
    return build.collect(directory, target.include, target.exclude)


#: The step that creates the run's schema on the source.
SOURCE_SCHEMA = "schema of the run on the source"
#: The last step of setup.
LAST_STEP = "foreign server"


def _refuse_other_source(run: Run, source: Identity) -> None:
    """:raises Refused: when the run is of another source than the one named."""
    known = run.source_identity
    if (known["system_identifier"], known["oid"]) != (source.system_identifier, source.oid):
        raise Refused(
            f"the target has a live run {run.short} from another source",
            why=f"it moves {run.source_name} ({known['database']}), not {source.database}",
            fix=f"complete it, or abort it: {Naming(run.target_name).command('abort')}",
        )


def setup(context: Context, wanted: SetupRequest) -> None:
    """The resumable steps of setup, under the lease."""
    run_steps(
        context,
        "setup",
        (
            Step(SOURCE_SCHEMA, outside=_source_schema),
            Step("schema of the run on the target", act=_target_schema),
            Step("new schema built in the target", act=build_schema),
            Step("foreign keys and triggers taken off", act=_take_off, outside=fresh_session),
            Step(LAST_STEP, act=lambda c, tx: _foreign_server(c, tx, wanted.seen_as)),
        ),
    )


def fresh_session(context: Context) -> None:
    """Close the session that executed the user's DDL, because the DDL may have changed its settings."""
    context.target.close()


def _source_schema(context: Context) -> None:
    # Durable together: the schema, its tables, and the fence.
    with context.source.transaction() as tx:
        source.create(tx, context.schema, context.epoch)
        failpoint("setup.source_schema.before_commit")


def _target_schema(context: Context, tx: Transaction) -> None:
    source.create_on_target(tx, context.schema)


def objects(tx: Transaction) -> list[tuple[str, str]]:
    """(kind, identity) of every top-level object of the user, in creation order."""
    return [(row[0], row[1]) for row in tx.pg.execute(load("objects.sql")["objects"]).fetchall()]


def build_schema(context: Context, tx: Transaction) -> None:
    """Execute the DDL of the target in the step's transaction if it has no tables; record the objects created."""
    if catalog.outlines(tx):
        context.progress.say("the target has tables already; no DDL is executed")
        return
    files = _ddl_files(context.facts.target)
    before = set(objects(tx))
    path = sql.SQL(", ").join(map(sql.Identifier, context.facts.target.search_path))
    with tx.pg.transaction():
        tx.pg.execute(sql.SQL("SET LOCAL search_path = {}").format(path))
        tx.pg.execute("SET LOCAL row_security = on")
        count = build.apply(tx.pg, files)
    # The user's DDL may have changed these settings. Set them again for the rest of the transaction.
    tx.pg.execute("SET LOCAL search_path = pg_catalog")
    tx.pg.execute("SET LOCAL row_security = off")
    created = [item for item in objects(tx) if item not in before]
    built_objects.record(tx, context.run_id, created)
    options = runs.get(tx, context.run_id).options
    runs.update(tx, context.run_id, options={**options, "ddl": build.digest(files)})
    context.progress.say(f"built: {counted(count, 'statement')} from {counted(len(files), 'file')}")


def _take_off(context: Context, tx: Transaction) -> None:
    """Take off what acts on rows that Confiture writes, and record it in the same commit."""
    found = catalog.read(tx)
    items: list[Deferred] = list(describe.publications(found))
    for publication in items:
        context.progress.say(f"publication {quoted(publication.name)} publishes nothing until the cutover")
    items += describe.unvalidated(found, (t.ref for t in found.tables))
    for table in found.tables:
        items += (describe.foreign_key(key) for key in table.foreign_keys)
        items += (*describe.triggers(table), *describe.rules(table))
    deferred_objects.add(tx, context.run_id, *items)
    for item in items:
        take_off(tx, item)


def _foreign_server(context: Context, tx: Transaction, seen_as: str | None) -> None:
    """The foreign server, or the reason why COPY is used instead."""
    existed = tx.pg.execute("SELECT 1 FROM pg_extension WHERE extname = 'postgres_fdw'").fetchone() is not None
    found = foreign_server.facts(tx, context.source, seen_as)
    if found["problem"] is None:
        foreign_server.install(tx)
        foreign_server.create(tx, context.source, context.schema, seen_as)
    elif not found["near"]:
        context.progress.say(f"using COPY because postgres_fdw is unavailable: {found['problem']}")
    runs.update(tx, context.run_id, fdw={"server": context.schema, "extension": not existed, **found})
