"""setup: the target database, the new schema in it, the journal, and the run's own things on both sides.

Every step is journaled; killed anywhere, the same command finishes it. The one act that cannot be
journaled is making the database itself: a crash right after leaves an empty database, which the
next setup takes as it is.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from confiture import build, catalog
from confiture.catalog import Identity
from confiture.checks import databases, empty_target, foreign_server
from confiture.config import Database
from confiture.db import Session, Transaction
from confiture.errors import CannotConnect, Refused
from confiture.faults import failpoint
from confiture.journal import progress, runs, schema
from confiture.journal.progress import Deferred
from confiture.journal.runs import Run
from confiture.runner import Context
from confiture.sql import load
from confiture.steps.journaled import Step, run_steps
from confiture.types import quoted


@dataclass(frozen=True, slots=True)
class Wanted:
    """What setup was asked for; ``seen_as`` how the target's server reaches the source."""

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
    """Whether the target database is there, asked of its server.

    :raises CannotConnect: when the server itself cannot be reached.
    """
    for maintenance in ("postgres", "template1"):
        try:
            with Session(target.with_dbname(maintenance), "setup") as session, session.transaction() as tx:
                row = tx.pg.execute("SELECT 1 FROM pg_database WHERE datname = %s", (target.dbname,)).fetchone()
                return row is not None
        except CannotConnect:
            if maintenance == "template1":
                raise
    return False


def create_database(wanted: Wanted, source: Identity) -> None:
    """CREATE DATABASE with the source's encoding and locale, unless told otherwise."""
    name = wanted.target.dbname or ""
    parts = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
            sql.Identifier(name), sql.Literal(wanted.encoding or source.encoding)
        )
    ]
    collate, ctype = (wanted.locale, wanted.locale) if wanted.locale else (source.collate, source.ctype)
    parts.append(sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(sql.Literal(collate), sql.Literal(ctype)))
    if not wanted.locale and source.locale_provider == "i" and source.locale:
        parts.append(sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}").format(sql.Literal(source.locale)))
    with Session(wanted.target.with_dbname("postgres"), "setup") as session:
        try:
            session.pg.execute(sql.SQL(" ").join(parts))
        except psycopg.errors.DuplicateDatabase:
            return
        except psycopg.errors.InsufficientPrivilege as error:
            raise Refused(
                f"the database {quoted(name)} cannot be made",
                why=str(error.diag.message_primary),
                fix=f"ALTER ROLE {quoted(session.pg.info.user)} CREATEDB, or make the database yourself",
            ) from None
        except psycopg.Error as error:
            raise Refused(
                f"the database {quoted(name)} cannot be made with the source's encoding and locale",
                why=str(error.diag.message_primary),
                fix="name others with --encoding and --locale",
            ) from None


def begin(wanted: Wanted) -> Run:
    """The target's live run, made here if there is none: database, journal and run's row.

    :raises Refused: on one database for both, a live run of another source, rows in the target.
    """
    source = identity_of(wanted.source)
    databases.check(source, None, accept_fsync_off=wanted.accept_fsync_off)
    if not database_exists(wanted.target):
        create_database(wanted, source)
        failpoint("setup.database_made")
    with Session(wanted.target, "setup") as session:
        with session.transaction() as tx:
            target = catalog.identity(tx)
            databases.check(source, target, accept_fsync_off=wanted.accept_fsync_off)
            # Two setups at once would both install the journal: the second waits here and finds it.
            tx.pg.execute("SELECT pg_advisory_xact_lock(%s)", (_INSTALL_LOCK,))
            have = schema.version(tx)
            schema.refuse_newer(have)
            run = runs.live(tx) if have else None
            if run is None:
                empty_target.check(tx, catalog.read(tx))
                schema.install(tx)
                run = runs.create(
                    tx,
                    run_id=uuid.uuid4(),
                    source=(wanted.source.name, wanted.source.public, source.as_json()),
                    target=(wanted.target.name, target.as_json()),
                    options={
                        "seen_as": wanted.seen_as,
                        "accept_fsync_off": wanted.accept_fsync_off,
                        "capture": wanted.capture,
                    },
                )
            failpoint("setup.run.before_commit")
    refuse_other_source(run, source)
    return run


#: The step after which setup is through.
LAST_STEP = "foreign server"

#: Any number that nobody else is likely to lock in this database.
_INSTALL_LOCK = 0x636F6E66


def refuse_other_source(run: Run, source: Identity) -> None:
    """:raises Refused: when the run is of another source than the one named."""
    known = run.source_identity
    if (known["system_identifier"], known["oid"]) != (source.system_identifier, source.oid):
        raise Refused(
            f"the target has a live run {run.short} from another source",
            why=f"it moves {run.source_name} ({known['database']}), not {source.database}",
            fix="finish it, or give it up: confiture migrate schema-to-schema abort",
        )


def setup(context: Context, wanted: Wanted) -> None:
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
    name = context.schema
    with context.source.transaction() as tx:
        # Schema and fence are there together or not at all.
        row = tx.pg.execute("SELECT to_regnamespace(quote_ident(%s))", (name,)).fetchone()
        if row is None or row[0] is None:
            tx.pg.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
            tx.pg.execute(
                sql.SQL("CREATE TABLE {} (epoch bigint PRIMARY KEY, plan_hash text)").format(
                    sql.Identifier(name, "fence")
                )
            )
            tx.pg.execute(sql.SQL("CREATE TABLE {} (filenode oid NOT NULL)").format(sql.Identifier(name, "storage")))
            # Apart from the fence, whose row a cutover holds while passes go on.
            passes = sql.Identifier(name, "passes")
            tx.pg.execute(sql.SQL("CREATE TABLE {} AS SELECT 0::bigint AS number").format(passes))
            tx.pg.execute(
                sql.SQL("INSERT INTO {} (epoch) VALUES ({})").format(
                    sql.Identifier(name, "fence"), sql.Literal(context.epoch)
                )
            )
        failpoint("setup.source_schema.before_commit")


def _target_schema(context: Context, tx: Transaction) -> None:
    tx.pg.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(context.schema)))


def objects(tx: Transaction) -> list[tuple[str, str]]:
    """(kind, identity) of every top-level object of the user's, in the order they were made."""
    return [(row[0], row[1]) for row in tx.pg.execute(load("objects.sql")["objects"]).fetchall()]


def _build(context: Context, tx: Transaction, wanted: Wanted) -> None:
    """Apply the DDL in the step's own transaction, and write down what it made."""
    directory = wanted.target.schema_dir
    if catalog.read(tx).tables:
        context.progress.say("the target's tables are there already; no DDL is applied")
        return
    if directory is None or not directory.is_dir():
        raise Refused(
            "there is no new schema to build",
            why=f"the target is empty and {directory or 'db/schema'} does not exist",
            fix="put ordered DDL under db/schema/, or build the target's tables yourself",
        )
    files = build.collect(directory, wanted.target.include, wanted.target.exclude)
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
    progress.record_built(tx, context.run_id, made)
    runs.update(tx, context.run_id, ddl_digest=build.digest(files))
    context.progress.say(f"built: {count} statements from {len(files)} files")


def _take_off(context: Context, tx: Transaction) -> None:
    """Foreign keys and user triggers off for the load, each recorded in the same commit."""
    for table in catalog.read(tx).tables:
        name = sql.Identifier(table.ref.schema, table.ref.name)
        for key in table.foreign_keys:
            interim = None if key.kept_as_declared else _interim(key)
            detail: dict[str, Any] = {
                "partitioned": key.partitioned,
                "plain": key.no_action,
                "deferrable": key.is_deferrable,
                "deferred": key.is_deferred,
                "validated": key.validated,
                "references": [key.references.schema, key.references.name],
                "columns": list(key.columns),
                "ref_columns": list(key.ref_columns),
            }
            item = Deferred("foreign_key", table.ref, key.name, key.definition, interim, key.comment, detail)
            progress.take_off(tx, context.run_id, item)
            tx.pg.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(name, sql.Identifier(key.name)))
        for trigger in table.triggers:
            if trigger.enabled == "D":
                continue
            detail = {"enabled": trigger.enabled}
            item = Deferred("trigger", table.ref, trigger.name, trigger.definition, detail=detail)
            progress.take_off(tx, context.run_id, item)
            tx.pg.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(name, sql.Identifier(trigger.name)))


def _interim(key: catalog.ForeignKey) -> str:
    """NO ACTION DEFERRABLE INITIALLY DEFERRED, whatever is declared (correctness.md, 5)."""

    def names(columns: tuple[str, ...]) -> str:
        return ", ".join('"' + c.replace('"', '""') + '"' for c in columns)

    match = " MATCH FULL" if key.match_full else ""
    there = ".".join('"' + part.replace('"', '""') + '"' for part in (key.references.schema, key.references.name))
    return (
        f"FOREIGN KEY ({names(key.columns)}) REFERENCES {there} ({names(key.ref_columns)}){match}"
        " DEFERRABLE INITIALLY DEFERRED"
    )


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
