"""One task of the copy: one chunk, with the errors of its rows named. It runs in any worker."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg

from confiture.copy import bad_row, bad_text, chunks, large_row
from confiture.copy.run_table import RunTable
from confiture.errors import Blocked, ConfitureError, DataFailure, GaveWay
from confiture.journal import runs, table_plans
from confiture.journal.chunks import claim, fail
from confiture.journal.model import BadRowDetail, Chunk, ChunkError, DeferredIndex, TablePhase
from confiture.plan.index_builds import IndexBuilds
from confiture.postgres.failure import failure, relies_on_search_path
from confiture.postgres.retry import retry, retry_delays
from confiture.runner.context import Context
from confiture.schema_to_schema import rebuild
from confiture.types import KeyRange, KeyValue, named_key, shell_word

#: How a sync proceeds, whose rules cannot change while it continues.
_OF_A_SYNC = (
    "fix the row on the source, then run the same command again; completed chunks are kept\n"
    "or give the column another rule in the mask file, then run the command with --restart"
)


@dataclass(frozen=True, slots=True)
class Copied:
    """The outcome of a task.

    :ivar rows: copied by the task; None when it did not copy the chunk.
    :ivar seconds: of the task.
    """

    rows: int | None
    seconds: float


def copy_chunk(context: Context, job: RunTable, chunk: Chunk, rows: int | None, expected: int | None = None) -> Copied:
    """Copy a chunk, with its checkpoint. The part that is not copied is in the journal as chunks that are not done.

    :param rows: the most to copy; None for all rows of the chunk.
    :param expected: the rows that the chunk was planned with. If it has far more, as many are copied. None if unknown.
    """
    began = time.monotonic()
    with naming_row(context, job, chunk):
        if chunk.attempts > chunks.HALVE_AFTER and chunk.error is None:
            retry(partial(chunks.halve, context, job, chunk))
        if rows is not None:
            retry(partial(chunks.shorten, context, job, chunk, rows))
        try:
            copied = retry(partial(_copy_or_halve, context, job, chunk, expected and chunks.FAR_MORE * expected))
        except chunks.TooManyRows:
            assert expected is not None
            retry(partial(chunks.shorten, context, job, chunk, expected))
            copied = retry(partial(_copy_or_halve, context, job, chunk))
    return Copied(copied, time.monotonic() - began)


def end_table(context: Context, job: RunTable, off: Sequence[DeferredIndex], builds: IndexBuilds) -> None:
    """Build the index of a table's key and record that the table is copied, once every chunk is done.

    :param off: as in :func:`confiture.schema_to_schema.rebuild.keys_off`.
    """
    rebuild.build_key(context, job.table, off, builds)
    retry(partial(_mark_copied, context, job.table.number))


def _mark_copied(context: Context, number: int) -> None:
    # Durable: every row of the table is copied.
    with context.fenced("copy.table_done") as tx:
        table_plans.update(tx, context.run_id, number, phase=TablePhase.COPIED)


def _copy_or_halve(context: Context, job: RunTable, chunk: Chunk, most: int | None = None) -> int | None:
    """Copy a chunk, or halve it when it yielded to the application, so that less has to be repeated.

    A standby that cancels the read in favour of its replay is yielded to as well: a smaller chunk may be read within
    max_standby_streaming_delay. The number of rows; None when the chunk was not copied.

    :raises chunks.TooManyRows: when the chunk has more than ``most`` rows.
    """
    try:
        return chunks.copy_chunk(context, job, chunk, most)
    except (GaveWay, psycopg.errors.SerializationFailure) as error:
        if not isinstance(error, GaveWay):
            if job.inline is None:
                raise
            context.progress.say(f"the standby cancelled a read of {job.table.source} for its replay; repeating it")
        # A chunk that cannot be halved waits longer each time.
        time.sleep(next(itertools.islice(retry_delays(), chunk.attempts - 1, None)))
        if job.table.key:
            retry(partial(chunks.halve, context, job, chunk))
        return None


@contextmanager
def naming_row(context: Context, job: RunTable, chunk: Chunk | None = None) -> Iterator[None]:
    """A server error inside the block is raised with its table and row; the command records it as blocking the run."""
    try:
        yield
    except psycopg.Error as error:
        raise _failed(context, job, chunk, error) from error


def _failed(context: Context, job: RunTable, chunk: Chunk | None, error: psycopg.Error) -> ConfitureError:
    """The error to raise, by the kind of ``error``; an error of the data marks the chunk failed and names the row."""
    doing = f"copying {job.table.source} to {job.table.target}"
    if error.sqlstate == "42P01" and job.inline is None and relies_on_search_path(error) is None:
        return Blocked(
            f"a table of the plan does not exist any more while {doing}",
            why=str(error.diag.message_primary),
            fix="restore it with its rows, or omit it in the mapping, and give the mapping again",
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
        fix=f"{bad.fix}; then run the same command again; completed chunks are kept"
        if job.inline is None
        else _OF_A_SYNC,
    )


def _span(names: Sequence[str], span: KeyRange) -> str:
    """The rows of a chunk in words."""

    def edge(key: KeyValue) -> str:
        return ", ".join(f"{name} = {value}" for name, value in zip(names, key, strict=True))

    lower = f"from {edge(span.lower)} on" if span.lower is not None else ""
    upper = f"before {edge(span.upper)}" if span.upper is not None else ""
    return f"rows {', '.join(filter(None, (lower, upper)))}" if lower or upper else "all rows"
