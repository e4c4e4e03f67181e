"""The reverse direction after a cutover: what a rollback needs so that it loses no write.

Before the target opens, capture and the reverse views are created there. When the source is closed, its triggers,
rules and unvalidated constraints are taken off, and its foreign keys relaxed. From then on ``follow`` applies to the
source what the application writes to the target (docs/invariants.md, I-7.7 and I-10.1).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
from confiture.journal.model import SUSPENDED, AnyDeferred, DeferredForeignKey, DeferredStatus
from confiture.mapping import Mapping
from confiture.plan import trust
from confiture.plan.model import Plan, TablePlan, Trusted
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction, brief_lock
from confiture.runner.context import Context
from confiture.schema_to_schema import plan_store
from confiture.schema_to_schema.blockers import wait_for_locks
from confiture.schema_to_schema.deferred_objects import describe, foreign_keys, restore, take_off
from confiture.schema_to_schema.follow import IDLE_SECONDS, SMALL_BACKLOG, Draining, described
from confiture.types import TableRef, quoted

#: The facts of the source that change when its objects are taken off for the reverse passes.
_CHANGED = (fingerprint.COLUMNS, fingerprint.TRIGGERS, fingerprint.RULES)
#: The schema of the session's temporary views.
_TEMPORARY = "pg_temp"


def refuse_faulty(tx: Transaction, plan: Plan, given: Mapping, path: Sequence[str]) -> Plan:
    """Create the reverse views in the target and roll that back; the plan, with the functions it trusts there.

    :param path: the search_path in which the names of the expressions are resolved.
    :raises FaultyInput: when a ``reverse:`` of the mapping is not an expression over its table, or runs code of a
        role that is not trusted.
    """
    trusted = trust.resolve(tx, [t.name for t in given.trusted], "target")
    found = [
        fault
        for first in range(0, len(plan.reverse), plan_store.VIEWS_AT_A_TIME)
        for fault in _faults(tx, given, plan.reverse[first : first + plan_store.VIEWS_AT_A_TIME], trusted, path)
    ]
    if found:
        raise plan_store.faulty(found)
    return replace(plan, trusted=(*plan.trusted, *trusted))


def _faults(
    tx: Transaction, given: Mapping, tables: Sequence[TablePlan], trusted: Sequence[Trusted], path: Sequence[str]
) -> list[Fault]:
    """The faults of the reverse mapping of some tables: found for all at a time, and then named one by one."""
    names = sql.SQL(", ").join(map(sql.Identifier, path))
    try:
        with tx.pg.transaction(force_rollback=True):
            tx.pg.execute(sql.SQL("SET LOCAL search_path = {}").format(names))
            _views(tx, _TEMPORARY, tables)
            views = [(sql.Identifier(_TEMPORARY, t.view), t.source) for t in tables]
            foreign = trust.untrusted(tx, views, trusted)
    except psycopg.Error as error:
        if len(tables) == 1:
            message = (error.diag.message_primary or str(error)).strip()
            return [_fault(given, tables[0], message, "fix `reverse:`, or omit it")]
    else:
        if not foreign or len(tables) == 1:
            return [_fault(given, tables[0], str(u), u.hint) for u in foreign]
    return [fault for table in tables for fault in _faults(tx, given, [table], trusted, path)]


def _fault(given: Mapping, table: TablePlan, problem: str, hint: str) -> Fault:
    entry = next((t for t in given.tables if t.target.name == table.source.name), None)
    reverses = [c for c in entry.columns if c.reverse is not None] if entry is not None else []
    at = reverses[0].at if reverses else None
    message = f"the reverse mapping of {table.source}: {problem}"
    return Fault(given.file, at.line if at else 1, at.column if at else 1, message, hint)


def _user_session(context: Context) -> AbstractContextManager[Session]:
    return context.beside("views", user_sql=True, side="target")


def _views(tx: Transaction, schema: str, tables: Sequence[TablePlan]) -> None:
    """Create reverse views. Those that an aborted cutover created are replaced."""
    if tables:
        names = sql.SQL(", ").join(sql.Identifier(schema, table.view) for table in tables)
        tx.pg.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(names))
        plan_store.views(tx, schema, tables)


def install(context: Context, plan: Plan) -> None:
    """Create capture in the target before it opens, so that every write to it is logged."""
    if not plan.reverse:
        return
    tables = [t.source for t in plan.reverse]
    # Durable together: every reverse view, with the functions it runs checked, and their definitions.
    with _user_session(context) as session, session.transaction() as tx:
        runs.fence(tx, context.run_id, context.epoch)
        with trust.plain(tx):
            fingerprint.refuse_changed(tx, context.schema, "target", [fingerprint.DEFINITIONS], tables)
        _views(tx, context.schema, plan.reverse)
        trust.refuse(tx, context.schema, plan.reverse, plan.trusted, "target")
        # From now on, the meaning of the target's rows depends on the functions of these views as well.
        with trust.plain(tx):
            oids = fingerprint.oids(tx, tables)
            found = fingerprint.facts(tx, context.schema, list(oids.values()), [fingerprint.DEFINITIONS])
        fingerprint.record(tx, context.schema, oids, [fingerprint.DEFINITIONS], found)
        # To replace the triggers of a table, a session waits for readers too.
        captured = fingerprint.recorded(tx, context.schema, fingerprint.CAPTURE)
        failpoint("reverse.views.before_commit")
    for item in triggers.captured(plan.reverse, context.schema):
        work = partial(_install_one, context, item)
        wait_for_locks(context, "target", [item.table], work, readers=item.table in captured)


def _install_one(context: Context, item: Captured) -> None:
    # Durable together: the table's capture, on the storage that was verified.
    with context.fenced("reverse.install") as tx:
        brief_lock(tx)
        if not triggers.is_intact(tx, item):
            triggers.remove(tx, item)
            # Capture starts with the current storage of the table, which must be the one that was verified.
            lock = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE")
            tx.pg.execute(lock.format(item.source))
            fingerprint.refuse_changed(tx, context.schema, "target", [fingerprint.STORAGE], [item.table])
            triggers.install(tx, item)


def remove(tx: Transaction, schema: str, plan: Plan) -> None:
    """Drop capture and reverse views from the target; nothing to do when they do not exist."""
    for item in triggers.captured(plan.reverse, schema):
        triggers.remove(tx, item)
    for table in plan.reverse:
        tx.pg.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier(schema, table.view)))


# The source while changes are applied in reverse ---------------------------------------------------


def _sources(plan: Plan) -> set[TableRef]:
    return {t.source for t in plan.tables}


def prepare_source(context: Context, plan: Plan) -> None:
    """Once the source is closed: take its triggers, rules and unvalidated constraints off, and relax its foreign keys.

    The target is serving. Progress names the sessions that block a table. After a crash the same command continues.

    :raises Held: when a table cannot be locked for minutes.
    """
    if not plan.reverse:
        return
    tables = _sources(plan)
    with context.source.transaction(read_only=True) as tx:
        known = {(k.table, k.name) for k in source.items(tx, context.schema, DeferredForeignKey)}
        found = catalog.read(tx)
    keys = [k for table in found.tables for k in table.foreign_keys]
    # The application's triggers have already fired in the target for every change that is applied here.
    fired = [t for table in found.tables if table.ref in tables for t in describe.triggers(table)]
    own = [t for t in fired if f"_{context.schema}_" not in t.name]
    rules = [r for table in found.tables if table.ref in tables for r in describe.rules(table)]
    for item in (*own, *rules, *describe.unvalidated(found, tables)):
        wait_for_locks(context, "source", item.tables, partial(_take_off, context, item, "trigger", take_off))
    for key in keys:
        if {key.table, key.references} & tables and (key.table, key.name) not in known:
            described = describe.foreign_key(key)
            work = partial(_take_off, context, described, "key", foreign_keys.relax)
            wait_for_locks(context, "source", described.tables, work)
    # Durable together: the fingerprints of the source after its objects were taken off.
    with context.fenced_source("reverse.recorded") as tx:
        refs = fingerprint.oids(tx, tables)
        fingerprint.record(tx, context.schema, refs, (*_CHANGED, fingerprint.FOREIGN_KEYS))


def _take_off(
    context: Context, item: AnyDeferred, kind: str, off: Callable[[Transaction, AnyDeferred], object]
) -> None:
    # Durable together: the object is off or relaxed, and its definition recorded.
    with context.fenced_source(f"reverse.{kind}") as tx:
        brief_lock(tx)
        source.add(tx, context.schema, item)
        off(tx, item)


def restore_source(context: Context, tx: Transaction) -> None:
    """Restore suspended objects and add the declared keys, in the caller's transaction: catalog changes only.

    :func:`drop_source_interims` ends the transition.
    """
    off = (item for kind in SUSPENDED for item in source.items(tx, context.schema, kind))
    for item in deferred_objects.in_order(off):
        restore(tx, item)
        source.discard(tx, context.schema, item)
    for item in source.items(tx, context.schema, DeferredForeignKey):
        if item.status is DeferredStatus.OFF:
            foreign_keys.declare(tx, item)
            source.set_status(tx, context.schema, item, DeferredStatus.INTERIM)
    refs = fingerprint.recorded(tx, context.schema, fingerprint.TRIGGERS)
    fingerprint.record(tx, context.schema, refs, _CHANGED)
    fingerprint.discard(tx, context.schema, refs, (fingerprint.FOREIGN_KEYS,))


def drop_source_interims(context: Context) -> None:
    """Validate the source's declared keys and drop their interims, without a time limit."""
    with context.source.transaction(read_only=True) as tx:
        left = source.items(tx, context.schema, DeferredForeignKey)
    for item in left:
        # Durable: the declared key is validated. Its interim remains.
        with context.fenced_source("reverse.key_validated") as tx:
            foreign_keys.validate_declared(tx, item)
        wait_for_locks(context, "source", item.tables, partial(_drop_source_interim, context, item))


def _drop_source_interim(context: Context, item: DeferredForeignKey) -> None:
    # Durable together: the interim is dropped, and the record of the key removed.
    with context.fenced_source("reverse.interim") as tx:
        brief_lock(tx)
        foreign_keys.drop_interim(tx, item)
        source.discard(tx, context.schema, item)


# Following -----------------------------------------------------------------------------------------


def refuse_irreversible(plan: Plan) -> None:
    """:raises Refused: with each reason why a table has no reverse mapping."""
    if plan.rollback_problems:
        raise Refused(
            "a rollback to the source is not possible",
            why="\n".join(plan.rollback_problems),
            fix="the target is still serving; `plan` prints before the cutover what a rollback would need",
        )


def measure(context: Context, plan: Plan) -> int:
    """Measure the backlog of the source, record it for ``status``; the number of log rows that wait."""
    # Durable together: rows and age of the backlog.
    with context.fenced("reverse.backlog") as tx:
        rows, oldest = triggers.backlog(tx, triggers.captured(plan.reverse, context.schema))
        catch_up.note_backlog(tx, context.run_id, rows, oldest)
    return rows


def drain(context: Context, plan: Plan) -> int:
    """Apply changes in reverse until few are waiting or their number no longer shrinks; the number of rows applied."""
    applied = 0
    draining = Draining(context, "reverse pass")
    with ReverseFollower(context, plan) as follower:
        while True:
            context.checkpoint()
            made = retry(lambda: follower.catch_up(record_changed=True))
            applied += made.rows
            if draining.is_done(made, measure(context, plan)):
                return applied


def follow(context: Context, plan: Plan, *, once: bool) -> int:
    """Apply changes to the source until a signal arrives; with ``once``, until few wait, and the rows applied.

    :raises Refused: when a table has no reverse mapping, or the source lost passes.
    """
    refuse_irreversible(plan)
    refuse_open_source(context)
    reverse_apply.refuse_behind(context)
    if once:
        return drain(context, plan)
    with ReverseFollower(context, plan) as follower:
        while True:
            context.checkpoint()
            made = retry(lambda: follower.catch_up(record_changed=True))
            left = measure(context, plan)
            if made.keys:
                context.progress.say(described("reverse pass", made, left))
            if left <= SMALL_BACKLOG:
                time.sleep(IDLE_SECONDS)


def refuse_open_source(context: Context) -> None:
    """:raises Blocked: when the source accepts writes, or may have accepted some, although the target is serving."""
    with context.source.transaction(read_only=True) as tx:
        closed = write_block.is_blocked(tx, context.schema)
        write_block.refuse_damaged(tx, context.schema, "source")
    if not closed:
        raise Blocked(
            f"the source {quoted(context.run().source_name)} is not closed",
            why="the target is serving, and writes to the source would be lost",
            fix="stop its writers, then check the write block's triggers on it",
        )
