"""Rows compared in parts that can be divided further, so that a comparison that yields to the application still ends.

A sum of rows is additive: the sums of a range's halves add up to the sum of the range, and the sums by bucket of one
side's parts add up to those of the side. Halves of a range that both servers order alike are compared with each other,
each in one snapshot per side.

A table whose key the servers order differently cannot be divided alike on both sides. Its buckets are summed over
ranges of the source's own key on the source, part by part in one snapshot each, and in one scan of the target. A row's
key is in exactly one range, so each row that keeps its key is counted once, as of its part's snapshot. A row whose key
changes during the comparison may be counted twice or not at all. While the application writes, a bucket that differs
for this reason is a suspect, and its rows are classified key by key. Such a bucket agrees only when its hashes collide.
In that case too the keys of the change are logged, and the pass that applies them has them compared again
(docs/invariants.md, I-6.6). While the application is stopped, no key changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import psycopg
from psycopg import IsolationLevel, sql

from confiture.compare import checksum, suspects
from confiture.compare.checksum import Hashing, Key, Sum
from confiture.copy.chunks import key_after, middle_key
from confiture.copy.run_table import RunTable, reading
from confiture.errors import GaveWay
from confiture.journal.model import Chunk, Difference
from confiture.postgres.connection import Pg
from confiture.postgres.retry import repeated, retry_delays
from confiture.postgres.session import Session, Transaction
from confiture.types import KeyRange, KeyValue

T = TypeVar("T")

#: Rows summed with one statement of the source where a table is not compared chunk by chunk.
PART_ROWS = 500_000

#: Finds the rows behind a checksum that differs.
Look = Callable[[Transaction, Transaction, RunTable, Hashing, dict[checksum.Side, sql.Composed]], list[Difference]]


@dataclass(frozen=True, slots=True)
class Compared:
    """Both sides' sums, and the rows that differ."""

    source: Sum
    target: Sum
    found: list[Difference]


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of one table, and how its rows are compared.

    :ivar look: finds the rows behind a checksum that differs: suspects while the application writes.
    :ivar compared: called with the number of rows when a part of a range is compared.
    :ivar between: called before each further statement of a range that takes several; it may wait, and raises to stop.
    """

    source: Session
    target: Session
    job: RunTable
    hashing: Hashing
    look: Look
    compared: Callable[[int], None] = lambda rows: None
    between: Callable[[], None] = lambda: None

    def snapshot(self) -> AbstractContextManager[Transaction]:
        """A snapshot of the target."""
        return self.target.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True)


def compare_range(sides: Sides, span: KeyRange) -> Compared:
    """Compare a range of keys that both servers order alike."""
    return _together(in_parts(sides, _divided(sides, span), partial(_compare_range, sides)))


def _divided(sides: Sides, span: KeyRange) -> Iterator[KeyRange]:
    """The range in parts of :data:`PART_ROWS` rows if it has no upper end, where all rows since the copy are."""
    while span.upper is None and sides.job.table.key:
        bound = repeated(partial(_bound, sides, span))
        if bound is None:
            break
        yield KeyRange(span.lower, bound)
        span = KeyRange(bound, None)
    yield span


def _bound(sides: Sides, span: KeyRange) -> KeyValue | None:
    with reading(sides.source, sides.job) as tx:
        return key_after(tx, sides.job, span, PART_ROWS)


def _compare_range(sides: Sides, span: KeyRange) -> Compared:
    job, hashing = sides.job, sides.hashing
    with reading(sides.source, job) as a, sides.snapshot() as b:
        x, y = _on_both(
            b.pg,
            lambda: checksum.range_sum(a, job, "source", hashing, span),
            lambda: checksum.range_sum(b, job, "target", hashing, span),
        )
        found = sides.look(a, b, job, hashing, checksum.range_condition(job, span)) if x != y else []
    sides.compared(x.rows)
    return Compared(x, y, found)


def _on_both(target: Pg, on_source: Callable[[], T], on_target: Callable[[], T]) -> tuple[T, T]:
    """Work on both servers at the same time; the results. A thread is enough, because it only waits for its server.

    :param target: the connection of ``on_target``, whose statement is cancelled when the source's work fails.
    """
    with ThreadPoolExecutor(1, "target") as pool:
        there = pool.submit(copy_context().run, on_target)
        try:
            here = on_source()
        except BaseException:
            with suppress(psycopg.Error):  # a lost connection has no statement left
                target.cancel_safe()
            raise
        return here, there.result()


def _together(parts: Iterable[Compared]) -> Compared:
    every = list(parts)
    found = [d for part in every for d in part.found]
    return Compared(checksum.add(p.source for p in every), checksum.add(p.target for p in every), found)


def in_parts(sides: Sides, spans: Iterable[KeyRange], work: Callable[[KeyRange], T]) -> Iterator[T]:
    """``work`` for each range of the source's keys; a range in which it yielded is divided in halves, repeatedly."""
    left = list(spans)[::-1]
    waits = retry_delays()
    begun = False
    while left:
        if begun:
            sides.between()
        begun = True
        span = left.pop()
        try:
            done = work(span)
        except GaveWay:
            time.sleep(next(waits))
            left.extend(_halves(sides, span)[::-1])
            continue
        waits = retry_delays()
        yield done


def _halves(sides: Sides, span: KeyRange) -> list[KeyRange]:
    """Both halves of the range; the range itself when the table has no key or the range fewer than two rows."""
    job = sides.job

    def look() -> list[KeyRange]:
        with reading(sides.source, job) as tx:
            middle = middle_key(tx, job, span)
        return [span] if middle is None else [KeyRange(span.lower, middle), KeyRange(middle, span.upper)]

    return repeated(look) if job.table.key else [span]


# Tables whose keys the servers order differently, and tables without one -------------------------------


def joined(chunks: Sequence[Chunk]) -> list[KeyRange]:
    """All keys in consecutive ranges of about :data:`PART_ROWS` rows, divided at the bounds of chunks."""
    behind = {c.range.lower: c for c in chunks}
    spans: list[KeyRange] = []
    lower, rows, at = None, 0, behind.pop(None, None)
    while at is not None and at.range.upper is not None:
        rows += at.rows or 0
        upper = at.range.upper
        if rows >= PART_ROWS:
            spans.append(KeyRange(lower, upper))
            lower, rows = upper, 0
        at = behind.pop(upper, None)
    return [*spans, KeyRange(lower, None)]


def compare_whole(sides: Sides, spans: Sequence[KeyRange]) -> Compared:
    """Compare a whole table by buckets, and find the differing rows of buckets that differ.

    :param spans: ranges that together hold every key of the source, in its order.
    """
    if not sides.job.table.key:
        return repeated(partial(_compare_keyless, sides))
    job, hashing = sides.job, sides.hashing
    buckets = checksum.bucket_count(job.table.estimate)
    x, y = _on_both(
        sides.target.pg,
        lambda: checksum.add_buckets(in_parts(sides, spans, partial(_source_sums, sides, buckets))),
        lambda: repeated(partial(_target_sums, sides, buckets)),
    )
    wrong = sorted(k for k in x.keys() | y.keys() if x.get(k) != y.get(k))
    found: list[Difference] = []
    for at in range(0, len(wrong), checksum.BUCKETS_AT_ONCE):
        some = wrong[at : at + checksum.BUCKETS_AT_ONCE]
        found += _differing_rows(sides, spans, checksum.bucket_condition(job, hashing, buckets, some))
        if sides.look is checksum.differences and len(found) >= checksum.DIFFERENCES_MOST:
            break
    total = checksum.add(x.values())
    sides.compared(total.rows)
    return Compared(total, checksum.add(y.values()), found)


def _source_sums(sides: Sides, buckets: int, span: KeyRange) -> dict[int, Sum]:
    with reading(sides.source, sides.job) as tx:
        return checksum.bucket_sums(tx, sides.job, "source", sides.hashing, buckets, span)


def _target_sums(sides: Sides, buckets: int) -> dict[int, Sum]:
    with sides.snapshot() as tx:
        return checksum.bucket_sums(tx, sides.job, "target", sides.hashing, buckets)


def _differing_rows(
    sides: Sides, spans: Sequence[KeyRange], where: dict[checksum.Side, sql.Composed]
) -> list[Difference]:
    """The rows of some buckets that differ."""
    a: dict[Key, tuple[int, ...]] = {}
    for part in in_parts(sides, spans, partial(_source_hashes, sides, where["source"])):
        a.update(part)
    b = repeated(partial(_target_hashes, sides, where["target"]))
    keys = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
    if sides.look is checksum.suspects:
        return checksum.named(sides.job, keys)
    return repeated(partial(_described, sides, keys[: checksum.DIFFERENCES_MOST])) if keys else []


def _source_hashes(sides: Sides, where: sql.Composed, span: KeyRange) -> dict[Key, tuple[int, ...]]:
    within = sql.SQL("{} AND {}").format(where, checksum.range_condition(sides.job, span)["source"])
    with reading(sides.source, sides.job) as tx:
        return checksum.hashes(tx, sides.job, "source", sides.hashing, within)


def _target_hashes(sides: Sides, where: sql.Composed) -> dict[Key, tuple[int, ...]]:
    with sides.snapshot() as tx:
        return checksum.hashes(tx, sides.job, "target", sides.hashing, where)


def _described(sides: Sides, keys: Sequence[Key]) -> list[Difference]:
    with reading(sides.source, sides.job) as a, sides.snapshot() as b:
        return sides.look(a, b, sides.job, sides.hashing, suspects.among(sides.job, keys))


def _compare_keyless(sides: Sides) -> Compared:
    """Compare a table without a key, as one part: its rows cannot be divided into ranges."""
    job, hashing, buckets = sides.job, sides.hashing, checksum.bucket_count(sides.job.table.estimate)
    with reading(sides.source, job) as a, sides.snapshot() as b:
        x, y = _on_both(
            b.pg,
            lambda: checksum.bucket_sums(a, job, "source", hashing, buckets),
            lambda: checksum.bucket_sums(b, job, "target", hashing, buckets),
        )
        wrong = sorted(k for k in x.keys() | y.keys() if x.get(k) != y.get(k))
        found: list[Difference] = []
        for at in range(0, len(wrong), checksum.BUCKETS_AT_ONCE):
            some = wrong[at : at + checksum.BUCKETS_AT_ONCE]
            found += sides.look(a, b, job, hashing, checksum.bucket_condition(job, hashing, buckets, some))
            if len(found) >= checksum.DIFFERENCES_MOST:
                break
    total = checksum.add(x.values())
    sides.compared(total.rows)
    return Compared(total, checksum.add(y.values()), found)
