"""The way home: what has to be in place before the cutover so that a rollback loses nothing, and keeping it open.

Before the target opens, its changes are captured and the inverse views made. With the source's closing its
user triggers go off; after it its foreign keys are deferred. From then on ``follow`` brings home what the
application writes into the target (docs/invariants.md, I-7.7 and I-10.1).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import psycopg
from psycopg import sql

from confiture import catalog, fingerprint
from confiture.capture import reverse_apply, triggers, write_block
from confiture.capture.reverse_apply import ReverseFollower
from confiture.capture.triggers import Captured
from confiture.errors import Blocked, Fault, Refused
from confiture.failpoints import failpoint
from confiture.journal import catch_up, deferred_objects, runs, source
from confiture.journal.deferred_objects import Deferred
from confiture.mapping import Mapping
from confiture.plan import trust
from confiture.plan.planner import Plan, TablePlan
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction, brief_lock
from confiture.runner.context import Context
from confiture.schema_to_schema import foreign_keys, plan_store, suspended_objects
from confiture.schema_to_schema.blockers import outwait
from confiture.schema_to_schema.follow import IDLE_SECONDS, SMALL_BACKLOG
from confiture.types import TableRef, quoted

#: What is set aside on the source for the reverse passes changes these facts.
_SET_ASIDE = (fingerprint.COLUMNS, fingerprint.TRIGGERS, fingerprint.RULES)


def refuse_faulty(context: Context, plan: Plan, given: Mapping) -> Plan:
    """Try the inverse views in the target; nothing is left behind. The plan, with what it trusts in the target.

    :raises FaultyInput: when a ``reverse:`` of the mapping is no expression over its table, or runs code of a role
        that is not trusted.
    """
    found = []
    with _user_session(context) as session, session.rehearsal() as tx:
        trusted = trust.resolve(tx, [t.name for t in given.trusted], "target")
        for table in plan.back:
            name = sql.Identifier(context.schema, table.view)
            try:
                with tx.pg.transaction():
                    _view(tx, context.schema, table)
                    foreign = trust.untrusted(tx, [(name, table.source)], trusted)
                found += [_fault(given, table, str(u), u.hint) for u in foreign]
            except psycopg.Error as error:
                message = (error.diag.message_primary or str(error)).strip()
                found.append(_fault(given, table, message, "mend `reverse:`, or leave it out"))
    if found:
        raise plan_store.faulty(found)
    return replace(plan, trusted=(*plan.trusted, *trusted))


def _fault(given: Mapping, table: TablePlan, problem: str, hint: str) -> Fault:
    entry = next((t for t in given.tables if t.target.name == table.source.name), None)
    reverses = [c for c in entry.columns if c.reverse is not None] if entry is not None else []
    at = reverses[0].at if reverses else None
    message = f"the way back from {table.source}: {problem}"
    return Fault(given.file, at.line if at else 1, at.column if at else 1, message, hint)


def _user_session(context: Context) -> AbstractContextManager[Session]:
    return context.beside("views", user_sql=True, side="target")


def _view(tx: Transaction, schema: str, table: TablePlan) -> None:
    """Create the inverse view, in place of one that an earlier cutover created and did not need."""
    name = sql.Identifier(schema, table.view)
    tx.pg.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(name))
    tx.pg.execute(sql.SQL("CREATE VIEW {} AS {}").format(name, plan_store.select_of(table)))


def install(context: Context, plan: Plan) -> None:
    """Capture in the target, before it is opened: every write it will take is logged."""
    if not plan.back:
        return
    with _user_session(context) as session, session.transaction() as tx:
        runs.fence(tx, context.run_id, context.epoch)
        for table in plan.back:
            _view(tx, context.schema, table)
        trust.refuse(tx, context.schema, plan.back, plan.trusted, "target")
        failpoint("home.views.before_commit")
    for item in triggers.captured(plan.back, context.schema):
        outwait(context, "target", [item.table], partial(_install_one, context, item), readers=False)


def _install_one(context: Context, item: Captured) -> None:
    with context.fenced() as tx:
        brief_lock(tx)
        if not triggers.is_intact(tx, item):
            triggers.remove(tx, item)
            # Capture begins with the storage that the table has: it must be the one that was verified.
            lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE")
            tx.pg.execute(lock.format(item.source))
            fingerprint.refuse_changed(tx, context.schema, "target", [fingerprint.STORAGE], [item.table])
            triggers.install(tx, item)
        failpoint("home.install.before_commit")
    failpoint("home.install.after_commit")


def remove(tx: Transaction, schema: str, plan: Plan) -> None:
    """Drop capture and inverse views from the target; nothing to do when they are gone."""
    for item in triggers.captured(plan.back, schema):
        triggers.remove(tx, item)
    for table in plan.back:
        tx.pg.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier(schema, table.view)))


# The source while changes come home ----------------------------------------------------------------


def _sources(plan: Plan) -> set[TableRef]:
    return {t.source for t in plan.tables}


def prepare_source(context: Context, plan: Plan) -> None:
    """Once the source is closed: its triggers, rules and unvalidated constraints off, and its foreign keys deferred.

    The target is serving. Sessions that block a table are named and waited for. After a crash the same command
    continues.

    :raises Held: when a table cannot be locked for minutes.
    """
    if not plan.back:
        return
    tables = _sources(plan)
    with context.source.transaction(read_only=True) as tx:
        known = {(k.table, k.name) for k in source.items(tx, context.schema, "foreign_key")}
        found = catalog.read(tx)
    keys = [k for table in found.tables for k in table.foreign_keys]
    # Its own triggers that are enabled have fired in the target already.
    fired = [t for table in found.tables if table.ref in tables for t in suspended_objects.triggers(table)]
    own = [t for t in fired if f"_{context.schema}_" not in t.name]
    rules = [r for table in found.tables if table.ref in tables for r in suspended_objects.rules(table)]
    for item in (*own, *rules, *suspended_objects.unvalidated(found, tables)):
        outwait(
            context, "source", [item.table], partial(_set_aside, context, item, "trigger", suspended_objects.disable)
        )
    for key in keys:
        if {key.table, key.references} & tables and (key.table, key.name) not in known:
            described = foreign_keys.described(key)
            work = partial(_set_aside, context, described, "key", foreign_keys.relax)
            outwait(context, "source", [key.table], work)
    with context.fenced_source() as tx:
        refs = fingerprint.oids(tx, tables)
        fingerprint.record(tx, context.schema, refs, (*_SET_ASIDE, fingerprint.FOREIGN_KEYS))
        failpoint("home.recorded.before_commit")


def _set_aside(context: Context, item: Deferred, kind: str, off: Callable[[Transaction, Deferred], object]) -> None:
    with context.fenced_source() as tx:
        brief_lock(tx)
        source.add(tx, context.schema, item)
        off(tx, item)
        failpoint(f"home.{kind}.before_commit")


def restore_source(context: Context, tx: Transaction) -> None:
    """Triggers on and keys declared again, in the caller's transaction; :func:`settle_source` does the rest."""
    off = (item for kind in deferred_objects.SUSPENDED for item in source.items(tx, context.schema, kind))
    for item in deferred_objects.in_order(off):
        suspended_objects.enable(tx, item)
        source.forget(tx, context.schema, item)
    for item in source.items(tx, context.schema, "foreign_key"):
        if item.status == "off":
            foreign_keys.declare(tx, item)
            source.set_status(tx, context.schema, item, "interim")
    refs = fingerprint.recorded(tx, context.schema, fingerprint.TRIGGERS)
    fingerprint.record(tx, context.schema, refs, _SET_ASIDE)
    fingerprint.forget(tx, context.schema, refs, (fingerprint.FOREIGN_KEYS,))


def settle_source(context: Context) -> None:
    """At leisure: the source's declared keys validated, their substitutes dropped."""
    with context.source.transaction(read_only=True) as tx:
        left = source.items(tx, context.schema, "foreign_key")
    for item in left:
        with context.fenced_source() as tx:
            foreign_keys.validate_declared(tx, item)
        outwait(context, "source", [item.table], partial(_settle_one, context, item))


def _settle_one(context: Context, item: Deferred) -> None:
    with context.fenced_source() as tx:
        brief_lock(tx)
        foreign_keys.drop_interim_key(tx, item)
        source.forget(tx, context.schema, item)
        failpoint("home.settle.before_commit")


# Following -----------------------------------------------------------------------------------------


def refuse_no_way(plan: Plan) -> None:
    """:raises Refused: naming every table that has no way back."""
    if plan.rollback_problems:
        raise Refused(
            "there is no way back to the old database",
            why="\n".join(plan.rollback_problems),
            fix="the target is still serving; `plan` prints before the cutover what a rollback would need",
        )


def measure(context: Context, plan: Plan) -> int:
    """How far behind the old database is, written down for status; log rows waiting."""
    with context.fenced() as tx:
        rows, oldest = triggers.backlog(tx, triggers.captured(plan.back, context.schema))
        catch_up.note_backlog(tx, context.run_id, rows, oldest)
    return rows


def drain(context: Context, plan: Plan) -> int:
    """Bring changes home until few are waiting; rows brought."""
    brought = 0
    with ReverseFollower(context, plan) as follower:
        while True:
            context.checkpoint()
            brought += retry(lambda: follower.catch_up(touch=True)).rows
            if measure(context, plan) <= SMALL_BACKLOG:
                return brought


def follow(context: Context, plan: Plan, *, once: bool) -> int:
    """Keep the old database fresh until a signal; rows brought home when ``once``.

    :raises Refused: when a table has no way back, or the old database lost passes.
    """
    refuse_no_way(plan)
    refuse_open_source(context)
    reverse_apply.refuse_behind(context)
    if once:
        return drain(context, plan)
    with ReverseFollower(context, plan) as follower:
        while True:
            context.checkpoint()
            made = retry(lambda: follower.catch_up(touch=True))
            left = measure(context, plan)
            if made.keys:
                context.progress.say(
                    f"pass {made.number} home: {made.keys:,} keys, {made.rows:,} rows; {left:,} waiting"
                )
            if left <= SMALL_BACKLOG:
                time.sleep(IDLE_SECONDS)


def refuse_open_source(context: Context) -> None:
    """:raises Blocked: when the source takes writes, or may have taken some, though the target is serving."""
    with context.source.transaction(read_only=True) as tx:
        closed = write_block.is_blocked(tx, context.schema)
        write_block.refuse_damaged(tx, context.schema, "source")
    if not closed:
        raise Blocked(
            f"the old database {quoted(context.run().source_name)} is not closed",
            why="the target is serving, and what is written to the old database now would be lost",
            fix="stop its writers, then look at its triggers",
        )
