"""cleanup and abort: drop what the run made, what was recorded and nothing else, never with CASCADE (I-10.4)."""

from __future__ import annotations

from functools import partial

import psycopg
from psycopg import sql

from confiture.capture import write_block
from confiture.config import Database
from confiture.copy import foreign_server
from confiture.errors import Held, Refused
from confiture.failpoints import failpoint
from confiture.journal import built_objects, deferred_objects, runs, source, table_plans
from confiture.journal.deferred_objects import Deferred
from confiture.journal.runs import Run
from confiture.naming import Naming
from confiture.plan.planner import plan_from_json
from confiture.plan.projection import raw
from confiture.postgres.session import Session, Transaction, brief_lock
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Step, run_steps
from confiture.schema_to_schema import follow, plan_store, rebuild, reverse, suspended_objects
from confiture.schema_to_schema.blockers import outwait
from confiture.states import ABORTED, CLEANED, CUTOVER, MIGRATING, SETUP, VERIFIED
from confiture.types import TableRef, quoted


def refuse_before_cutover(run: Run) -> None:
    """:raises Refused: when the run's things are still needed, naming the command that comes first."""
    if run.state in (SETUP, MIGRATING, VERIFIED):
        raise Refused(
            f"the run is in state {run.state}: there is nothing to clean before the cutover",
            why="its views and foreign tables are still needed",
            fix=Naming(run.target_name).command("cutover"),
        )
    if run.state == ABORTED:
        raise Refused("the run is over", why=f"run {run.short} was aborted", fix="a new setup starts a new run")


def refuse_after_cutover(run: Run) -> None:
    """:raises Refused: when there is no way back any more."""
    if run.state in (CUTOVER, CLEANED):
        raise Refused(
            f"a run in state {run.state} cannot be aborted",
            why="the target serves, and abort would drop it",
            fix=Naming(run.target_name).command("cleanup"),
        )


def cleanup(context: Context) -> None:
    """After the cutover: the run's schemas, views and foreign server go; the journal stays."""
    refuse_before_cutover(context.run())
    run_steps(context, "cleanup", (_target_things(), _source_things()))
    _end(context, "clean")


def abort(context: Context) -> None:
    """Give the run up: what setup built in the target goes too, tables it found there are as they were."""
    refuse_after_cutover(context.run())
    steps = (Step("what setup built", act=_drop_built), Step("what setup found", act=_give_back))
    run_steps(context, "abort", (_target_things(), *steps, _source_things()))
    _end(context, "abort")


def _end(context: Context, trigger: str) -> None:
    with context.fenced() as tx:
        run = runs.get(tx, context.run_id)
        transitions.fire(tx, run, trigger)
        runs.unblock(tx, context.run_id)
        failpoint(f"{trigger}.before_commit")
    failpoint(f"{trigger}.after_commit")


def _target_things() -> Step:
    return Step("the run's schema and foreign server on the target", outside=_release_target, act=_drop_target)


def _source_things() -> Step:
    return Step("the run's schema on the source", outside=_drop_source)


def _release_target(context: Context) -> None:
    """Our triggers go table by table, so that nobody waits for long; harmless to repeat."""
    with context.target.transaction(read_only=True) as tx:
        tables = write_block.tables(tx, context.schema)
    for table in tables:
        outwait(context, "target", [table], partial(_release, context, "target", table))


def _release(context: Context, side: str, table: TableRef) -> None:
    """Drop the run's triggers from one table, found by their function (I-10.8); harmless to repeat."""
    with context.fenced() if side == "target" else context.fenced_source() as tx:
        brief_lock(tx)
        for trigger in write_block.triggers_of(tx, context.schema, table):
            name = sql.Identifier(table.schema, table.name)
            tx.pg.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), name))
        failpoint("release.table.before_commit")


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
        foreign_server.shut_out(tx, context.schema)
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
        return  # somebody uses it by now: it stays


def _drop_source(context: Context) -> None:
    """Views, fence and schema in one transaction; absent after a crash that came later."""
    with context.source.transaction() as tx:
        if not source.exists(tx, context.schema):
            return
    plan = context.run().plan
    if plan is not None:
        follow.remove(context, plan_from_json(plan))
    tables = [t.source for t in plan_from_json(plan).tables] if plan is not None else []
    outwait(context, "source", tables, partial(_restore_source, context))
    reverse.settle_source(context)
    with context.source.transaction(read_only=True) as tx:
        # An old database that was closed stays closed: its triggers need the function in this schema.
        blocked = write_block.is_blocked(tx, context.schema)
        left = [] if blocked else write_block.tables(tx, context.schema)
    for ref in left:
        outwait(context, "source", [ref], partial(_release, context, "source", ref))
    with context.fenced_source() as tx:
        source.drop_views(tx, context.schema)
        source.drop_tables(tx, context.schema, source.TABLES)
        if not blocked:
            write_block.remove(tx, context.schema)
            tx.pg.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(context.schema)))
        failpoint("drop_source.before_commit")


def _restore_source(context: Context) -> None:
    with context.fenced_source() as tx:
        brief_lock(tx)
        reverse.restore_source(context, tx)
        failpoint("drop_source.restored.before_commit")


def _drop_built(context: Context, tx: Transaction) -> None:
    """Drop what the DDL made, newest first; what still has dependents waits for the next round.

    Tables go in one statement, because foreign keys may join them in a circle.
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
                why=f"something that setup did not build depends on {kept[0][0]} {kept[0][1]}",
                fix="drop that yourself, then run the same command again",
            )
        pending = kept


def _give_back(context: Context, tx: Transaction) -> None:
    """Empty the tables that were there before, and bring back all that was taken off them."""
    if built_objects.newest_first(tx, context.run_id):
        return  # they were dropped with everything on them
    plan_store.foreign_keys_off(context, tx)
    tables = [sql.Identifier(s.target.schema, s.target.name) for s in table_plans.of_run(tx, context.run_id)]
    if tables:
        tx.pg.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(tables)))
    taken = [item for item in deferred_objects.of_run(tx, context.run_id) if item.status == "off"]
    for item in rebuild.roots_first(taken):
        rebuild.rebuild(context, tx, item)
    for item in taken:
        if item.kind == "foreign_key":
            _foreign_key(context, tx, item)
    for item in deferred_objects.in_order(d for d in taken if d.kind in deferred_objects.SUSPENDED):
        suspended_objects.enable(tx, item)
        deferred_objects.set_status(tx, context.run_id, item, "back")
    run = runs.find(tx, context.run_id)
    for view in plan_from_json(run.plan).materialized_views if run is not None and run.plan is not None else ():
        tx.pg.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(view.schema, view.name)))


def _foreign_key(context: Context, tx: Transaction, item: Deferred) -> None:
    table, name = sql.Identifier(item.table.schema, item.table.name), sql.Identifier(item.name)
    tx.pg.execute(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, raw(item.definition)))
    rebuild.comment_on(tx, item)
    deferred_objects.set_status(tx, context.run_id, item, "back")


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
            fix="name it exactly to have it dropped",
        )


def _maintenance(source: Database) -> Session:
    return Session(source.with_dbname("template1" if source.dbname == "postgres" else "postgres"), "cleanup")


def source_is_there(source: Database, run: Run) -> bool:
    """Whether the very database the run moved is still there."""
    with _maintenance(source) as session, session.transaction(read_only=True) as tx:
        known = (run.source_identity["database"], run.source_identity["oid"])
        row = tx.pg.execute("SELECT 1 FROM pg_database WHERE (datname, oid) = (%s, %s)", known).fetchone()
    return row is not None


def drop_source_database(source: Database, name: str) -> None:
    """DROP DATABASE for the old one; the caller has checked its name and state.

    :raises Held: when somebody is connected to it.
    """
    with _maintenance(source) as session:
        try:
            session.pg.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        except psycopg.errors.ObjectInUse as error:
            raise Held(
                f"the database {quoted(name)} is in use and was not dropped",
                why=error.diag.message_detail or "",
                fix="end those sessions, then run the same command again",
            ) from None
