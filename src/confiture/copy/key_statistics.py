"""Bounds of chunks from the statistics of a key's first column, each of which costs one lookup in the key's index.

Scanning the index for each bound takes a twentieth of the time of the copy, or more. Bounds need not be exact: any keys
in order divide a table completely.
https://www.postgresql.org/docs/current/view-pg-stats.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from psycopg import sql

from confiture.copy.run_table import RunTable
from confiture.plan.keyset import columns, key_texts, typed
from confiture.postgres.session import Transaction
from confiture.sql import template
from confiture.types import KeyValue

#: Types whose values divide an interval evenly.
INTEGERS = ("smallint", "integer", "bigint")


@dataclass(frozen=True, slots=True)
class Interval:
    """Neighbouring values of a key's first column, as text: from ``lower``, and below ``upper``.

    :ivar at: about as many rows have the value ``lower``.
    :ivar above: about as many rows have a value above it.
    :ivar most: more rows above it are not likely: the buckets of histograms that cover the interval have as many.
    :ivar buckets: how many they are; several where partitions have histograms of their own.
    """

    lower: str
    upper: str
    at: float
    above: float
    most: float
    buckets: int


def bounds(
    tx: Transaction, job: RunTable, cursor: KeyValue | None, rows: int, count: int
) -> list[tuple[str | None, ...]]:
    """The first keys of the next chunks, as far as the statistics divide the table finely enough.

    :param cursor: the first key of the chunk before the first of them; None for the beginning of the table.
    :param rows: of each chunk; a chunk has about twice as many at most, as long as the statistics are right.
    :param count: the most bounds.
    :returns: keys of rows, in order and behind the cursor; None for a part that is NULL.
    """
    key = job.table.source_key
    if not key or job.table.estimate <= rows:
        return []
    integers = key[0].type in INTEGERS
    names = {"source": job.source, "column": sql.Identifier(key[0].name), "type": sql.SQL(key[0].type)}
    query = template("key_statistics.sql", "intervals").format(
        **names,
        table=sql.Literal(job.table.source.identifier.as_string()),
        name=sql.Literal(key[0].name),
        only=sql.Literal(job.table.only),
        width=sql.SQL("lead(value::float8) OVER own - value" if integers else "1"),
        behind=sql.SQL("upper > ") + (sql.SQL("lower") if cursor is None else typed(cursor[0], key[0].type)),
    )
    total = job.table.estimate
    intervals = [
        Interval(lower, upper, at * total, above * total, most * total, buckets)
        for lower, upper, at, above, most, buckets in tx.pg.execute(query)
    ]
    if cursor is not None and intervals:
        intervals[0] = _rest(intervals[0], cursor[0], integers)
    values = list(islice(divided(intervals, rows, integers=integers), count))
    if not values:
        return []
    lookups = template("key_statistics.sql", "first_keys").format(
        **names, key=columns(key), texts=key_texts(key), values=sql.Literal(values)
    )
    return tx.pg.execute(lookups).fetchall()


def _rest(interval: Interval, cursor: str, integers: bool) -> Interval:
    """The part of an interval from the cursor on. How many rows that part has is known only of integers."""
    part = 1.0
    if integers:
        part = (int(interval.upper) - int(cursor)) / (int(interval.upper) - int(interval.lower))
    at = interval.at if interval.lower == cursor else 0.0
    return replace(interval, lower=cursor, at=at, above=interval.above * min(part, 1.0))


def divided(intervals: Iterable[Interval], rows: int, *, integers: bool) -> Iterator[str]:
    """The first values of chunks of about ``rows`` rows, up to an interval that may have many more and is not divided.

    :param intervals: neighbours, in order.
    :param integers: whether the values are integers. Then an interval is divided evenly.
    """
    held = 0.0
    for interval in intervals:
        size = interval.at + interval.above
        even = integers and interval.buckets == 1 and interval.at <= rows
        fine = even or max(size, interval.most) <= 2 * rows
        values = _between(interval, round(size / rows)) if fine and size > 2 * rows else []
        part = size / (len(values) + 1)
        if held and held + (held + part) >= 2 * rows:
            # The chunk is nearer to the wanted size without the part.
            yield interval.lower
            held = 0.0
        if not fine:
            return
        yield from values
        held = part if values else held + part


def _between(interval: Interval, parts: int) -> list[str]:
    """The integers that divide an interval in as many parts of the same width, as far as there are so many."""
    lower, upper = int(interval.lower), int(interval.upper)
    return [str(n) for n in sorted({lower + (upper - lower) * i // parts for i in range(parts)} - {lower})]
