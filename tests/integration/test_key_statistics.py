"""Chunks are divided by the statistics of a key. Each row is in one chunk, whatever the statistics say."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.config import Database
from confiture.copy import chunks, key_statistics
from confiture.copy.run_table import RunTable
from confiture.plan.keyset import predicate, ranges
from confiture.postgres.session import Session
from confiture.types import KeyValue
from live import LiveRun
from servers import Databases

ROWS = 20_000


def planned(live: LiveRun, table: int = 0, rows: int = 1000) -> tuple[list[KeyValue], list[KeyValue], list[int]]:
    """The bounds that statistics give, all bounds, and the rows of each chunk."""
    job = RunTable(live.plan().tables[table], "x")
    with Session(Database("source", live.source.conninfo), "test") as session, session.transaction() as tx:
        given = key_statistics.bounds(tx, job, None, rows, 1000)
        bounds = chunks._bounds(tx, job, None, rows, 1000, exact=False)
        sizes = [
            tx.pg.execute(
                b"SELECT count(*) FROM " + job.source.as_bytes() + b" WHERE "
                + predicate(job.table.source_key, span).as_bytes()
            ).fetchone()[0]  # type: ignore[index]
            for span in ranges(bounds, None, last=True)
        ]  # fmt: skip
    return given, bounds, sizes


def made(databases: Databases, folder: Path, ddl: str, fill: str) -> LiveRun:
    """A run whose source has ``fill`` as its statements, which end with ANALYZE."""
    live = LiveRun(databases, folder, ddl, ddl)
    live.source.sql(fill)
    return live


KEYS = {
    "bigint": "g * 7 - 50000",
    "uuid": "md5(g::text)::uuid",
    "timestamp with time zone": "'2020-01-01'::timestamptz + g * interval '97 min'",
    "numeric(12,3)": "g / 8.0 - 100",
    "date": "date '1900-01-01' + g",
    "bytea": "decode(md5(g::text), 'hex')",
}


@pytest.mark.parametrize("kind", KEYS)
def test_statistics_divide_a_table_by_keys_of_any_type(databases: Databases, tmp_path: Path, kind: str) -> None:
    fill = f"INSERT INTO t SELECT {KEYS[kind]} FROM generate_series(1, {ROWS}) g; ANALYZE t"
    given, bounds, sizes = planned(made(databases, tmp_path, f"CREATE TABLE t (id {kind} PRIMARY KEY)", fill))
    assert len(given) >= 15
    assert bounds[: len(given)] == given
    assert sum(sizes) == ROWS
    assert max(sizes) <= 2000
    assert min(sizes[:-1]) >= 300


def test_a_composite_key_or_one_with_a_collation_is_read(databases: Databases, tmp_path: Path) -> None:
    ddl = 'CREATE TABLE a (x int, y int, PRIMARY KEY (x, y)); CREATE TABLE b ("Code" text COLLATE "C" PRIMARY KEY)'
    fill = f"INSERT INTO a SELECT g % 9, g FROM generate_series(1, {ROWS}) g; INSERT INTO b SELECT 'c' || y FROM a;"
    live = made(databases, tmp_path, ddl, fill + "ANALYZE")
    for table in (0, 1):
        given, _, sizes = planned(live, table)
        assert given == []
        assert sizes == [1000] * 20


def test_partitions_and_tables_with_children_have_statistics_of_their_own(databases: Databases, tmp_path: Path) -> None:
    ddl = (
        'CREATE TABLE "P" (id int PRIMARY KEY) PARTITION BY RANGE (id);'
        'CREATE TABLE p1 PARTITION OF "P" FOR VALUES FROM (MINVALUE) TO (15000);'
        'CREATE TABLE p2 PARTITION OF "P" FOR VALUES FROM (15000) TO (MAXVALUE);'
    )
    fill = f'INSERT INTO "P" SELECT generate_series(1, {ROWS}); ANALYZE "P"'
    given, _, sizes = planned(made(databases, tmp_path, ddl, fill))
    assert len(given) >= 15
    assert sum(sizes) == ROWS
    assert max(sizes) <= 2000


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
def test_each_row_is_in_one_chunk_when_statistics_are_old(databases: Databases, tmp_path: Path, change: str) -> None:
    fill = f"INSERT INTO t SELECT generate_series(1, {ROWS}); ANALYZE t; {change}"
    live = made(databases, tmp_path, "CREATE TABLE t (id int PRIMARY KEY) WITH (autovacuum_enabled = false)", fill)
    _, bounds, sizes = planned(live)
    assert sum(sizes) == live.source.value("SELECT count(*) FROM t")
    assert len(set(bounds)) == len(bounds)


def test_statistics_that_the_role_may_not_see_are_not_needed(databases: Databases, tmp_path: Path) -> None:
    fill = f"INSERT INTO t SELECT generate_series(1, {ROWS}); DELETE FROM pg_statistic WHERE starelid = 't'::regclass"
    given, _, sizes = planned(made(databases, tmp_path, "CREATE TABLE t (id int PRIMARY KEY)", fill))
    assert given == []
    assert sizes == [1000] * 20
