"""setup: the target database, the new schema in it, the journal, and the run's own things on both sides.

Every step is journaled; killed anywhere, the same command finishes it. The one act that cannot be
journaled is making the database itself.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from confiture import build, catalog
from confiture.catalog import Identity
from confiture.config import Database
from confiture.copy import foreign_server
from confiture.errors import CannotConnect, Held, Refused
from confiture.failpoints import failpoint
from confiture.journal import built_objects, deferred_objects, runs, schema, source
from confiture.journal.runs import Run
from confiture.naming import Naming
from confiture.postgres.session import Session, Transaction, claiming
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Step, run_steps
from confiture.schema_to_schema import foreign_keys, suspended_objects
from confiture.schema_to_schema.preconditions import databases, empty_target
from confiture.sql import load
from confiture.types import quoted


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """What setup was asked for.

    :ivar seen_as: how the target's server reaches the source; None for as we do.
    :ivar capture: the application writes meanwhile.
    """

    source: Database
    target: Database
    seen_as: str | None = None
    encoding: str | None = None
    locale: str | None = None
    accept_fsync_off: bool = False
    capture: bool = True


def identity_of(database: Database) -> Identity:
    """Which database a name means now."""
    with Session(database, "setup") as session, session.transaction(read_only=True) as tx:
        return catalog.identity(tx)


def database_exists(target: Database) -> bool:
    """Whether the target database is there; where it does not let us in, its server is asked.

    :raises CannotConnect: when the server itself cannot be reached.
    """
    try:
        return _lets_in(target)
    except CannotConnect as refused:
        for maintenance in ("postgres", "template1"):
            try:
                with Session(target.with_dbname(maintenance), "setup") as session, session.transaction() as tx:
                    row = tx.pg.execute("SELECT 1 FROM pg_database WHERE datname = %s", (target.dbname,)).fetchone()
            except CannotConnect:
                continue
            return row is not None and _lets_in(target)
        raise refused


def _lets_in(target: Database) -> bool:
    """It may have been made a moment ago, or refuse us for a reason that is raised here."""
    with Session(target, "setup") as session:
        return bool(session.backend)


@contextmanager
def target_database(wanted: SetupRequest) -> Iterator[Identity]:
    """Have the target database there for the block, and give the source's identity.

    One that is made here goes again when the block raises: what is refused leaves nothing behind. A
    crash leaves an empty database, which the next setup takes as it is.

    :raises Refused: on one database for both, or one that cannot be relied on.
    """
    source = identity_of(wanted.source)
    databases.check(source, None, accept_fsync_off=wanted.accept_fsync_off)
    made = not database_exists(wanted.target) and _create_database(wanted, source)
    failpoint("setup.database_made")
    try:
        with _alone(wanted.target):
            databases.check(source, identity_of(wanted.target), accept_fsync_off=wanted.accept_fsync_off)
            yield source
    except BaseException:
        if made:
            _drop_database(wanted.target)
        raise


@contextmanager
def _alone(target: Database) -> Iterator[None]:
    """Two setups at once would both rehearse and install: the second waits, and finds what the first made.

    :raises Held: when the other is not done in ALONE_SECONDS; it may be frozen.
    """
    with Session(target, "setup") as session:
        deadline = time.monotonic() + ALONE_SECONDS
        while session.pg.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (_INSTALL_LOCK,)).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise _other_setup(session, target)
            time.sleep(0.1)
        yield


def _other_setup(session: Session, target: Database) -> Held:
    row = session.pg.execute(
        "SELECT pid FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s AND database ="
        " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        (_INSTALL_LOCK,),
    ).fetchone()
    pid = row[0] if row is not None else "gone by now"
    return Held(
        f"another setup of {target.name} is under way",
        why=f"it has been for {ALONE_SECONDS} s or more; its server process is {pid}",
        fix="wait for it; if it is frozen, end it: SELECT pg_terminate_backend(...) on the target's server",
    )


def _create_database(wanted: SetupRequest, source: Identity) -> bool:
    """CREATE DATABASE with the source's encoding and locale, unless told otherwise; whether it was made here."""
    name = wanted.target.dbname or ""
    with Session(wanted.target.with_dbname("postgres"), "setup") as session:
        try:
            session.pg.execute(_create_statement(wanted, source, session.pg.info.server_version))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return False  # another setup was quicker, the second way by the blink of an eye
        except psycopg.errors.InsufficientPrivilege as error:
            raise Refused(
                f"the database {quoted(name)} cannot be made",
                why=str(error.diag.message_primary),
                fix=f"ALTER ROLE {quoted(session.pg.info.user)} CREATEDB; or make the database yourself, owned by it",
            ) from None
        except psycopg.Error as error:
            raise Refused(
                f"the database {quoted(name)} cannot be made with the source's encoding and locale",
                why=str(error.diag.message_primary),
                fix="name others with --encoding and --locale",
            ) from None
    return True


def _create_statement(wanted: SetupRequest, source: Identity, server_version: int) -> sql.Composed:
    parts: list[sql.Composable] = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
            sql.Identifier(wanted.target.dbname or ""), sql.Literal(wanted.encoding or source.encoding)
        )
    ]
    collate, ctype = (wanted.locale, wanted.locale) if wanted.locale else (source.collate, source.ctype)
    parts.append(sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(sql.Literal(collate), sql.Literal(ctype)))
    provider = _PROVIDERS.get(source.locale_provider)
    if not wanted.locale and provider is not None and source.locale:
        parts.append(sql.SQL(provider).format(sql.Literal(source.locale)))
    elif server_version >= 150000:
        parts.append(sql.SQL("LOCALE_PROVIDER libc"))
    return sql.SQL(" ").join(parts)


def _drop_database(target: Database) -> None:
    with Session(target.with_dbname("postgres"), "setup") as session:
        # In use: another setup has found it by now.
        with suppress(psycopg.errors.ObjectInUse):
            session.pg.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(target.dbname or "")))


def known_run(target: Database, source: Identity) -> Run | None:
    """The target's live run, None when there is none and one may begin; only an older journal is upgraded.

    :raises Refused: a live run of another source, rows in the target, a journal newer than this tool.
    """
    with Session(target, "setup") as session:
        schema.keep_up(session)
        with session.transaction(read_only=True) as tx:
            return _known_run(tx, source)


def _known_run(tx: Transaction, source: Identity) -> Run | None:
    have = schema.version(tx)
    schema.refuse_newer(have)
    run = runs.live(tx) if have else None
    if run is None:
        empty_target.check(tx, catalog.read(tx))
    else:
        _refuse_other_source(run, source)
    return run


def begin(wanted: SetupRequest, source: Identity) -> Run:
    """The target's live run, made here if there is none: the journal and the run's row in one commit.

    :raises Refused: as ``known_run``, and when the DDL to build cannot be used.
    """
    with Session(wanted.target, "setup") as session:
        with session.transaction() as tx:
            claiming(tx)
            run = _known_run(tx, source)
            if run is None:
                if not catalog.read(tx).tables:
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


#: The step after which setup is through.
LAST_STEP = "foreign server"

#: Seconds to wait for another setup; one that is at work is done sooner.
ALONE_SECONDS = 45

#: Any number that nobody else is likely to lock in this database.
_INSTALL_LOCK = 0x636F6E66

#: How CREATE DATABASE names a locale of another provider than libc.
_PROVIDERS: dict[str, LiteralString] = {
    "i": "LOCALE_PROVIDER icu ICU_LOCALE {}",
    "b": "LOCALE_PROVIDER builtin BUILTIN_LOCALE {}",
}


def _refuse_other_source(run: Run, source: Identity) -> None:
    """:raises Refused: when the run is of another source than the one named."""
    known = run.source_identity
    if (known["system_identifier"], known["oid"]) != (source.system_identifier, source.oid):
        raise Refused(
            f"the target has a live run {run.short} from another source",
            why=f"it moves {run.source_name} ({known['database']}), not {source.database}",
            fix=f"finish it, or give it up: {Naming(run.target_name).command('abort')}",
        )


def setup(context: Context, wanted: SetupRequest) -> None:
    """Everything setup does under the lease, journaled step by step."""
    run_steps(
        context,
        "setup",
        (
            Step("schema of the run on the source", outside=_source_schema),
            Step("schema of the run on the target", act=_target_schema),
            Step("new schema built in the target", act=lambda c, tx: _build(c, tx, wanted)),
            Step("foreign keys and triggers taken off", act=_take_off, outside=_fresh_session),
            Step(LAST_STEP, act=lambda c, tx: _foreign_server(c, tx, wanted.seen_as)),
        ),
    )


def _fresh_session(context: Context) -> None:
    """Throw the session away that ran the user's DDL: it may have set anything."""
    context.target.close()


def _source_schema(context: Context) -> None:
    with context.source.transaction() as tx:  # schema, tables and fence commit together
        source.create(tx, context.schema, context.epoch)
        failpoint("setup.source_schema.before_commit")


def _target_schema(context: Context, tx: Transaction) -> None:
    source.create_on_target(tx, context.schema)


def objects(tx: Transaction) -> list[tuple[str, str]]:
    """(kind, identity) of every top-level object of the user's, in the order they were made."""
    return [(row[0], row[1]) for row in tx.pg.execute(load("objects.sql")["objects"]).fetchall()]


def _build(context: Context, tx: Transaction, wanted: SetupRequest) -> None:
    """Apply the DDL in the step's own transaction, and write down what it made."""
    if catalog.read(tx).tables:
        context.progress.say("the target's tables are there already; no DDL is applied")
        return
    files = _ddl_files(wanted.target)
    before = set(objects(tx))
    path = sql.SQL(", ").join(map(sql.Identifier, wanted.target.search_path))
    with tx.pg.transaction():
        tx.pg.execute(sql.SQL("SET LOCAL search_path = {}").format(path))
        tx.pg.execute("SET LOCAL row_security = on")
        count = build.apply(tx.pg, files)
    # The user's DDL may have set anything: back to ours for what follows in this transaction.
    tx.pg.execute("SET LOCAL search_path = pg_catalog")
    tx.pg.execute("SET LOCAL row_security = off")
    made = [item for item in objects(tx) if item not in before]
    built_objects.record(tx, context.run_id, made)
    runs.update(tx, context.run_id, ddl_digest=build.digest(files))
    context.progress.say(f"built: {count} statements from {len(files)} files")


def _take_off(context: Context, tx: Transaction) -> None:
    """What acts while rows are brought over is off for the load, recorded in the same commit."""
    found = catalog.read(tx)
    for item in suspended_objects.publications(found):
        context.progress.say(f"publication {quoted(item.name)} publishes nothing until the cutover")
        deferred_objects.add(tx, context.run_id, item)
        suspended_objects.disable(tx, item)
    for item in suspended_objects.unvalidated(found, (t.ref for t in found.tables)):
        deferred_objects.add(tx, context.run_id, item)
        suspended_objects.disable(tx, item)
    for table in found.tables:
        for key in table.foreign_keys:
            name = sql.Identifier(key.table.schema, key.table.name)
            item = foreign_keys.described(key)
            deferred_objects.add(tx, context.run_id, item)
            tx.pg.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(name, sql.Identifier(key.name)))
        for item in (*suspended_objects.triggers(table), *suspended_objects.rules(table)):
            deferred_objects.add(tx, context.run_id, item)
            suspended_objects.disable(tx, item)


def _foreign_server(context: Context, tx: Transaction, seen_as: str | None) -> None:
    """The foreign server, or the reason why COPY is used instead."""
    had = tx.pg.execute("SELECT 1 FROM pg_extension WHERE extname = 'postgres_fdw'").fetchone() is not None
    problem = foreign_server.problem(tx, context.source, seen_as)
    if problem is None:
        foreign_server.install(tx)
        foreign_server.create(tx, context.source, context.schema, seen_as)
    else:
        context.progress.say(f"COPY it is: {problem}")
    made = {"server": context.schema, "extension": not had, "problem": problem}
    runs.update(tx, context.run_id, fdw=made)
