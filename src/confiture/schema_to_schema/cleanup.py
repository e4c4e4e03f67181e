"""cleanup and abort: drop the objects that the run has created and recorded, never with CASCADE (I-10.4)."""

from __future__ import annotations

from functools import partial

import psycopg
from psycopg import sql

from confiture import fingerprint
from confiture.capture import run_triggers, write_block
from confiture.config import Database
from confiture.copy import foreign_server
from confiture.errors import Held, Refused
from confiture.journal import built_objects, deferred_objects, runs, source, table_plans
from confiture.journal.model import SUSPENDED, DeferredForeignKey, DeferredStatus, Run
from confiture.naming import Naming
from confiture.plan.model import plan_from_json
from confiture.plan.projection import raw
from confiture.postgres.session import Session, Transaction, brief_lock
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Step, run_steps
from confiture.schema_to_schema import follow, large_objects, plan_store, reverse, rollback, switchover
from confiture.schema_to_schema.blockers import wait_for_locks
from confiture.schema_to_schema.deferred_objects import indexes, restore
from confiture.states import ABORTED, CLEANED, CUTOVER, MIGRATING, SETUP, VERIFIED
from confiture.types import TableRef, quoted

#: The option of the run that keeps the set of the source's tables when its schema there is dropped.
_SET = "source_set"


#: The command that continues a run, by its state; in ``migrating``, status determines it.
_BEFORE_CUTOVER = {SETUP: "migrate", MIGRATING: "status", VERIFIED: "cutover"}


def refuse_before_cutover(run: Run) -> None:
    """:raises Refused: when the run's objects are still needed, naming the command that comes first."""
    named = Naming(run.target_name)
    if run.state in _BEFORE_CUTOVER:
        raise Refused(
            f"the run is in state {run.state}: there is nothing to clean before the cutover",
            why="its views and foreign tables are still needed",
            fix=f"{named.command(_BEFORE_CUTOVER[run.state])}\nto end the run instead: {named.command('abort')}",
        )
    if run.state == ABORTED:
        raise Refused("the run is over", why=f"run {run.short} was aborted", fix="a new setup starts a new run")


def refuse_after_cutover(run: Run) -> None:
    """:raises Refused: when the target is serving, so that an abort would drop live data."""
    if run.state in (CUTOVER, CLEANED):
        raise Refused(
            f"a run in state {run.state} cannot be aborted",
            why="the target is serving, and abort would drop its tables",
            fix=Naming(run.target_name).command("cleanup"),
        )


def cleanup(context: Context) -> None:
    """After the cutover: drop the run's schemas, views and foreign server. The journal remains."""
    run = context.run()
    refuse_before_cutover(run)
    with context.source.transaction(read_only=True) as tx:
        known = fingerprint.of_database(tx, context.schema)
    if known is not None:  # None after a crash that came after the drop of the source's schema
        # Durable: the set of the source's tables, which outlives the run's schema there.
        with context.fenced("cleanup.recorded") as tx:
            runs.update(tx, context.run_id, options={**run.options, _SET: known})
    run_steps(context, "cleanup", (_drop_target_objects(), _drop_source_objects()))
    _end(context, "clean")


def abort(context: Context) -> None:
    """Abort the run: drop what setup built in the target, and restore the tables that it found there.

    A source that a cutover has closed is opened first: the target, which lost changes, cannot be opened.
    """
    refuse_after_cutover(context.run())
    with context.source.transaction(read_only=True) as tx:
        closed = write_block.is_blocked(tx, context.schema)
    if closed:
        _open_source(context)
    copied = Step("large objects", outside=large_objects.remove_copied)
    more = (Step("what setup built", act=_drop_built), Step("what setup found", act=_restore_found))
    run_steps(context, "abort", (copied, _drop_target_objects(), *more, _drop_source_objects()))
    _end(context, "abort")


def _open_source(context: Context) -> None:
    run = context.run()
    tables = [t.source for t in plan_from_json(run.plan).tables] if run.plan is not None else []

    def work() -> None:
        # Durable together: the source's own triggers, rules and constraints, and a write block that permits writes.
        with context.fenced_source("abort.open") as tx:
            brief_lock(tx)
            rollback.open_source(context, tx)

    wait_for_locks(context, "source", tables, work)
    context.progress.say("the source accepts writes again")
    for pooler in switchover.paused_poolers(run):
        context.progress.say(f"the application's connections are still paused: resume {pooler} by hand")


def _end(context: Context, trigger: str) -> None:
    # Durable together: the final state, and that no error blocks the run.
    with context.fenced(trigger) as tx:
        run = runs.get(tx, context.run_id)
        transitions.fire(tx, run, trigger)
        runs.unblock(tx, context.run_id)


def _drop_target_objects() -> Step:
    return Step("the run's schema and foreign server on the target", outside=_release_target, act=_drop_target)


def _drop_source_objects() -> Step:
    return Step("the run's schema on the source", outside=_drop_source)


def _release_target(context: Context) -> None:
    """Drop the run's triggers table by table, so that no session is blocked for long; harmless to repeat."""
    with context.target.transaction(read_only=True) as tx:
        tables = run_triggers.tables(tx, context.schema)
    for table in tables:
        wait_for_locks(context, "target", [table], partial(_release, context, "target", table))


def _release(context: Context, side: str, table: TableRef) -> None:
    """Drop the run's triggers from one table, found by their function (I-10.8); harmless to repeat."""
    fenced = context.fenced if side == "target" else context.fenced_source
    # Durable together: the table has none of the run's triggers.
    with fenced("release.table") as tx:
        brief_lock(tx)
        for trigger in run_triggers.find(tx, context.schema):
            if trigger.table == table:
                run_triggers.drop(tx, trigger)


def _drop_target(context: Context, tx: Transaction) -> None:
    schema = sql.Identifier(context.schema)
    rows = tx.pg.execute(
        "SELECT foreign_table_name FROM information_schema.foreign_tables WHERE foreign_table_schema = %s",
        (context.schema,),
    ).fetchall()
    for (name,) in rows:
        tx.pg.execute(sql.SQL("DROP FOREIGN TABLE {}").format(sql.Identifier(context.schema, name)))
    run = runs.find(tx, context.run_id)
    if run is not None and run.plan is not None:
        write_block.remove(tx, context.schema)
        reverse.remove(tx, context.schema, plan_from_json(run.plan))
    fdw = (run.fdw if run is not None else None) or {}
    if fdw and not fdw.get("problem"):
        foreign_server.drop_user_mapping(tx, context.schema)
        tx.pg.execute(sql.SQL("DROP SERVER {}").format(schema))
        if fdw.get("extension"):
            _drop_extension(tx)
    source.drop_tables(tx, context.schema, source.TARGET_TABLES, if_exist=True)
    tx.pg.execute(sql.SQL("DROP SCHEMA IF EXISTS {}").format(schema))


def _drop_extension(tx: Transaction) -> None:
    try:
        with tx.pg.transaction():
            tx.pg.execute("DROP EXTENSION postgres_fdw")
    except psycopg.errors.DependentObjectsStillExist:
        return  # another foreign server uses it: the extension remains


def _drop_source(context: Context) -> None:
    """Drop views, fence and schema in one transaction; nothing to do when an earlier command did that."""
    with context.source.transaction() as tx:
        if not source.exists(tx, context.schema):
            return
    plan = context.run().plan
    if plan is not None:
        follow.remove(context, plan_from_json(plan))
    tables = [t.source for t in plan_from_json(plan).tables] if plan is not None else []
    wait_for_locks(context, "source", tables, partial(_restore_source, context))
    reverse.drop_source_interims(context)
    with context.source.transaction(read_only=True) as tx:
        # A source that is closed stays closed: its write block's triggers need the function in this schema.
        blocked = write_block.is_blocked(tx, context.schema)
        left = [] if blocked else run_triggers.tables(tx, context.schema)
    for ref in left:
        wait_for_locks(context, "source", [ref], partial(_release, context, "source", ref))
    # Durable together: the run's objects on the source are dropped, except the write block of a closed source.
    with context.fenced_source("drop_source") as tx:
        source.drop_views(tx, context.schema)
        source.drop_tables(tx, context.schema, source.TABLES)
        if not blocked:
            write_block.remove(tx, context.schema)
            tx.pg.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(context.schema)))


def _restore_source(context: Context) -> None:
    # Durable together: triggers, rules and constraints are restored, and the declared keys added.
    with context.fenced_source("drop_source.restored") as tx:
        brief_lock(tx)
        reverse.restore_source(context, tx)


def _drop_built(context: Context, tx: Transaction) -> None:
    """Drop what the DDL created, newest first. An object that still has dependents is tried again in the next round.

    All tables are dropped in one statement, because foreign keys may connect them in a cycle.

    :raises Refused: when another object depends on one of them.
    """
    left = built_objects.newest_first(tx, context.run_id)
    tables = [identity for kind, identity in left if kind == "table"]
    others = [(kind, identity) for kind, identity in left if kind != "table"]
    pending = [("table", ", ".join(tables))] if tables else []
    pending += others
    while pending:
        kept = [item for item in pending if not _dropped(tx, *item)]
        if len(kept) == len(pending):
            raise Refused(
                "not everything setup built can be dropped",
                why=f"an object that setup did not build depends on {kept[0][0]} {kept[0][1]}",
                fix="drop the dependent object yourself, then run the same command again",
            )
        pending = kept


def _restore_found(context: Context, tx: Transaction) -> None:
    """Empty the tables that existed before setup, and restore every object that was taken off them."""
    if built_objects.newest_first(tx, context.run_id):
        return  # they were dropped with everything on them
    plan_store.foreign_keys_off(context, tx)
    tables = [s.target.identifier for s in table_plans.of_run(tx, context.run_id)]
    if tables:
        tx.pg.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(tables)))
    taken = [item for item in deferred_objects.of_run(tx, context.run_id) if item.status is DeferredStatus.OFF]
    keys = (d for d in taken if isinstance(d, DeferredForeignKey))
    suspended = deferred_objects.in_order(d for d in taken if isinstance(d, SUSPENDED))
    for item in (*indexes.roots_first(taken), *keys, *suspended):
        restore(tx, item)
        deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.BACK)
    run = runs.get(tx, context.run_id)
    for view in plan_from_json(run.plan).materialized_views if run is not None and run.plan is not None else ():
        tx.pg.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(view.identifier))


def _dropped(tx: Transaction, kind: str, identity: str) -> bool:
    try:
        with tx.pg.transaction():
            tx.pg.execute(sql.SQL("DROP {} IF EXISTS {}").format(raw(kind), raw(identity)))
    except psycopg.errors.DependentObjectsStillExist:
        return False
    return True


def refuse_other_name(run: Run, name: str) -> None:
    """:raises Refused: when ``name`` is not exactly that of the source database."""
    known = run.source_identity["database"]
    if name != known:
        raise Refused(
            f"the source database is not {name!r}",
            why=f"run {run.short} moved {known!r}",
            fix="name it exactly to drop it",
        )


def refuse_unknown_tables(source: Database, run: Run) -> None:
    """Compare the set of the source's tables, before the database is dropped with all of them (I-2.4).

    :raises Refused: naming tables or large objects that the run does not know.
    """
    with Session(source, "cleanup") as session, session.transaction(read_only=True) as tx:
        known = fingerprint.of_database(tx, run.schema) or run.options.get(_SET)
        now = fingerprint.facts(tx, run.schema, [], fingerprint.DATABASE)
    if known is None:
        return  # an older version cleaned up: it did not record the set
    lines = [line for kind, was in known.items() for line in _new(was, now.get((0, kind), ""))]
    if lines:
        raise Refused(
            f"the source has {', '.join(lines[:3])}{' and more' if len(lines) > 3 else ''} that the run did not move",
            why="--drop-source drops the whole database",
            fix="move or drop these first, or clean up without --drop-source; nothing was dropped",
        )


def _new(was: str, now: str) -> list[str]:
    known = was.splitlines()
    return [line for line in now.splitlines() if line not in known]


def _maintenance(source: Database) -> Session:
    return Session(source.with_dbname("template1" if source.dbname == "postgres" else "postgres"), "cleanup")


def source_is_there(source: Database, run: Run) -> bool:
    """Whether the database that the run moved still exists, by name and OID."""
    with _maintenance(source) as session, session.transaction(read_only=True) as tx:
        known = (run.source_identity["database"], run.source_identity["oid"])
        row = tx.pg.execute("SELECT 1 FROM pg_database WHERE (datname, oid) = (%s, %s)", known).fetchone()
    return row is not None


def drop_source_database(source: Database, name: str) -> None:
    """Drop the source database; the caller has checked its name and the run's state.

    :raises Held: when a session is connected to it.
    """
    with _maintenance(source) as session:
        try:
            session.pg.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        except psycopg.errors.ObjectInUse as error:
            raise Held(
                f"the database {quoted(name)} is in use and was not dropped",
                why=error.diag.message_detail or "",
                fix="terminate those sessions, then run the same command again",
            ) from None
