"""Chunks: planning them ahead on the source, and copying one with its checkpoint.

A chunk's rows and the update that marks it done commit together. After a crash a chunk is either complete and done, or
absent and pending (docs/invariants.md, I-3.1).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from confiture.copy import foreign_session, key_statistics
from confiture.copy.fdw import Fdw
from confiture.copy.run_table import Copier, RunTable, reading
from confiture.copy.stream import Stream
from confiture.errors import Blocked
from confiture.journal import chunks, table_plans
from confiture.journal.model import Chunk, TableProgress
from confiture.plan.keyset import KeyPart, columns, key_texts, predicate, ranges
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.types import KeyRange, KeyValue

#: The most ranges that are planned at once.
PLAN_AHEAD = 20
#: A chunk whose copy was lost with its process this often is halved.
HALVE_AFTER = 2

#: A chunk is not copied at once if it has so many times the rows that it was planned with.
FAR_MORE = 4

MOVERS: dict[str, Copier] = {"fdw": Fdw(), "copy": Stream()}


class TooManyRows(Exception):
    """A chunk has more rows than the caller permits. None of it was committed."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """The chunks that one call has planned, and whether the table is sealed. The journal has those of other calls."""

    chunks: tuple[Chunk, ...]
    sealed: bool


def plan_ahead(
    context: Context, job: RunTable, number: int, rows: int, count: int = PLAN_AHEAD, *, exact: bool = True
) -> Ahead:
    """Record the next batch of ranges and the planner's cursor in one commit; seal the table at its end (I-3.4).

    :param rows: rows of each range.
    :param count: the most ranges.
    :param exact: no range has more rows; otherwise statistics may decide.
    """
    with context.target.transaction(read_only=True) as tx:
        state = table_plans.get(tx, context.run_id, number)
    if state.sealed:
        return Ahead((), True)
    with reading(context.source, job) as tx:
        bounds = _bounds(tx, job, state.cursor_key, rows, count, exact) if job.table.key else []
    last = len(bounds) < count
    spans = ranges(bounds, state.cursor_key, last=last)
    # Durable together: the ranges and the planner's cursor behind them.
    with context.fenced("plan") as tx:
        held = table_plans.get(tx, context.run_id, number, lock=True)
        if held.cursor_key != state.cursor_key:
            return Ahead((), held.sealed)
        # A worker that divides a chunk takes the next number too.
        chunks.add(tx, context.run_id, number, spans, first=held.next_chunk, sealed=last)
    return Ahead(tuple(chunks.planned(number, n, span) for n, span in enumerate(spans, held.next_chunk)), last)


def not_done(context: Context, number: int) -> tuple[Chunk, ...]:
    """The chunks of a table that are planned and not done, in order."""
    with context.target.transaction(read_only=True) as tx:
        return chunks.not_done(tx, context.run_id, number)


def _bounds(
    tx: Transaction, job: RunTable, cursor: KeyValue | None, size: int, count: int, exact: bool = True
) -> list[KeyValue]:
    """The first keys of the next ``count`` chunks. A scan of the index finds those that the statistics do not give.

    A window over the keys would find all of them in one round trip, in five times the time.
    """
    found = [] if exact else key_statistics.bounds(tx, job, cursor, size, count)
    bounds = [_whole(job, key) for key in found]
    rest = KeyRange(bounds[-1] if bounds else cursor, None)
    return bounds + _scanned(tx, job, rest, size, count - len(bounds))


def _scanned(tx: Transaction, job: RunTable, span: KeyRange, size: int, count: int) -> list[KeyValue]:
    """The keys that divide ``span`` in chunks of ``size`` rows, ``count`` at most."""
    bounds: list[KeyValue] = []
    while len(bounds) < count:
        key = key_after(tx, job, KeyRange(bounds[-1] if bounds else span.lower, span.upper), size)
        if key is None:
            break
        bounds.append(key)
    return bounds


def _whole(job: RunTable, key: Sequence[str | None]) -> KeyValue:
    """A key that can bound a range.

    :raises Blocked: when a part of the key is NULL: such a key sorts behind every other key and is in no range.
    """
    found = tuple(part for part in key if part is not None)
    if len(found) < len(key):
        raise _null_key(job)
    return found


def key_is_null(parts: Iterable[KeyPart]) -> sql.Composed:
    """The condition that a part of the key is NULL."""
    return sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier(p.name)) for p in parts)


def refuse_null_keys(tx: Transaction, job: RunTable) -> None:
    """:raises Blocked: when a row of the table that the rows come from has a NULL in its key."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})")
    if tx.pg.execute(query.format(job.source, key_is_null(job.table.source_key))).fetchone() == (True,):
        raise _null_key(job)


def _null_key(job: RunTable) -> Blocked:
    null = key_is_null(job.table.source_key).as_string()
    return Blocked(
        f"a row of {job.table.source} has a NULL in its key",
        why="the row is in no range of keys and no pass finds it, so it would be missing in the target",
        fix=f"find it with SELECT * FROM {job.table.source} WHERE {null}; set its key and declare the key NOT NULL,"
        " then run the same command again",
    )


def middle_key(tx: Transaction, job: RunTable, span: KeyRange) -> KeyValue | None:
    """The key that divides the rows of ``span`` in two halves; None when ``span`` has fewer than two rows."""
    within = predicate(job.table.source_key, span)
    counted = tx.pg.execute(sql.SQL("SELECT count(*) FROM {} WHERE {}").format(job.source, within)).fetchone()
    if counted is None or counted[0] < 2:
        return None
    return key_after(tx, job, span, counted[0] // 2)


def key_after(tx: Transaction, job: RunTable, span: KeyRange, rows: int) -> KeyValue | None:
    """The key behind the first ``rows`` rows of ``span``; None when ``span`` has no further row."""
    parts = job.table.source_key
    query = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {} OFFSET {} LIMIT 1").format(
        key_texts(parts), job.source, predicate(parts, span), columns(parts), sql.Literal(rows)
    )
    row = tx.pg.execute(query).fetchone()
    return None if row is None else _whole(job, row)


def count_attempt(context: Context, chunk: Chunk) -> Chunk:
    """Record that the copy of a chunk begins; the chunk as the journal has it then."""
    # Durable: the attempt.
    with context.fenced("claim") as tx:
        return chunks.count_attempt(tx, context.run_id, chunk)


def halve(context: Context, job: RunTable, chunk: Chunk) -> None:
    """Divide a chunk whose copies were lost with their process, so that the next loss is smaller (I-3.7)."""
    with reading(context.source, job) as tx:
        middle = middle_key(tx, job, chunk.range)
    if middle is None:
        return
    # Durable together: both halves of the chunk.
    with context.fenced("chunk.halved") as tx:
        chunks.cut(tx, context.run_id, chunk, middle)


def shorten(context: Context, job: RunTable, chunk: Chunk, rows: int) -> None:
    """Shorten a chunk to its first ``rows`` rows, and divide the next ones in chunks of as many; the last has the rest.

    A chunk without further rows stays unchanged.
    """
    with reading(context.source, job) as tx:
        keys = _scanned(tx, job, chunk.range, rows, PLAN_AHEAD) if job.table.key else []
    if not keys:
        return
    # Durable together: all parts of the chunk.
    with context.fenced("chunk.shortened") as tx:
        for key in reversed(keys):
            chunks.cut(tx, context.run_id, chunk, key)
            chunk = replace(chunk, range=KeyRange(chunk.range.lower, key))


def copy_chunk(context: Context, job: RunTable, chunk: Chunk, most: int | None = None) -> int | None:
    """Copy one chunk; the number of its rows, or None when another session has finished the chunk.

    When this returns, the rows and their checkpoint are durable.

    :param most: rows; None for any number.
    :raises TooManyRows: when the chunk has more than ``most`` rows. So many were read.
    """
    began = time.monotonic()
    by_fdw = job.table.strategy == "fdw"
    if by_fdw:
        foreign_session.record_session(context)
    with reading(context.source, job) as source:
        # Durable together: the rows and their checkpoint (I-3.1).
        with context.fenced("copy") as target:
            held = chunks.claim(target, context.run_id, chunk)
            if held is None:
                return None
            if by_fdw:
                foreign_session.check(context, target)
            limit = None if most is None else most + 1
            rows = MOVERS[job.table.strategy].move(source, target, job, held.range, limit)
            if rows == limit:
                raise TooManyRows
            seconds = time.monotonic() - began
            chunks.finish(target, context.run_id, held, epoch=context.epoch, rows=rows, seconds=seconds)
    return rows


def complete(context: Context, number: int) -> tuple[bool, TableProgress]:
    """Whether the table is sealed with every chunk done; never inferred from an empty claim (I-3.5)."""
    with context.target.transaction(read_only=True) as tx:
        state = table_plans.get(tx, context.run_id, number)
        return state.sealed and chunks.count_open(tx, context.run_id, number) == 0, state
