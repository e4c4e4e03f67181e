"""After the copy: restore indexes and constraints, add foreign keys, set sequences, refresh views, analyze.

Each is a resumable step of its own, so that an index is not built twice. Several run at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import psycopg
from psycopg import sql

from confiture import catalog, fingerprint
from confiture.errors import CannotConnect
from confiture.journal import deferred_objects, table_plans
from confiture.journal.model import DeferredForeignKey, DeferredIndex, DeferredStatus, TablePhase
from confiture.plan.index_builds import IndexBuilds, of_keys, of_servers
from confiture.plan.model import Plan, TablePlan
from confiture.postgres.retry import retry
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.runner.parallel_steps import run_together
from confiture.runner.resumable_steps import Step, run_steps
from confiture.schema_to_schema import index_steps, materialized_views, sequences
from confiture.schema_to_schema.deferred_objects import foreign_keys, indexes
from confiture.schema_to_schema.keyless import off_until_cutover
from confiture.sql import load
from confiture.types import TableRef

TargetAct = Callable[[Context, Transaction], None]

#: Seconds between two reports of the index builds.
WATCH_SECONDS = 30.0
#: Bytes of a table from which the build of its key may take longer than that.
WATCHED_BYTES = 2**30
#: The name under which the refreshes of views exclude each other.
_VIEWS = TableRef("", "materialized views")


def choose_builds(context: Context, index_jobs: int | None) -> IndexBuilds:
    """How indexes are built on this target.

    :param index_jobs: builds at a time, as the operator gave them; None for the default.
    """
    with context.source.transaction(read_only=True) as here, context.target.transaction(read_only=True) as there:
        builds = of_servers(catalog.identity(here), catalog.identity(there), index_jobs)
    if builds.reduced:
        context.progress.say(builds.reduced)
    return builds


def builds_of_keys(context: Context, workers: int) -> IndexBuilds:
    """How the indexes of keys are built, when each of some worker processes may build one at the same time."""
    with context.target.transaction(read_only=True) as tx:
        return of_keys(catalog.identity(tx), workers)


def rebuild(context: Context, plan: Plan, builds: IndexBuilds, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Restore what was taken off for the copy; foreign keys as they stand until the cutover.

    :param meanwhile: called repeatedly while the steps run.
    """
    with context.target.transaction(read_only=True) as tx:
        taken = deferred_objects.of_run(tx, context.run_id)
    keys = [d for d in taken if isinstance(d, DeferredForeignKey) and not off_until_cutover(plan, d)]
    # Those that another object needs were not taken off.
    off = [d for d in taken if isinstance(d, DeferredIndex) and d.status is DeferredStatus.OFF]
    retry(partial(_set_sequences, context, plan))
    steps = in_stages(
        index_steps.steps(off, sizes(context, off), builds),
        [*(_added(d) for d in keys), *(_validated(d) for d in keys)],
        [refreshed(view) for view in plan.materialized_views],
        [analyzed(t.target, t.number) for t in plan.tables],
        [Step("fingerprint of the target", act=lambda c, tx: record_target(c, tx, plan))],
    )
    watch = Watch(context)

    def look() -> None:
        watch.look()
        meanwhile()  # wording: the parameter

    run_together(context, "rebuild", steps, jobs=builds.jobs, meanwhile=look)


class Watch:
    """Reports at intervals how far the index builds of the run are. In the runner's thread, while it waits for them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reported = time.monotonic()

    def look(self) -> None:
        """Report each build, if the last report is old; nothing if the server does not answer."""
        if time.monotonic() - self._reported < WATCH_SECONDS:
            return
        self._reported = time.monotonic()
        with suppress(psycopg.Error, CannotConnect), self._context.target.transaction(read_only=True) as tx:
            found = tx.pg.execute(load("status.sql")["building"], {"run": self._context.run_id}).fetchall()
            for name, table, phase, _began, percent in found:
                share = f", {percent:.0f} %" if percent is not None else ""
                self._context.progress.say(f"rebuild: {name} on {table}: {phase}{share}")


def keys_off(context: Context, plan: Plan) -> Mapping[int, Sequence[DeferredIndex]]:
    """The indexes of tables' keys, with those of partitions, as far as they are off: by table number, roots first.

    All of them are read at once: a run has thousands of indexes.
    """
    with context.target.transaction(read_only=True) as tx:
        taken = deferred_objects.of_kind(tx, context.run_id, DeferredIndex)
    owners = {(t.target, t.arbiter): t.number for t in plan.tables}
    of_index: dict[TableRef | None, int] = {}
    found: dict[int, list[DeferredIndex]] = {t.number: [] for t in plan.tables}
    for item in indexes.roots_first(taken):
        owner = owners.get((item.table, item.name), of_index.get(item.parent))
        if owner is not None:
            of_index[TableRef(item.table.schema, item.name)] = owner
            if item.status is DeferredStatus.OFF:
                found[owner].append(item)
    return found


def build_key(context: Context, table: TablePlan, off: Sequence[DeferredIndex], builds: IndexBuilds) -> None:
    """Build the index of a copied table's key, with those of its partitions: its first pass needs it (I-3.11).

    In the session of ``context``, unless ``builds`` permits several at a time. The runner builds that of a large table
    beside its session, so that it can report the progress; it does so for the builds of its workers too.

    :param off: as in :func:`keys_off`. An index that was built since is not built again.
    """
    watched = not context.worker and table.estimate_bytes >= WATCHED_BYTES
    if not watched and (builds.jobs == 1 or len(off) <= 1):
        run_steps(context, "rebuild", index_steps.steps(off, {}, builds, alone=True))
    else:
        steps = index_steps.steps(off, sizes(context, off), builds, alone=True)
        run_together(context, "rebuild", steps, jobs=builds.jobs, meanwhile=Watch(context).look)


def sizes(context: Context, items: Sequence[DeferredIndex]) -> Mapping[TableRef, int]:
    """The bytes of the tables of these indexes."""
    tables = list(dict.fromkeys(d.table for d in items))
    names = {"schemas": [t.schema for t in tables], "tables": [t.name for t in tables]}
    with context.target.transaction(read_only=True) as tx:
        return {
            TableRef(schema, name): size
            for schema, name, size in tx.pg.execute(load("constraints.sql")["sizes"], names).fetchall()
        }


def in_stages(*stages: Sequence[Step]) -> list[Step]:
    """The steps of all stages; each begins when those of the stage before it have ended."""
    found: list[Step] = []
    before: frozenset[str] = frozenset()
    for stage in filter(None, stages):
        found += (replace(step, after=step.after | before) for step in stage)
        before = frozenset(step.name for step in stage)
    return found


def record_target(context: Context, tx: Transaction, plan: Plan) -> None:
    """Record the fingerprint of the tables that changes are applied to. A change of it blocks the run from now on."""
    tables = fingerprint.oids(tx, [t.target for t in plan.tables])
    fingerprint.record(tx, context.schema, tables, fingerprint.APPLIED)
    fingerprint.discard(tx, context.schema, tables, (fingerprint.STORAGE,))


def _set_sequences(context: Context, plan: Plan) -> None:
    # Durable whether or not this commits: the values of the sequences. Repeated by every migrate, because the
    # application continues to use the source's sequences.
    with context.fenced("rebuild.sequences") as tx:
        sequences.set_all(context.source, tx, plan)


def _added(key: DeferredForeignKey) -> Step:
    act = partial(index_steps.explained, f"foreign key {key.name} on {key.table}", _add_interim, key)
    return Step(f"foreign key {key.name} on {key.table}", act=act, locks=frozenset(key.tables))


def _validated(key: DeferredForeignKey) -> Step:
    name = f"foreign key {key.name} on {key.table}"
    act = partial(index_steps.explained, f"{name} validated", _validate_interim, key)
    return Step(f"{name} validated", act=act, after=frozenset((name,)), locks=frozenset((key.table,)))


def refreshed(view: TableRef) -> Step:
    # A view may read the one before it.
    return Step(
        f"refresh of {view}", act=partial(materialized_views.refresh_or_report, view), locks=frozenset((_VIEWS,))
    )


def analyzed(table: TableRef, number: int) -> Step:
    return Step(f"statistics of {table}", act=_analyze(table, number), locks=frozenset((table,)))


def _add_interim(context: Context, tx: Transaction, item: DeferredForeignKey) -> None:
    """Add the foreign key as it stands until the cutover; one with orphans remains off, and ``verify`` names them."""
    try:
        with tx.pg.transaction():
            foreign_keys.add_interim(tx, item)
    except psycopg.errors.ForeignKeyViolation:
        return
    deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.INTERIM)


def _validate_interim(context: Context, tx: Transaction, item: DeferredForeignKey) -> None:
    """Check every row under the interim; a key with orphans remains NOT VALID, and ``verify`` names them."""
    if not item.validated:
        return  # declared NOT VALID: the new schema does not ask for validation
    try:
        with tx.pg.transaction():
            foreign_keys.validate_interim(tx, item)
    except (psycopg.errors.ForeignKeyViolation, psycopg.errors.UndefinedObject):
        return


def _analyze(table: TableRef, number: int) -> TargetAct:
    def act(context: Context, tx: Transaction) -> None:
        tx.pg.execute(sql.SQL("ANALYZE {}").format(table.identifier))
        table_plans.update(tx, context.run_id, number, phase=TablePhase.FINISHED, finished_at=_now(tx))

    return act


def _now(tx: Transaction) -> object:
    row = tx.pg.execute("SELECT clock_timestamp()").fetchone()
    return None if row is None else row[0]
