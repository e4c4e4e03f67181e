"""Each key lies in exactly one range, as the server compares them, whatever its type and collation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from confiture.plan.keyset import KeyPart, columns, key_texts, predicate, ranges
from confiture.types import KeyValue
from servers import Databases

SCHEMA = """
CREATE TYPE public."Mood" AS ENUM ('sad', 'ok', 'it''s \\ fine', 'happy');
CREATE TABLE one_int (a integer PRIMARY KEY);
CREATE TABLE one_text (a text PRIMARY KEY);
CREATE TABLE one_uuid (a uuid PRIMARY KEY);
CREATE TABLE one_time (a timestamp PRIMARY KEY);
CREATE TABLE one_zoned (a timestamptz PRIMARY KEY);
CREATE TABLE one_day (a date PRIMARY KEY);
CREATE TABLE one_number (a numeric(12, 3) PRIMARY KEY);
CREATE TABLE one_mood (a public."Mood" PRIMARY KEY);
CREATE TABLE two_plain (a integer, b text, PRIMARY KEY (a, b));
CREATE TABLE two_odd (a public."Mood", b timestamptz, PRIMARY KEY (b, a));
"""
#: Tables with the types of their keys, in the key's order.
TABLES: dict[str, tuple[KeyPart, ...]] = {
    "one_int": (KeyPart("a", "integer"),),
    "one_text": (KeyPart("a", "text"),),
    "one_uuid": (KeyPart("a", "uuid"),),
    "one_time": (KeyPart("a", "timestamp without time zone"),),
    "one_zoned": (KeyPart("a", "timestamp with time zone"),),
    "one_day": (KeyPart("a", "date"),),
    "one_number": (KeyPart("a", "numeric(12,3)"),),
    "one_mood": (KeyPart("a", 'public."Mood"'),),
    "two_plain": (KeyPart("a", "integer"), KeyPart("b", "text")),
    "two_odd": (KeyPart("b", "timestamp with time zone"), KeyPart("a", 'public."Mood"')),
}

ints = st.one_of(st.integers(-3, 3), st.integers(-(2**31), 2**31 - 1)).map(str)
#: Quotes, backslashes, percent signs, case, accents, line breaks: special characters of literals and collations.
strings = st.one_of(
    st.text(st.sampled_from("aAbB'\"\\%{}\n\té-_ "), max_size=4),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3),
)
uuids = st.uuids().map(str)
times = st.one_of(
    st.sampled_from(["infinity", "-infinity", "0044-03-15 12:00:00 BC", "294276-12-31 23:59:59.999999"]),
    st.datetimes(datetime(1900, 1, 1)).map(str),
)
days = st.one_of(st.sampled_from(["infinity", "-infinity", "0044-03-15 BC"]), st.dates(date(1900, 1, 1)).map(str))
numbers = st.one_of(
    st.just("NaN"),
    st.decimals(Decimal(-10), Decimal(10), places=3, allow_nan=False).map(str),
    st.integers(-(10**9) + 1, 10**9 - 1).map("{}.5".format),
)
moods = st.sampled_from(["sad", "ok", "it's \\ fine", "happy"])


def lists(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[list[KeyValue]]:
    return st.lists(st.tuples(*parts), max_size=12)


#: Keys for every table together, so that one round trip suffices for all of them.
ALL_KEYS: st.SearchStrategy[dict[str, list[KeyValue]]] = st.fixed_dictionaries(
    {
        "one_int": lists(ints),
        "one_text": lists(strings),
        "one_uuid": lists(uuids),
        "one_time": lists(times),
        "one_zoned": lists(times),
        "one_day": lists(days),
        "one_number": lists(numbers),
        "one_mood": lists(moods),
        "two_plain": lists(st.integers(0, 2).map(str), strings),
        "two_odd": lists(st.sampled_from(["infinity", "-infinity", "2020-02-29"]), moods),
    }
)


@dataclass(frozen=True)
class Cut:
    """A table that is split at some of its keys."""

    table: str
    parts: tuple[KeyPart, ...]
    ordered: Sequence[KeyValue]
    bounds: Sequence[KeyValue]

    def query(self) -> sql.Composed:
        """For each key in order, the ranges that contain it, by both styles of the predicate."""
        spans = ranges(self.bounds, None, last=True)
        tests = [
            sql.SQL("array_positions(ARRAY[{}], true)").format(
                sql.SQL(", ").join(predicate(self.parts, span, style) for span in spans)
            )
            for style in ("row", "expanded")
        ]
        return sql.SQL("(SELECT {}::text, {}, {}, {} FROM public.{} ORDER BY {})").format(
            sql.Literal(self.table),
            sql.SQL("ARRAY[{}]::text[]").format(key_texts_only(self.parts)),
            *tests,
            sql.Identifier(self.table),
            columns(self.parts),
        )

    def expected(self) -> Iterator[tuple[Any, ...]]:
        """The same by the position of the key. A range begins with its bound."""
        cuts = {bound: n for n, bound in enumerate(self.bounds, 2)}
        at = 1
        for key in self.ordered:
            at = cuts.get(key, at)
            yield self.table, list(key), [at], [at]


def key_texts_only(parts: Sequence[KeyPart]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(p.name)) for p in parts)


@pytest.fixture
def connection(databases: Databases) -> Iterator[psycopg.Connection[Any]]:
    with databases.cloned(SCHEMA).connect(autocommit=False, prepare_threshold=None) as opened:
        yield opened


def fill(connection: psycopg.Connection[Any], keys: dict[str, list[KeyValue]]) -> None:
    """Insert all keys into all tables in one round trip, each key once."""
    statements = []
    for table, rows in keys.items():
        names = sql.SQL(", ").join(sql.Identifier(p.name) for p in TABLES[table])
        for row in rows:
            values = sql.SQL(", ").join(map(sql.Literal, row))
            statements.append(
                sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
                    sql.Identifier("public", table), names, values
                )
            )
    if statements:
        connection.execute(sql.SQL("; ").join(statements))


def in_order(
    connection: psycopg.Connection[Any], tables: dict[str, tuple[KeyPart, ...]] = TABLES
) -> dict[str, list[KeyValue]]:
    """Every table's keys as the server orders and prints them."""
    found: dict[str, list[KeyValue]] = {table: [] for table in tables}
    query = sql.SQL(" UNION ALL ").join(
        sql.SQL("(SELECT {}::text, ARRAY[{}]::text[] FROM public.{} ORDER BY {})").format(
            sql.Literal(table), key_texts_only(parts), sql.Identifier(table), columns(parts)
        )
        for table, parts in tables.items()
    )
    for table, key in connection.execute(query):
        found[table].append(tuple(key))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=ALL_KEYS, every=st.integers(1, 4))
def test_every_key_lies_in_exactly_the_range_of_its_position(
    connection: psycopg.Connection[Any], keys: dict[str, list[KeyValue]], every: int
) -> None:
    try:
        fill(connection, keys)
        cuts = [
            Cut(table, TABLES[table], ordered, ordered[every::every]) for table, ordered in in_order(connection).items()
        ]
        found = connection.execute(sql.SQL(" UNION ALL ").join(cut.query() for cut in cuts)).fetchall()
    finally:
        connection.rollback()
    assert found == [row for cut in cuts for row in cut.expected()]


def test_a_collation_that_is_not_bytewise_orders_bounds_and_keys_alike(old_databases: Databases) -> None:
    """The embedded server offers bytewise collations only."""
    database = old_databases.make()
    database.sql('CREATE TABLE public.word (a text COLLATE "und-x-icu" PRIMARY KEY)')
    parts = (KeyPart("a", "text"),)
    with database.connect(prepare_threshold=None) as connection:
        for word in ("a", "A", "b", "B", "é", "e", "f", "a-b", "ab", "a b", "", "'", "\\", "Z"):
            connection.execute("INSERT INTO public.word VALUES (%s)", (word,))
        ordered = in_order(connection, {"word": parts})["word"]
        assert ordered != sorted(ordered)
        cut = Cut("word", parts, ordered, ordered[2::3])
        assert connection.execute(cut.query()).fetchall() == list(cut.expected())


def test_bounds_of_deleted_rows_still_separate_the_keys(connection: psycopg.Connection[Any]) -> None:
    """Rows are deleted between planning and copying. Their keys remain bounds."""
    fill(connection, {"two_plain": [(str(n // 3), "x" * (n % 3)) for n in range(12)]})
    ordered = in_order(connection)["two_plain"]
    bounds = ordered[2::3]
    connection.execute("DELETE FROM public.two_plain WHERE (a, b) IN ((0, 'xx'), (1, 'xx'), (2, 'xx'), (3, 'xx'))")
    parts = TABLES["two_plain"]
    counts = [
        connection.execute(
            sql.SQL("SELECT count(*) FROM public.two_plain WHERE {}").format(predicate(parts, span, style))
        ).fetchone()
        for span in ranges(bounds, None, last=True)
        for style in ("row", "expanded")
    ]
    assert counts == [(2,), (2,), (2,), (2,), (2,), (2,), (2,), (2,), (0,), (0,)]


def test_keys_are_walked_in_the_order_of_their_type_not_of_their_text(connection: psycopg.Connection[Any]) -> None:
    fill(connection, {"one_int": [(str(n),) for n in (9, 10, -1, 100)]})
    parts = TABLES["one_int"]
    query = sql.SQL("SELECT {} FROM public.one_int ORDER BY {}").format(key_texts(parts), columns(parts))
    walked = [row[0] for row in connection.execute(query)]
    assert walked == ["-1", "9", "10", "100"]
    assert all(int(a) < int(b) for a, b in pairwise(walked))
