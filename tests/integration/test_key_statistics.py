"""Chunks are divided by the statistics of a key. Each row is in one chunk, whatever the statistics say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from psycopg import IsolationLevel, sql

from confiture.config import Database
from confiture.copy import chunks, key_statistics, throttle
from confiture.copy.run_table import RunTable
from confiture.plan import planner
from confiture.plan.keyset import predicate, ranges
from confiture.postgres.connection import only_row
from confiture.postgres.session import Session
from confiture.types import KeyValue
from live import LiveRun
from servers import Databases

ROWS = 20_000
#: How many entries this session has read of the indexes of tables.
READ = b"SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid))::int FROM pg_index WHERE indexrelid >= 16384"


@dataclass(frozen=True)
class Planned:
    """The chunks of a table.

    :ivar given: the bounds that statistics give; ``bounds`` has those of a scan too.
    :ivar read: how many entries of indexes were read for those that statistics give.
    :ivar sizes: the rows of each chunk.
    """

    given: list[KeyValue]
    bounds: list[KeyValue]
    read: int
    sizes: list[int]


def planned(live: LiveRun, table: int = 0, rows: int = 1000) -> Planned:
    """Plan a table in chunks of ``rows`` rows, several at a time, as the copy does."""
    job = RunTable(live.plan(capture=False).tables[table], "x")
    found = Planned([], [], 0, [])
    read, last = 0, False
    with Session(Database("source", live.source.conninfo), "test") as session:
        while not last:
            cursor = found.bounds[-1] if found.bounds else None
            # One snapshot: autovacuum may replace the statistics between two statements.
            with session.transaction(isolation=IsolationLevel.REPEATABLE_READ) as tx:
                before = only_row(tx.pg.execute(READ))[0]
                given = key_statistics.bounds(tx, job, cursor, rows, chunks.PLAN_AHEAD)
                read += only_row(tx.pg.execute(READ))[0] - before
                more = chunks._bounds(tx, job, cursor, rows, chunks.PLAN_AHEAD, exact=False)
            assert more[: len(given)] == given
            found.given.extend(cast(list[KeyValue], given))
            found.bounds.extend(more)
            last = len(more) < chunks.PLAN_AHEAD
        with session.transaction() as tx:
            for span in ranges(found.bounds, None, last=True):
                within = predicate(job.table.source_key, span)
                counted = tx.pg.execute(sql.SQL("SELECT count(*) FROM {} WHERE {}").format(job.source, within))
                found.sizes.append(only_row(counted)[0])
    return Planned(found.given, found.bounds, read, found.sizes)


def made(databases: Databases, folder: Path, ddl: str, fill: str) -> LiveRun:
    """A run whose source has ``fill`` as its statements, which end with ANALYZE."""
    live = LiveRun(databases, folder, ddl, ddl)
    live.source.sql(fill)
    return live


def assert_divided(found: Planned, *, least: int = 15, relations: int = 1, rows: int = 1000) -> None:
    """Each row is in one chunk of at most twice the wanted rows. Lookups have found at least ``least`` bounds.

    :param relations: in each of which a lookup reads an entry, and then the one behind it.
    """
    assert sum(found.sizes) == ROWS
    assert len(set(found.bounds)) == len(found.bounds)
    assert len(found.given) >= least
    assert max(found.sizes) <= 2 * rows
    assert found.read <= 2 * relations * (len(found.given) + 1)


KEYS = {
    "bigint": "g * 7 - 50000",
    "uuid": "md5(g::text)::uuid",
    "timestamp with time zone": "'2020-01-01'::timestamptz + g * interval '97 min'",
    "numeric(12,3)": "g / 8.0 - 100",
    "date": "date '1900-01-01' + g",
    "bytea": "decode(md5(g::text), 'hex')",
    "text": "md5(g::text)",
    'varchar(40) COLLATE "pg_unicode_fast"': "chr(65 + g % 26 + 32 * (g % 2)) || '-' || g",
}


@pytest.mark.parametrize("kind", KEYS)
def test_statistics_divide_a_table_by_keys_of_any_type(databases: Databases, tmp_path: Path, kind: str) -> None:
    fill = f"INSERT INTO t SELECT {KEYS[kind]} FROM generate_series(1, {ROWS}) g; ANALYZE t"
    found = planned(made(databases, tmp_path, f"CREATE TABLE t (id {kind} PRIMARY KEY)", fill))
    assert_divided(found)
    assert min(found.sizes[:-1]) >= 300


COMPOSITE = {
    "lines of orders": ("a bigint, b int", "a, b", "g / 4, g % 4"),
    "users and times": (
        "a text, b timestamptz",
        "a, b",
        "'u' || g % 997, timestamptz '2020-01-01' + g * interval '1 s'",
    ),
    "a domain and an enum": ("a code, b mood", "a, b", "'c' || g / 2, (ARRAY['sad', 'glad'])[1 + g % 2]::mood"),
    "a number and a uuid": ("a numeric(12,3), b uuid", "a, b", "g / 8, md5(g::text)::uuid"),
    "three columns in another order": (
        'c smallint, b char(6) COLLATE "C", a date',
        "a, b, c",
        "g % 7, g % 40, date '2020-01-01' + g / 40",
    ),
}
TYPES = "CREATE DOMAIN code AS text; CREATE TYPE mood AS ENUM ('sad', 'glad');"


@pytest.mark.parametrize("kind", COMPOSITE)
def test_the_first_column_of_a_composite_key_divides_a_table(databases: Databases, tmp_path: Path, kind: str) -> None:
    columns, key, values = COMPOSITE[kind]
    # The statements use this name too.
    ddl = f"{TYPES} CREATE TABLE wanted ({columns}, PRIMARY KEY ({key}))"
    fill = f"INSERT INTO wanted SELECT {values} FROM generate_series(1, {ROWS}) g; ANALYZE wanted"
    found = planned(made(databases, tmp_path, ddl, fill))
    assert_divided(found)
    assert min(found.sizes[:-1]) >= 300


@pytest.mark.parametrize("key", ["a", "a, b"])
def test_values_are_sorted_in_the_collation_of_their_column(old_databases: Databases, tmp_path: Path, key: str) -> None:
    """The embedded server offers bytewise collations only."""
    ddl = f'CREATE TABLE t (a text COLLATE "und-x-icu", b int, PRIMARY KEY ({key}))'
    values = "chr(65 + g % 26 + 32 * (g % 2)) || CASE g % 3 WHEN 0 THEN '-' ELSE '' END || g, g"
    fill = f"INSERT INTO t SELECT {values} FROM generate_series(1, {ROWS}) g; INSERT INTO t SELECT 'q', -1; ANALYZE t"
    live = made(old_databases, tmp_path, ddl, f"{fill}; DELETE FROM t WHERE b = -1")
    found = planned(live)
    assert_divided(found)
    assert [b[0] for b in found.bounds] != sorted(b[0] for b in found.bounds)


@pytest.mark.parametrize(
    ("tenant", "least"),
    [
        ("CASE WHEN g % 3 = 0 THEN 500 ELSE g * 7 % 1000 END", 7),
        # The scan that divides the rows of the first value continues behind them.
        ("CASE WHEN g % 3 = 0 THEN 0 ELSE g * 7 % 1000 END", 0),
        ("CASE WHEN g % 3 = 0 THEN 1000 ELSE g * 7 % 1000 END", 10),
        # Without a histogram.
        ("g % 40", 15),
        ("g % 4", 0),
    ],
)
def test_no_value_of_the_first_column_makes_a_chunk_large(
    databases: Databases, tmp_path: Path, tenant: str, least: int
) -> None:
    ddl = "CREATE TABLE t (tenant int, id int, PRIMARY KEY (tenant, id))"
    fill = f"INSERT INTO t SELECT {tenant}, g FROM generate_series(1, {ROWS}) g; ANALYZE t"
    assert_divided(planned(made(databases, tmp_path, ddl, fill)), least=least)


def test_a_large_bucket_of_integers_is_divided_evenly(databases: Databases, tmp_path: Path) -> None:
    ddl = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (a bigint, b uuid, PRIMARY KEY (a, b))"
    fill = (
        "ALTER TABLE t ALTER id SET STATISTICS 5; ALTER TABLE u ALTER a SET STATISTICS 5;"
        f"INSERT INTO t SELECT g * 3 - 30000 FROM generate_series(1, {ROWS}) g;"
        f"INSERT INTO u SELECT g / 2, md5(g::text)::uuid FROM generate_series(1, {ROWS}) g; ANALYZE"
    )
    live = made(databases, tmp_path, ddl, fill)
    for table in (0, 1):
        found = planned(live, table)
        assert_divided(found)
        assert min(found.sizes[:-1]) >= 500


def test_each_row_is_in_one_chunk_where_a_bucket_is_not_even(databases: Databases, tmp_path: Path) -> None:
    fill = (
        "ALTER TABLE t ALTER id SET STATISTICS 5;"
        f"INSERT INTO t SELECT g + (g / 1700) * 1000000000000 FROM generate_series(1, {ROWS}) g; ANALYZE t"
    )
    found = planned(made(databases, tmp_path, "CREATE TABLE t (id bigint PRIMARY KEY)", fill))
    assert sum(found.sizes) == ROWS
    assert len(set(found.bounds)) == len(found.bounds)


TREES = {
    "ranges": (
        'CREATE TABLE "P" (id int PRIMARY KEY) PARTITION BY RANGE (id);'
        'CREATE TABLE p1 PARTITION OF "P" FOR VALUES FROM (MINVALUE) TO (15000);'
        'CREATE TABLE p2 PARTITION OF "P" FOR VALUES FROM (15000) TO (MAXVALUE);'
    ),
    "two levels": (
        'CREATE TABLE "P" (id int PRIMARY KEY) PARTITION BY HASH (id);'
        'CREATE TABLE p1 PARTITION OF "P" FOR VALUES WITH (MODULUS 2, REMAINDER 0);'
        'CREATE TABLE p2 PARTITION OF "P" FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY RANGE (id);'
        "CREATE TABLE p3 PARTITION OF p2 FOR VALUES FROM (MINVALUE) TO (3000);"
        "CREATE TABLE p4 PARTITION OF p2 FOR VALUES FROM (3000) TO (MAXVALUE);"
    ),
}


@pytest.mark.parametrize("analyze", ['ANALYZE "P"', "ANALYZE p1; ANALYZE p2"])
@pytest.mark.parametrize("kind", TREES)
def test_partitions_are_divided_by_statistics_of_all_or_of_each(
    databases: Databases, tmp_path: Path, kind: str, analyze: str
) -> None:
    """The server itself analyzes partitions only."""
    fill = f'INSERT INTO "P" SELECT generate_series(1, {ROWS}); {analyze}'
    if kind == "two levels" and "p1" in analyze:
        fill = f"{fill}; ANALYZE p3; ANALYZE p4"
    live = made(databases, tmp_path, TREES[kind] + "ALTER TABLE p1 SET (autovacuum_enabled = false)", fill)
    if "p1" in analyze:
        live.source.sql("DELETE FROM pg_statistic WHERE stainherit")
    assert_divided(planned(live), relations=3)


def test_children_and_parents_are_divided_each_by_their_own_rows(databases: Databases, tmp_path: Path) -> None:
    ddl = "CREATE TABLE a (id uuid PRIMARY KEY); CREATE TABLE b (PRIMARY KEY (id)) INHERITS (a)"
    fill = (
        f"INSERT INTO a SELECT md5(g::text)::uuid FROM generate_series(1, {ROWS}) g;"
        f"INSERT INTO b SELECT md5((-g)::text)::uuid FROM generate_series(1, {ROWS}) g; ANALYZE a; ANALYZE b"
    )
    live = made(databases, tmp_path, ddl, fill)
    for table in (0, 1):
        assert_divided(planned(live, table))


@pytest.mark.parametrize(
    "change",
    [
        f"INSERT INTO t SELECT generate_series({ROWS + 1}, {3 * ROWS})",
        "DELETE FROM t WHERE id > 500",
        "UPDATE t SET id = -id",
        "TRUNCATE t",
        "UPDATE t SET id = id * 50000",
        "INSERT INTO t SELECT -g FROM generate_series(1, 5000) g; ALTER TABLE t RENAME TO x; ALTER TABLE x RENAME TO t",
    ],
)
@pytest.mark.parametrize("key", ["id", "id, code"])
def test_each_row_is_in_one_chunk_when_statistics_are_old(
    databases: Databases, tmp_path: Path, change: str, key: str
) -> None:
    ddl = f"CREATE TABLE t (id int, code text DEFAULT '', PRIMARY KEY ({key})) WITH (autovacuum_enabled = false)"
    live = made(databases, tmp_path, ddl, f"INSERT INTO t SELECT generate_series(1, {ROWS}); ANALYZE t; {change}")
    found = planned(live)
    assert sum(found.sizes) == live.source.value("SELECT count(*) FROM t")
    assert len(set(found.bounds)) == len(found.bounds)


def test_statistics_that_the_role_may_not_see_are_not_needed(databases: Databases, tmp_path: Path) -> None:
    fill = f"INSERT INTO t SELECT generate_series(1, {ROWS}); DELETE FROM pg_statistic WHERE starelid = 't'::regclass"
    found = planned(made(databases, tmp_path, "CREATE TABLE t (id int PRIMARY KEY)", fill))
    assert found.given == []
    assert found.sizes == [1000] * 20


@pytest.mark.parametrize("strategy", ["copy", "fdw"])
def test_a_chunk_of_far_more_rows_than_planned_is_divided(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(planner, "CHUNK_ROWS_MOST", 500)
    monkeypatch.setattr(throttle, "CHUNK_SECONDS", 0)
    ddl = "CREATE TABLE t (id bigint PRIMARY KEY) WITH (autovacuum_enabled = false)"
    live = LiveRun(databases, tmp_path, ddl, ddl, strategy=strategy)
    live.source.sql(
        "INSERT INTO t SELECT g * 100000 FROM generate_series(1, 4000) g; ANALYZE t;"
        "INSERT INTO t SELECT 10000000 + g FROM generate_series(1, 9000) g"
    )
    live.setup()
    live.migrate()
    rows = [n for (n,) in live.target.rows("SELECT rows FROM confiture.chunk WHERE status = 'done'")]
    assert max(rows) <= chunks.FAR_MORE * 500
    assert sum(rows) == live.target.value("SELECT count(*) FROM t")
    assert len(rows) >= 13_000 / 500 / 2
    live.assert_same(t="SELECT id FROM t")
