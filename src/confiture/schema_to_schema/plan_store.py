"""Creating the plan and storing it: views on the source, foreign tables and the tables' rows in the target's journal.

The source's fence row names the plan that its views belong to; both are committed together. A crash between the
source's commit and the target's is detected by comparing that name. The views are then created again from the stored
plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import psycopg
from psycopg import IsolationLevel, sql

from confiture import build, catalog, fingerprint
from confiture.capture import write_block
from confiture.catalog_model import Catalog, Index, Table
from confiture.config import Database
from confiture.copy import bad_text, fdw, foreign_server
from confiture.copy.run_table import RunTable
from confiture.errors import Blocked, DataFailure, Fault, FaultyInput, MissingPrivileges, Refused, UsageError
from confiture.journal import deferred_objects, runs, schema, steps, table_plans
from confiture.journal import source as run_schema
from confiture.journal.model import (
    COPIED,
    Deferred,
    DeferredForeignKey,
    DeferredIndex,
    DeferredStatus,
    Run,
    TableProgress,
)
from confiture.mapping import Mapping
from confiture.plan import expressions, privileges, reverse, trust
from confiture.plan.model import Options, Plan, TablePlan, Trusted, plan_from_json, table_signature
from confiture.plan.planner import Planner
from confiture.plan.projection import raw, view_select
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import yielding
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.schema_to_schema.deferred_objects import describe, take_off
from confiture.schema_to_schema.outcomes import Blocker
from confiture.schema_to_schema.preconditions import capture, ddl_roles, large_rows
from confiture.states import VERIFIED
from confiture.types import Json, TableRef, counted, grouped, quoted, shell_word

#: The facts of each source table, by aspect, in the snapshot of the plan.
Fingerprints = dict[TableRef, dict[str, str]]

#: Aspects that must not change between the plan and the first row that is read. Capture records the storage itself.
_PLANNED = (
    fingerprint.TABLE,
    fingerprint.COLUMNS,
    fingerprint.KEY,
    fingerprint.PARTITIONS,
    fingerprint.RULES,
    fingerprint.TRIGGERS,
)
#: The facts that are read with the catalog: the source's definitions are recorded when its views exist.
_READ = (*_PLANNED, *fingerprint.DATABASE)
#: Views that are created in one round trip. Each is one more lock of the transaction.
VIEWS_AT_A_TIME = 200
#: The journal stores the facts of the whole database under this name.
_WHOLE = TableRef("", "")


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and the catalogs that it was created from.

    :ivar fingerprints: of the source's tables, in the snapshot of its catalog, so that a later change is detected.
    :ivar state: of the run that the plan belongs to; None when there is no run yet.
    :ivar captured: whether the application's writes are captured.
    :ivar blockers: sessions that a setup would wait for now, to put its triggers on the tables of the source.
    :ivar created: the database that a setup would create, in words; None when the target exists.
    """

    plan: Plan
    source: Catalog
    target: Catalog
    fingerprints: Fingerprints = field(default_factory=dict)
    state: str | None = None
    captured: bool = True
    blockers: tuple[Blocker, ...] = ()
    created: str | None = None


def create(
    source: Session, target_catalog: Catalog, given: Mapping, faults: tuple[Fault, ...], options: Options
) -> Planned:
    """Create the plan for these databases and this mapping; changes nothing.

    :param faults: found when the mapping was parsed; reported together with those of the plan.
    :raises FaultyInput: with all faults of the mapping.
    :raises Refused: naming the objects of the databases that cannot be moved.
    """
    source_catalog, fingerprints = read_catalog(source)
    with Session(source.database, "expressions", source.run, user_sql=True) as session:
        with session.rehearsal() as tx:
            trusted = trust.resolve(tx, [t.name for t in given.trusted], "source")
        facts = retry(lambda: expressions.probe(session, source_catalog, target_catalog, given, trusted))
    planner = Planner(source_catalog, target_catalog, given, facts, options)
    plan = replace(planner.plan(), captured=options.capture, ddl=options.ddl)
    found = sorted((*faults, *planner.faults, *_unknown(given, trusted)), key=lambda f: (f.line, f.column))
    if found:
        raise faulty(found)
    _refuse_closed(source, plan)
    uncaptured = capture.reasons(plan, source_catalog) if options.capture else []
    if planner.missing and len(planner.refusals) == len(planner.missing) and not uncaptured:
        raise privileges.refusal(planner.missing)
    if planner.refusals:
        reasons = [*planner.refusals, *uncaptured]
        raise Refused("the plan is refused", why="\n".join(grouped(reasons)), fix="nothing was changed")
    if uncaptured:
        raise Refused("writes cannot be captured", why="\n".join(grouped(uncaptured)), fix=capture.WAYS_OUT)
    _refuse_large_rows(source, plan, source_catalog)
    plan = replace(reverse.with_reverse(plan, source_catalog, target_catalog), trusted=trusted)
    return Planned(plan, source_catalog, target_catalog, fingerprints)


def _refuse_large_rows(source: Session, plan: Plan, found: Catalog) -> None:
    with Session(source.database, "expressions", source.run, user_sql=True) as session:
        reasons = list(large_rows.reasons(session, plan, found))
    if reasons:
        raise Refused("the plan is refused", why="\n".join(reasons), fix="nothing was changed")


def _refuse_closed(source: Session, plan: Plan) -> None:
    with source.transaction(read_only=True) as tx:
        found = write_block.closed_by_another(tx, _schema_of(source), [t.source for t in plan.tables])
    if found is not None:
        table, schema = found
        raise Refused(
            f"table {table} of the source is closed by another run",
            why=f"the run of schema {schema} was cut over, so that its target takes the writes",
            fix=f"name that target as the source; if this database is to take writes again, roll that run back, or"
            f" drop schema {schema} with CASCADE once the run is cleaned up",
        )


def _schema_of(session: Session) -> str:
    """The run's schema; there is none before a run."""
    return f"confiture_{session.run}" if session.run else "confiture"


def _unknown(given: Mapping, trusted: Sequence[Trusted]) -> list[Fault]:
    """Functions that the mapping trusts and the source lacks. With a ``reverse:``, they may be in the target."""
    if any(column.reverse for table in given.tables for column in table.columns):
        return []
    known = {t.given for t in trusted}
    hint = "write it as \\df prints it, argument types outside pg_catalog with their schema; or omit it"
    return [
        Fault(given.file, f.at.line, f.at.column, f"$trust_functions: the source has no function {f.name}", hint)
        for f in given.trusted
        if f.name not in known
    ]


def read_catalog(session: Session) -> tuple[Catalog, Fingerprints]:
    """The catalog, and the fingerprints of its tables in the same snapshot."""
    schema = _schema_of(session)

    def read() -> tuple[Catalog, Fingerprints]:
        with yielding(session), session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx:
            found = catalog.read(tx)
            refs = {t.oid: t.ref for t in found.tables} | {0: _WHOLE}
            prints: Fingerprints = {ref: {} for ref in refs.values()}
            for (root, aspect), fact in fingerprint.facts(tx, schema, list(refs), _READ).items():
                prints[refs[root]][aspect] = fact
            return found, prints

    return retry(read)


def faulty(found: Sequence[Fault]) -> FaultyInput:
    """All faults of a mapping as one error; a fault without a file is one of the plan without a mapping."""
    if not any(fault.file for fault in found):
        return FaultyInput(
            f"without a mapping, the plan has {counted(len(found), 'fault')}",
            found,
            fix="write what differs between the schemas into a file, and name it with --mapping; nothing was changed",
        )
    return FaultyInput(
        f"the mapping has {counted(len(found), 'fault')}",
        found,
        fix=f"fix {'it' if len(found) == 1 else 'them'}, then run the same command again; nothing was changed",
    )


def preview(
    session: Session, table: TablePlan, source: Table, rows: int
) -> list[tuple[dict[str, str | None], dict[str, str | None]]]:
    """Rows of the source, each with the row that the table's SELECT returns for the target."""
    before = [c.name for c in source.columns]
    after = [p.target for p in table.columns]
    name = source.ref.identifier
    items: list[sql.Composed] = [sql.Composed([sql.Identifier(source.ref.name, c)]) for c in before]
    items += [sql.SQL("((\n{}\n)::{})").format(raw(p.expression), raw(p.wire)) for p in table.columns]
    items = [bad_text.shown(item, "UTF8") for item in items]
    condition = sql.SQL(" WHERE (\n{}\n)").format(raw(table.where)) if table.where else sql.SQL("")
    query = sql.SQL("SELECT ARRAY[{}]::text[] AS row FROM {}{}{}").format(
        sql.SQL(", ").join(items), sql.SQL("ONLY " if table.only else ""), name, condition
    )

    def read() -> list[tuple[list[str | None]]]:
        with yielding(session), session.rehearsal() as tx:
            bad_text.prepare(tx)
            # As in the copy: names are resolved when the view is created, and its functions run in pg_catalog.
            tx.pg.execute(sql.SQL("CREATE TEMP VIEW confiture_preview AS {}").format(query))
            tx.pg.execute("SET LOCAL search_path = pg_catalog")
            return tx.pg.execute("SELECT row FROM pg_temp.confiture_preview LIMIT %s", (rows,)).fetchall()

    found = []
    for (values,) in retry(read):
        cut = len(before)
        found.append((dict(zip(before, values[:cut], strict=True)), dict(zip(after, values[cut:], strict=True))))
    return found


def target_catalog(target: Session) -> Catalog:
    """The target's catalog; when it has no tables, the catalog after its DDL (executed and rolled back)."""
    found = catalog_of(target)
    if found.tables:
        return found
    with as_built(target.database, found) as (_, built, _):
        return built


def catalog_of(target: Session) -> Catalog:
    """The target's catalog as it is, with the keys whose indexes the run has taken off."""
    with target.transaction(isolation=IsolationLevel.REPEATABLE_READ) as tx:
        found = catalog.read(tx)
        run = runs.live(tx) if schema.version(tx) else None
        taken = deferred_objects.of_kind(tx, run.id, DeferredIndex) if run is not None else ()
    off = [d for d in taken if d.key and not d.level and d.status is DeferredStatus.OFF]
    return replace(found, tables=tuple(_with_keys(table, off) for table in found.tables)) if off else found


def _with_keys(table: Table, off: Sequence[DeferredIndex]) -> Table:
    keys = tuple(Index.of_key(d.table, d.name, d.key) for d in off if d.table == table.ref)
    return replace(table, indexes=(*table.indexes, *keys)) if keys else table


@contextmanager
def as_built(database: Database, found: Catalog | None) -> Iterator[tuple[Transaction, Catalog, str | None]]:
    """The target as setup leaves it, for the block: if it has no tables, its DDL is executed. Then rolled back.

    Yields the hash of the DDL files with it; None if none is executed.

    :param found: its catalog; None while it does not exist, and ``database`` is another one of its server.
    :raises MissingPrivileges: with every role that the DDL names in vain.
    :raises Refused: when there is no DDL.
    """
    with Session(database, "plan", user_sql=True) as session, session.rehearsal() as tx:
        ddl = None
        if found is None or not found.tables:
            ddl = _apply(tx, database, here=found is not None)
        tx.pg.execute("SET LOCAL search_path = pg_catalog")
        tx.pg.execute("SET LOCAL row_security = off")
        yield tx, found if found is not None and found.tables else catalog.read(tx), ddl


def _apply(tx: Transaction, database: Database, *, here: bool) -> str:
    """Execute the DDL, and return the hash of its files; ``here``: in the target itself, which exists."""
    files = _ddl_files(database)
    try:
        # Rolled back to a savepoint, the DDL keeps no lock that the next attempt would wait for.
        with tx.pg.transaction():
            build.apply(tx.pg, files)
        return build.digest(files)
    except (DataFailure, Refused) as error:
        with Session(database, "plan", user_sql=True) as session, session.rehearsal() as again:
            reasons = ddl_roles.missing(again, files, catalog.identity(again), here=here)
        if reasons:
            raise privileges.refusal(reasons) from error
        if here:
            raise
        # Objects and privileges of the other database may be the reason.
        note = f"the DDL was tried in database {database.dbname}, because the target does not exist"
        fix = f"{error.fix}; or if only {database.dbname} is the reason, create the target database, then plan in it"
        raise type(error)(error.what, why=f"{error.why}; {note}", fix=fix, detail=error.detail) from error


def _ddl_files(database: Database) -> tuple[build.DdlFile, ...]:
    if database.schema_dir is None or not database.schema_dir.is_dir():
        raise Refused(
            "there is no new schema to plan for",
            why=f"the target has no tables and {database.schema_dir or 'db/schema'} does not exist",
            fix="put ordered DDL under db/schema/",
        )
    return build.collect(database.schema_dir, database.include, database.exclude)


def missing_privileges(
    source: Session, target_catalog: Catalog | None, given: Mapping, options: Options, known: Sequence[str]
) -> MissingPrivileges:
    """Everything that the roles lack on both sides, where too much is missing to create the plan.

    :param target_catalog: None when it cannot be read; the source's tables that are not omitted are then looked at.
    :param known: reasons that are already known.
    """
    found = read_catalog(source)[0]
    planner = Planner(found, target_catalog or _as_if_built(found), given, {}, options)
    planner.plan()
    return privileges.refusal([*known, *planner.missing])


def _as_if_built(found: Catalog) -> Catalog:
    """A target with the tables of the source, in which nothing is missing."""
    return replace(
        found,
        tables=tuple(
            replace(t, owned=True, may_use_schema=True, may_create_in_schema=True, row_security=False)
            for t in found.tables
        ),
        sequences=tuple(replace(s, may_update=True) for s in found.sequences),
        of_others=(),
        roles=dict.fromkeys(found.roles, True),
    )


def fdw_facts(source: Session, target: Session, seen_as: str | None) -> Json:
    """As in :func:`confiture.copy.foreign_server.facts`, in a transaction that is rolled back."""
    with target.rehearsal() as tx:
        return foreign_server.facts(tx, source, seen_as)


# Storing -------------------------------------------------------------------------------------------


def store(context: Context, given: Mapping, planned: Planned, restart: tuple[str, ...], options: Json) -> Plan:
    """Store ``planned`` as the run's plan, on both sides. Tables that have rows keep their rows.

    After a crash between the two sides, :func:`ensure_views` creates the views of the plan that is stored.

    :param restart: names of tables to empty and copy again.
    :param options: the run's options that the plan was created with, stored with it.
    :raises Refused: when the rows of a table would differ under this plan, and it is not among ``restart``.
    :raises UsageError: when neither this plan nor the previous one has a table of ``restart``.
    """
    plan = planned.plan
    with context.target.transaction(read_only=True) as tx:
        before = table_plans.of_run(tx, context.run_id)
    again = _restarted(restart, plan, before)
    _refuse_other_tables(before, plan)
    _refuse_changed(before, plan, again)
    create_views(context, plan)
    # Durable together: the plan, its tables in the journal, the foreign tables, emptied tables and dropped indexes.
    with context.fenced("store") as tx:
        run = runs.get(tx, context.run_id)
        plan = _foreign_tables(context, tx, plan, server_of(run))
        if before and (again or plan.hash != run.plan_hash):
            _reopen(context, tx, run)
        truncate(tx, again)
        _table_rows(context, tx, replace(planned, plan=plan), before, again)
        empty = [t.target for t in plan.tables if not before or t.target in again]
        take_indexes_off(context, tx, [planned.target.by_ref[ref] for ref in empty])
        runs.update(
            tx,
            context.run_id,
            plan=plan.as_json(),
            plan_hash=plan.hash,
            mapping=given.text,
            mapping_file=given.file,
            options={**options, "database": _database_facts(planned, given)},
            blocked_reason=None,
            blocked_command=None,
        )
        for ref in again:
            runs.note(tx, context.run_id, context.epoch, "table restarted", {"table": str(ref)})
        detail = {"plan": plan.hash, "tables": len(plan.tables)}
        runs.note(tx, context.run_id, context.epoch, "replanned" if before else "planned", detail)
    name_plan(context, plan)
    return plan


def _database_facts(planned: Planned, given: Mapping) -> dict[str, str]:
    """The facts of the whole database that are compared: its set of tables, and that it has no large object."""
    whole = planned.fingerprints.get(_WHOLE, {})
    kinds = [fingerprint.TABLES] if given.large_objects else fingerprint.DATABASE
    return {kind: whole.get(kind, "") for kind in kinds}


def _restarted(names: Sequence[str], plan: Plan, before: Sequence[TableProgress]) -> frozenset[TableRef]:
    """The target tables to copy again, with every other target of the same source table.

    A name refers to a target table, or else to each target of the source table of that name.
    """
    pairs = [*((t.source, t.target) for t in plan.tables), *((s.source, s.target) for s in before)]
    targets = [target for _, target in pairs]
    sources = [
        n for n in names if not any(_is_called(t, n) for t in targets) and any(_is_called(s, n) for s, _ in pairs)
    ]
    meant = set(_named([n for n in names if n not in sources], targets))
    meant |= {target for source, target in pairs for n in sources if _is_called(source, n)}
    shared = {source for source, target in pairs if target in meant}
    return frozenset(meant | {target for source, target in pairs if source in shared})


def _is_called(table: TableRef, name: str) -> bool:
    return name in (str(table), table.name, quoted(table.name), f"{table.schema}.{table.name}")


def _named(names: Sequence[str], known: Sequence[TableRef]) -> frozenset[TableRef]:
    """The tables that the names refer to, each as ``name`` or ``schema.name``, quoted or not."""
    found = set()
    for name in names:
        meant = {t for t in known if _is_called(t, name)}
        if len(meant) != 1:
            tables = ", ".join(sorted({str(t) for t in meant or known}))
            what = f"the plan has no table {name}" if not meant else f"the plan has several tables {name}"
            raise UsageError(what, why=f"it has {tables}", fix="specify it as schema.table")
        found |= meant
    return frozenset(found)


def _refuse_other_tables(before: tuple[TableProgress, ...], plan: Plan) -> None:
    """A table's number is its position in the target. With another one, the journal describes another table."""
    numbers = {t.target: t.number for t in plan.tables}
    moved = [str(s.target) for s in before if numbers.get(s.target, s.number) != s.number]
    if moved:
        raise Refused(
            "the target's tables are not those that the run began with",
            why=f"tables were created or dropped since then, which moved {', '.join(moved)} to another position",
            fix="undo that, or abort the run with abort",
        )


def has_rows(state: TableProgress) -> bool:
    """Whether rows of the table are copied, or the source table is known to have none."""
    return bool(state.rows_done) or state.phase in COPIED


def _refuse_changed(before: tuple[TableProgress, ...], plan: Plan, restart: frozenset[TableRef]) -> None:
    now = {t.target: t for t in plan.tables}
    changed = []
    for state in before:
        if not has_rows(state) or state.target in restart:
            continue
        old = plan_from_json({"tables": [state.plan]}).tables[0]
        new = now.get(state.target)
        if new is None or table_signature(old) != table_signature(new):
            changed.append(state.target)
    if changed:
        flags = " ".join(f"--restart-table {shell_word(str(t))}" for t in changed)
        raise Refused(
            "the mapping was changed for tables that have rows already",
            why=", ".join(map(str, changed)),
            fix=f"empty and copy them again with {flags}, or restore the previous mapping",
        )


def ensure_views(context: Context, plan: Plan) -> None:
    """Create the views again when a crash left those of another plan."""
    with context.source.transaction(read_only=True) as tx:
        known = run_schema.plan_hash(tx, context.schema)
    if known != plan.hash:
        create_views(context, plan)
        name_plan(context, plan)


def create_views(context: Context, plan: Plan) -> None:
    """Replace the run's views on the source. Until the plan is stored, the fence names no plan."""
    schema = sql.Identifier(context.schema)
    with context.beside("views", user_sql=True) as session:
        # Durable together: every view, with the functions it runs checked, and a fence that names no plan.
        with context.fenced_source("views", session=session) as tx:
            known = tx.pg.execute("SELECT viewname FROM pg_catalog.pg_views WHERE schemaname = %s", (context.schema,))
            old = [sql.Identifier(context.schema, name) for (name,) in known.fetchall()]
            if old:
                tx.pg.execute(sql.SQL("DROP VIEW {}").format(sql.SQL(", ").join(old)))
            views(tx, context.schema, plan.tables)
            trust.refuse(tx, context.schema, plan.tables, plan.trusted, "source")
            tx.pg.execute(sql.SQL("UPDATE {}.fence SET plan_hash = NULL").format(schema))


def name_plan(context: Context, plan: Plan) -> None:
    """Name the plan in the source's fence, with the fingerprint of each table of which no row has been read.

    The fingerprint is valid from this commit on. After a crash before it, the previous one is still valid.

    :raises Blocked: when a table was changed since it was planned.
    """
    run = context.run()
    with context.target.transaction(read_only=True) as tx:
        states = table_plans.of_run(tx, context.run_id)
    planned = {s.source: s.fingerprint or {} for s in states if not has_rows(s)}
    read = {s.source for s in states if has_rows(s)}
    unread = {ref: facts for ref, facts in planned.items() if ref not in read}
    # Durable together: the plan's name and the fingerprints.
    with context.fenced_source("views.named") as tx:
        _record(context, tx, plan, unread, run.options.get("database") or {})
        run_schema.set_plan_hash(tx, context.schema, plan.hash)


def _record(context: Context, tx: Transaction, plan: Plan, planned: Fingerprints, whole: dict[str, str]) -> None:
    fingerprint.keep_only(tx, context.schema, [t.source for t in plan.tables])
    fingerprint.discard(tx, context.schema, (), fingerprint.DATABASE)
    tables = fingerprint.oids(tx, planned)
    found = fingerprint.facts(tx, context.schema, list(tables.values()), (*fingerprint.MEANING, fingerprint.STORAGE))
    by_root: dict[int | None, dict[str, str]] = {}
    for (root, aspect), fact in found.items():
        by_root.setdefault(root, {})[aspect] = fact
    for ref, facts in planned.items():
        now = by_root.get(tables.get(ref), {})
        if _names(facts) != _names(now):
            raise Blocked(
                f"source table {ref} was changed while it was planned",
                why=str(_difference(ref, facts, now)),
                fix="none of its rows is copied yet: plan it again",
                step=f"migrate --restart-table {shell_word(str(ref))}",
                restart=(str(ref),),
            )
    still = {t.source for t in plan.tables if not t.recopied}
    fingerprint.record(tx, context.schema, tables, (*fingerprint.MEANING, *whole), {**found, **_of_database(whole)})
    fingerprint.record(
        tx, context.schema, {r: o for r, o in tables.items() if r in still}, (fingerprint.STORAGE,), found
    )


def _of_database(whole: dict[str, str]) -> dict[tuple[int, str], str]:
    return {(0, aspect): fact for aspect, fact in whole.items()}


def _names(facts: dict[str, str]) -> dict[str, str]:
    return {a: f for a, f in facts.items() if f and (a in _PLANNED or a.startswith("key "))}


def _difference(ref: TableRef, was: dict[str, str], now: dict[str, str]) -> fingerprint.Change:
    was, now = _names(was), _names(now)
    aspect = next(a for a in sorted(was.keys() | now.keys()) if was.get(a) != now.get(a))
    before, after = was.get(aspect, "").splitlines(), now.get(aspect, "").splitlines()
    gone, new = (x for x in before if x not in after), (x for x in after if x not in before)
    return fingerprint.Change(ref, aspect, tuple(gone), tuple(new))


def views(tx: Transaction, schema: str, tables: Sequence[TablePlan]) -> None:
    """Create the view of each table, many of them in one round trip."""
    statements = [
        sql.SQL("CREATE VIEW {} AS {}").format(sql.Identifier(schema, table.view), select_of(table)) for table in tables
    ]
    for first in range(0, len(statements), VIEWS_AT_A_TIME):
        tx.pg.execute(sql.SQL(";\n").join(statements[first : first + VIEWS_AT_A_TIME]))


def select_of(table: TablePlan) -> sql.Composed:
    """The SELECT of a planned table; its view and every comparison use it."""
    return view_select(table.source, table.only, table.keys_beside, table.columns, table.where)


def server_of(run: Run) -> str | None:
    """The run's foreign server; None when postgres_fdw cannot be used."""
    return None if run.fdw is None or run.fdw.get("problem") else str(run.fdw["server"])


def _foreign_tables(context: Context, tx: Transaction, plan: Plan, server: str | None) -> Plan:
    """Create foreign tables for the tables copied by FDW. COPY replaces FDW where the key range is not shipped."""
    old = tx.pg.execute(
        "SELECT foreign_table_name FROM information_schema.foreign_tables WHERE foreign_table_schema = %s",
        (context.schema,),
    )
    for (name,) in old.fetchall():
        tx.pg.execute(sql.SQL("DROP FOREIGN TABLE {}").format(sql.Identifier(context.schema, name)))
    tables = []
    for table in plan.tables:
        tables.append(table if table.strategy != "fdw" else _foreign_table(context, tx, table, server))
    return replace(plan, tables=tuple(tables))


def _foreign_table(context: Context, tx: Transaction, table: TablePlan, server: str | None) -> TablePlan:
    assert server is not None, "the planner chose fdw without a foreign server"
    job = RunTable(table, context.schema)
    tx.pg.execute(fdw.foreign_table(job, server))
    sample = _any_key(context, job)
    if sample is None or fdw.ships(tx, job, sample):
        return table
    tx.pg.execute(sql.SQL("DROP FOREIGN TABLE {}").format(job.view))
    reason = "postgres_fdw does not ship the key's range to the source"
    if table.strategy_reason == "asked for":
        raise Refused(f"{table.target} cannot be copied by fdw as requested", why=reason, fix="use copy or auto")
    return replace(table, strategy="copy", strategy_reason=reason)


def _any_key(context: Context, job: RunTable) -> tuple[str, ...] | None:
    if not job.table.key:
        return None
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(p.name)) for p in job.table.source_key)
    with context.source.transaction(read_only=True) as tx:
        row = tx.pg.execute(sql.SQL("SELECT {} FROM {} LIMIT 1").format(texts, job.source)).fetchone()
    return None if row is None else tuple(row)


def _table_rows(
    context: Context, tx: Transaction, planned: Planned, before: tuple[TableProgress, ...], restart: frozenset[TableRef]
) -> None:
    plan = planned.plan
    known = {state.number: state for state in before}
    now = {t.number for t in plan.tables}
    for number in set(known) - now:
        table_plans.drop(tx, context.run_id, number)
    for table in plan.tables:
        value = Plan((table,)).as_json()["tables"][0]
        state = known.get(table.number)
        if state is None:
            table_plans.add(
                tx,
                context.run_id,
                table.number,
                target=table.target,
                source=table.source,
                plan=value,
                estimate=table.estimate,
                fingerprint=planned.fingerprints[table.source],
            )
        elif has_rows(state) and table.target not in restart:
            table_plans.update(tx, context.run_id, table.number, plan=value)
        else:
            table_plans.replace(tx, context.run_id, table.number, table.source, value, table.estimate)
            fingerprint = planned.fingerprints[table.source]
            table_plans.update(tx, context.run_id, table.number, fingerprint=fingerprint)


def take_indexes_off(context: Context, tx: Transaction, empty: Sequence[Table]) -> None:
    """Take off every index of empty tables that can be created again as it was (docs/invariants.md, I-3.11)."""
    off = {
        (d.table, d.name)
        for d in deferred_objects.of_kind(tx, context.run_id, DeferredIndex)
        if d.status is DeferredStatus.OFF
    }
    taken: list[Deferred] = []
    for table in empty:
        trees: dict[int, list[Index]] = {}
        for index in (*table.indexes, *table.partition_indexes):
            if (index.table, index.name) not in off:
                trees.setdefault(index.tree, []).append(index)
            elif index.definition:
                _dropped(tx, [[index]])  # it was built, and its constraint has not adopted it
        free = [tree for tree in trees.values() if not any(i.marked or not i.valid for i in tree)]
        for tree in _dropped(tx, free):
            taken += map(describe.index, tree)
    deferred_objects.put(tx, context.run_id, *taken)


def _dropped(tx: Transaction, trees: list[list[Index]]) -> list[list[Index]]:
    """Drop indexes, each with all that is attached to it; those that were dropped.

    One that another object needs remains, and slows the copy: then they are dropped one by one.
    """
    try:
        with tx.pg.transaction():
            for tree in trees:
                take_off(tx, describe.index(tree[0]))
    except psycopg.errors.DependentObjectsStillExist:
        return [tree for one in trees for tree in _dropped(tx, [one])] if len(trees) > 1 else []
    return trees


# Copying again -------------------------------------------------------------------------------------


def _reopen(context: Context, tx: Transaction, run: Run) -> None:
    """Rows will be copied again: the steps after the copy run again, and the verification is no longer valid."""
    tables = [s.target for s in table_plans.of_run(tx, context.run_id)]
    fingerprint.discard(tx, context.schema, tables, (*fingerprint.APPLIED, fingerprint.STORAGE))
    foreign_keys_off(context, tx)
    steps.discard(tx, context.run_id, "rebuild")
    steps.discard(tx, context.run_id, "cutover")
    if run.state == VERIFIED:
        transitions.fire(tx, run, "reopen", {"reason": "tables are copied again"})


def foreign_keys_off(context: Context, tx: Transaction) -> None:
    """Take the foreign keys off again, so that a referenced table can be emptied and filled."""
    for item in deferred_objects.of_kind(tx, context.run_id, DeferredForeignKey):
        if item.status is not DeferredStatus.OFF:
            take_off(tx, item)
            deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.OFF)


def truncate(tx: Transaction, tables: frozenset[TableRef]) -> None:
    """Truncate tables without their inheritance children, which have plans of their own; partitions are included."""
    for ref in sorted(tables):
        row = tx.pg.execute(
            "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text))",
            (ref.schema, ref.name),
        ).fetchone()
        only = sql.SQL("" if row is not None and row[0] else "ONLY ")
        tx.pg.execute(sql.SQL("TRUNCATE {}{}").format(only, ref.identifier))
