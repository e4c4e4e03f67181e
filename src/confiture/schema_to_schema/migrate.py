"""migrate: copy every table chunk by chunk, then restore indexes and constraints and set sequences."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import psycopg

from confiture.capture import apply
from confiture.copy import bad_row, bad_text, chunks, foreign_server, foreign_session, large_row
from confiture.copy.run_table import RunTable
from confiture.copy.throttler import Throttler
from confiture.errors import Blocked, ConfitureError, DataFailure, GaveWay, Refused
from confiture.journal import runs, table_plans
from confiture.journal.chunks import claim, fail
from confiture.journal.model import COPIED, BadRowDetail, Chunk, ChunkError, TablePhase, TableProgress
from confiture.plan.model import Plan, plan_from_json
from confiture.postgres.failure import failure, relies_on_search_path
from confiture.postgres.retry import retry, retry_delays
from confiture.runner.context import Context
from confiture.schema_to_schema import follow, large_objects, plan_store, rebuild
from confiture.schema_to_schema.log_compaction import LogCompactor
from confiture.types import Activity, KeyRange, KeyValue, named_key, shell_word, short_names


def copy_all(context: Context, plan: Plan, *, capture: bool) -> int:
    """Copy the tables that are not copied yet; the number of rows copied by this call. Resumes from the journal.

    :param capture: the application writes during the copy. Changes are applied before the constraints are built as
        well as after it, because a row copied under both its old and its new key would violate them (I-3.12).

    :raises DataFailure: at the first row that the target rejects, naming the row.
    :raises Drained: after a signal, at a checkpoint.
    """
    with context.target.transaction(read_only=True) as tx:
        states = table_plans.of_run(tx, context.run_id)
    run = context.run()
    server = plan_store.server_of(run)
    by_fdw = {t.number: t.strategy == "fdw" for t in plan.tables}
    reads_by_fdw = server is not None and any(s.phase not in COPIED and by_fdw[s.number] for s in states)
    # Durable together: no error blocks the run, and the foreign server has the current credentials.
    with context.fenced("copy.begun") as tx:
        runs.unblock(tx, context.run_id)
        if server is not None and reads_by_fdw:
            foreign_server.refresh(tx, context.source, server)
            foreign_server.let_in(tx, context.source, server, run.options.get("seen_as"))
    if server is not None and reads_by_fdw:
        foreign_session.prepare(context, server)
    jobs = {t.number: RunTable(t, context.schema) for t in plan.tables}
    names = short_names(t.target for t in plan.tables)
    copied = 0
    with _compacting(context, plan, capture=capture) as compactor:
        throttler = Throttler(context, compactor)
        for state in states:
            if state.phase not in COPIED:
                job = jobs[state.number]
                copied += _copy_table(context, job, names[job.table.target], state, throttler)
                if compactor is not None:
                    compactor.next_table()
        throttler.end()
    if server is not None:
        # Durable: the foreign server has no credentials. They are needed again only when a table is copied again.
        with context.fenced("copy.credentials_removed") as tx:
            foreign_server.shut_out(tx, server)
    large_objects.synchronise(context, plan)
    if capture:
        follow.drain(context, plan, record_changed=True)
    rebuild.rebuild(context, plan)
    if capture:
        follow.drain(context, plan, record_changed=True)
    return copied


@contextmanager
def _compacting(context: Context, plan: Plan, *, capture: bool) -> Iterator[LogCompactor | None]:
    if not capture:
        yield None
        return
    apply.refuse_behind(context)
    with LogCompactor(context, plan) as compactor:
        yield compactor


def _copy_table(context: Context, job: RunTable, name: str, state: TableProgress, throttler: Throttler) -> int:
    number, copied = job.table.number, 0
    while True:
        throttler.wait()
        size = throttler.chunk_rows(number, job.table.chunk_rows)
        with _naming_row(context, job):
            retry(partial(chunks.plan_ahead, context, job, number, size))
        rows = _copy_next(context, job, name, state, throttler)
        copied += rows or 0
        done, now = retry(partial(chunks.complete, context, number))
        total = now.rows_done if done else max(now.estimate, now.rows_done)
        context.progress.table(name, now.rows_done, total, Activity.COPIED if done else Activity.COPYING)
        if done:
            break
    rebuild.build_key(context, job.table)
    retry(partial(_mark_copied, context, number))
    return copied


def _mark_copied(context: Context, number: int) -> None:
    # Durable: every row of the table is copied.
    with context.fenced("copy.table_done") as tx:
        table_plans.update(tx, context.run_id, number, phase=TablePhase.COPIED)


def _copy_next(context: Context, job: RunTable, name: str, state: TableProgress, throttler: Throttler) -> int | None:
    """Copy the chunks planned so far, with a check of signals and limits between chunks; the number of rows."""
    copied = 0
    while True:
        throttler.wait()
        chunk = retry(lambda: chunks.next_chunk(context, job.table.number))
        if chunk is None:
            return copied
        with _naming_row(context, job, chunk):
            if chunk.attempts >= chunks.HALVE_AFTER and chunk.error is None:
                retry(partial(chunks.halve, context, job, chunk))
            _shorten(context, job, chunk, throttler)
            began = time.monotonic()
            rows = retry(partial(_copy_or_halve, context, job, chunk)) or 0
        throttler.copied(job.table.number, rows, began)
        copied += rows
        estimate = max(state.estimate, state.rows_done + copied)
        context.progress.table(name, state.rows_done + copied, estimate, Activity.COPYING)


def _copy_or_halve(context: Context, job: RunTable, chunk: Chunk) -> int | None:
    """Copy a chunk, or halve it when it yielded to the application, so that less has to be repeated.

    The number of rows; None when the chunk was not copied.
    """
    try:
        return chunks.copy_chunk(context, job, chunk)
    except GaveWay:
        # A chunk that cannot be halved waits longer each time.
        time.sleep(next(itertools.islice(retry_delays(), chunk.attempts, None)))
        if job.table.key:
            retry(partial(chunks.halve, context, job, chunk))
        return None


def _shorten(context: Context, job: RunTable, chunk: Chunk, throttler: Throttler) -> None:
    """Shorten a chunk that was planned when the limits permitted more rows."""
    planned = job.table.chunk_rows
    size = throttler.chunk_rows(job.table.number, planned)
    if size < planned:
        retry(partial(chunks.shorten, context, job, chunk, size))


@contextmanager
def _naming_row(context: Context, job: RunTable, chunk: Chunk | None = None) -> Iterator[None]:
    """A server error inside the block is raised with its table and row; the command records it as blocking the run."""
    try:
        yield
    except psycopg.Error as error:
        raise _failed(context, job, chunk, error) from error


def _failed(context: Context, job: RunTable, chunk: Chunk | None, error: psycopg.Error) -> ConfitureError:
    """The error to raise, by the kind of ``error``; an error of the data marks the chunk failed and names the row."""
    doing = f"copying {job.table.source} to {job.table.target}"
    if error.sqlstate == "42P01" and relies_on_search_path(error) is None:
        return Blocked(
            f"a table of the plan does not exist any more while {doing}",
            why=str(error.diag.message_primary),
            fix="restore it with its rows, or omit it from the mapping and run again with that",
            step=f"migrate --mapping FILE --restart-table {shell_word(str(job.table.target))}",
        )
    if chunk is None and isinstance(error, bad_text.BadText):
        text = bad_text.look(context.source, context.target, job)
        return failure(error, doing) if text is None else text.failure(job, error)
    state = error.sqlstate or ""
    if chunk is None or not (state[:2] in ("22", "23") or large_row.is_too_large(error)):
        return failure(error, doing)
    bad = bad_row.find(context, job, chunk.range, error)
    names = [k.source for k in job.table.key]
    place = bad.place or "column unknown"
    what = f"a row of {job.table.source} does not fit into {job.table.target}: {named_key(bad.key)}, {place}"
    found: ChunkError = {"message": bad.message, "key": bad.key, "place": bad.place, "sqlstate": state}
    # Durable together: the chunk is failed, with its row, and the run's note of it.
    with context.fenced("copy.bad_row") as tx:
        held = claim(tx, context.run_id, chunk)
        if held is not None:
            fail(tx, context.run_id, held, found)
        detail: BadRowDetail = {"table": str(job.table.target), **found}
        runs.note(tx, context.run_id, context.epoch, "bad row", detail)
    return DataFailure(
        what,
        why=f"{bad.message} (chunk {chunk.number}, {_span(names, chunk.range)})",
        fix=f"{bad.fix}; then run the same command again; completed chunks are kept",
    )


def _span(names: Sequence[str], span: KeyRange) -> str:
    """The rows of a chunk in words."""

    def edge(key: KeyValue) -> str:
        return ", ".join(f"{name} = {value}" for name, value in zip(names, key, strict=True))

    lower = f"from {edge(span.lower)} on" if span.lower is not None else ""
    upper = f"before {edge(span.upper)}" if span.upper is not None else ""
    return f"rows {', '.join(filter(None, (lower, upper)))}" if lower or upper else "all rows"


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
