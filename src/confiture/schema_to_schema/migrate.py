"""migrate: copy every table chunk by chunk, then restore indexes and constraints and set sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from confiture.capture import apply
from confiture.copy import foreign_server, foreign_session
from confiture.copy.throttler import Throttler
from confiture.errors import Refused
from confiture.journal import runs, table_plans
from confiture.journal.model import COPIED, TableProgress
from confiture.plan.index_builds import IndexBuilds
from confiture.plan.model import Plan, plan_from_json
from confiture.runner.context import Context
from confiture.runner.workers import Pool
from confiture.schema_to_schema import follow, jobs, large_objects, plan_store, rebuild
from confiture.schema_to_schema.copy_tables import CopyTables
from confiture.schema_to_schema.log_compaction import LogCompactor

#: The kind of the event that every row is copied, and every index is built.
COPIED_EVENT = "copied"


def copy_all(
    context: Context,
    plan: Plan,
    *,
    capture: bool,
    asked: int | None = None,
    executor: str | None = None,
    index_jobs: int | None = None,
) -> int:
    """Copy the tables that are not copied yet; the number of rows copied by this call. Resumes from the journal.

    :param capture: the application writes during the copy. Changes are applied before the constraints are built as
        well as after it, because a row copied under both its old and its new key would violate them (I-3.12).
    :param asked: chunks that are copied, or groups of tables that catch up, at the same time; None for as many as there
        are cores.
    :param executor: of the workers; None for processes of this machine.
    :param index_jobs: index builds at a time; None for the default.
    :raises DataFailure: at the first row that the target rejects, naming the row.
    :raises Drained: after a signal, at a checkpoint.
    """
    with context.target.transaction(read_only=True) as tx:
        left = [s for s in table_plans.of_run(tx, context.run_id) if s.phase not in COPIED]
    builds = rebuild.choose_builds(context, index_jobs)
    with closing(jobs.pool(context, plan, left, asked, executor)) as pool:
        # Each worker builds one key at a time, in its own session.
        of_keys = builds if pool.slots == 1 else rebuild.builds_of_keys(context, min(pool.slots, max(len(left), 1)))
        copied = _copy(context, plan, left, pool, of_keys, capture=capture)
    large_objects.synchronise(context, plan)
    if capture:
        follow.drain(context, plan, record_changed=True, jobs=asked)
        rebuild.rebuild(context, plan, builds, follow.BacklogWatch(context, plan).look)
    else:
        rebuild.rebuild(context, plan, builds)
    if capture:
        follow.drain(context, plan, record_changed=True, jobs=asked)
    _note_copied(context)
    return copied


def _note_copied(context: Context) -> None:
    """Record once that every row is copied, again after tables were copied again."""
    with context.target.transaction(read_only=True) as tx:
        among = (COPIED_EVENT, "planned", "replanned", "table restarted", "reopen", "rollback")
        last = runs.last_event(tx, context.run_id, among)
    if last is None or last.kind != COPIED_EVENT:
        # Durable: the event.
        with context.fenced("copied") as tx:
            runs.note(tx, context.run_id, context.epoch, COPIED_EVENT)


def _copy(
    context: Context, plan: Plan, left: Sequence[TableProgress], pool: Pool, builds: IndexBuilds, *, capture: bool
) -> int:
    run = context.run()
    server = plan_store.server_of(run)
    by_fdw = {t.number: t.strategy == "fdw" for t in plan.tables}
    reads_by_fdw = server is not None and any(by_fdw[s.number] for s in left)
    # Durable together: no error blocks the run, and the foreign server has the current credentials.
    with context.fenced("copy.begun") as tx:
        runs.unblock(tx, context.run_id)
        if server is not None and reads_by_fdw:
            foreign_server.refresh(tx, context.source, server)
            foreign_server.add_user_mapping(tx, context.source, server, run.options.get("seen_as"))
    if server is not None and reads_by_fdw:
        foreign_session.prepare(context, server)
    fixed = run.options.get("chunk_rows") is not None
    with _compacting(context, plan, capture=capture) as compactor:
        throttler = Throttler(context, compactor, streams=pool.slots, fixed=fixed)
        copied = CopyTables(context, plan, left, throttler, pool, builds).run()
    if server is not None:
        # Durable: the foreign server has no credentials. They are needed again only when a table is copied again.
        with context.fenced("copy.credentials_removed") as tx:
            foreign_server.drop_user_mapping(tx, server)
    return copied


@contextmanager
def _compacting(context: Context, plan: Plan, *, capture: bool) -> Iterator[LogCompactor | None]:
    if not capture:
        yield None
        return
    apply.refuse_behind(context)
    with LogCompactor(context, plan) as compactor:
        yield compactor


def stored_plan(context: Context) -> Plan:
    """The run's plan from the journal.

    :raises Refused: when setup is not finished; its last act stores the plan.
    """
    run = context.run()
    if run.plan is None:
        raise Refused(
            "setup is not finished",
            why="an earlier setup stopped before it stored the plan",
            fix="run the same setup command again",
        )
    return plan_from_json(run.plan)
