"""Rows are read from a source in which nothing is created: from a standby, and with SELECT alone."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from confiture import catalog, config
from confiture.catalog_model import Catalog
from confiture.copy import inline
from confiture.copy.inline import Inline
from confiture.copy.run_table import RunTable, reading
from confiture.copy.stream import Stream
from confiture.errors import Blocked
from confiture.mapping import Mapping
from confiture.plan import expressions
from confiture.plan.model import Options
from confiture.plan.planner import Planner
from confiture.postgres.embedded import Server
from confiture.postgres.session import Session
from confiture.types import KeyRange, TableRef
from servers import Databases, TestDatabase, caught_up, standby_of

TABLE = TableRef("public", "item")
ITEMS = """
CREATE TABLE item (id int PRIMARY KEY, a text, b text, kept text DEFAULT 'k');
INSERT INTO item SELECT n, 'a' || n, 'b' || n FROM generate_series(1, 100) n;
CREATE FUNCTION twice(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || $1';
"""
READER = """
DO $$ BEGIN CREATE ROLE inline_reader LOGIN PASSWORD 'reader'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT USAGE ON SCHEMA public TO inline_reader; GRANT SELECT ON item TO inline_reader;
"""


@pytest.fixture(scope="module")
def standby(server: Server) -> Iterator[Server]:
    """A standby of the server of the tests."""
    with standby_of(server) as made:
        yield made


def session(conninfo: str) -> Session:
    return Session(config.resolve(conninfo, config.find_project(config.Path("/"))), "test")


def catalog_of(conninfo: str) -> Catalog:
    with session(conninfo) as opened, opened.transaction(read_only=True) as tx:
        return catalog.read(tx)


def job_of(source: str, target: str, **how: object) -> RunTable:
    """The table as planned, to be read inline."""
    here = catalog_of(source)
    readable = replace(here, tables=tuple(replace(t, may_lock=True) for t in here.tables), event_triggers=())
    plan = Planner(readable, catalog_of(target), Mapping(), {}, Options(strategy="copy", capture=False)).plan()
    with session(source) as opened, opened.transaction(read_only=True) as tx:
        columns = inline.shape(tx, TABLE)
    return RunTable(plan.tables[0], "confiture_none", inline=Inline(columns, **how))  # type: ignore[arg-type]


def copied(source: str, target: str, job: RunTable) -> int:
    with session(source) as here, session(target) as there:
        with reading(here, job) as out, there.transaction() as into:
            return Stream().move(out, into, job, KeyRange(("11",), None))


@pytest.fixture
def pair(databases: Databases) -> tuple[TestDatabase, TestDatabase]:
    source, target = databases.cloned(ITEMS), databases.cloned(ITEMS)
    source.sql(READER)
    target.sql("TRUNCATE item")
    return source, target


def test_a_role_with_select_alone_reads_a_standby(
    pair: tuple[TestDatabase, TestDatabase], server: Server, standby: Server
) -> None:
    source, target = pair
    caught_up(standby, server)
    place = standby.conninfo(source.name, user="inline_reader", password="reader")
    job = job_of(place, target.conninfo)
    assert copied(place, target.conninfo, pickle.loads(pickle.dumps(job))) == 90
    assert target.rows("SELECT min(id), max(b) FROM item") == [(11, "b99")]


def test_a_transaction_on_the_source_may_not_write(pair: tuple[TestDatabase, TestDatabase]) -> None:
    source, target = pair
    job = job_of(source.conninfo, target.conninfo)
    with session(source.conninfo) as opened, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        with reading(opened, job) as tx:
            tx.pg.execute("DELETE FROM public.item")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE item DROP COLUMN b; ALTER TABLE item ADD COLUMN b text",
        "ALTER TABLE item RENAME a TO c; ALTER TABLE item RENAME b TO a; ALTER TABLE item RENAME c TO b",
        "ALTER TABLE item ALTER COLUMN a TYPE varchar(20)",
        "ALTER TABLE item DROP COLUMN a",
        "ALTER TABLE item RENAME TO old; CREATE TABLE item (LIKE old)",
        "DROP TABLE item",
    ],
)
def test_a_table_that_was_changed_since_its_plan_stops_the_copy(
    pair: tuple[TestDatabase, TestDatabase], change: str
) -> None:
    source, target = pair
    job = job_of(source.conninfo, target.conninfo)
    source.sql(change)
    with pytest.raises(Blocked, match=r"source table public\.item was changed"):
        copied(source.conninfo, target.conninfo, job)
    assert target.value("SELECT count(*) FROM item") == 0


def test_an_error_of_the_target_is_no_change_of_the_source(pair: tuple[TestDatabase, TestDatabase]) -> None:
    source, target = pair
    job = job_of(source.conninfo, target.conninfo)
    target.sql("DROP TABLE item")
    with pytest.raises(psycopg.errors.UndefinedTable):
        copied(source.conninfo, target.conninfo, job)


def test_a_column_that_is_not_read_may_be_added(pair: tuple[TestDatabase, TestDatabase]) -> None:
    source, target = pair
    job = job_of(source.conninfo, target.conninfo)
    source.sql("ALTER TABLE item ADD COLUMN later text; ALTER TABLE item ALTER COLUMN b SET NOT NULL")
    assert copied(source.conninfo, target.conninfo, job) == 90


def exported(holder: psycopg.Connection[tuple[str]]) -> str:
    holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    row = holder.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return row[0]


def files_of(source: TestDatabase) -> tuple[int, ...]:
    with session(source.conninfo) as opened, opened.transaction(read_only=True) as tx:
        return inline.files(tx, TABLE)


def test_all_reads_see_the_exported_snapshot(pair: tuple[TestDatabase, TestDatabase]) -> None:
    source, target = pair
    with source.connect() as holder:
        job = job_of(source.conninfo, target.conninfo, snapshot=exported(holder), files=files_of(source))
        source.sql("UPDATE item SET a = 'later'; DELETE FROM item WHERE id > 50")
        assert copied(source.conninfo, target.conninfo, job) == 90
    assert target.value("SELECT count(*) FROM item WHERE a = 'later'") == 0


@pytest.mark.parametrize(
    "change", ["TRUNCATE item", "VACUUM FULL item", "ALTER TABLE item ALTER COLUMN id TYPE bigint"]
)
def test_a_table_rewritten_since_the_exported_snapshot_stops_the_copy(
    pair: tuple[TestDatabase, TestDatabase], change: str
) -> None:
    source, target = pair
    with source.connect() as holder:
        job = job_of(source.conninfo, target.conninfo, snapshot=exported(holder), files=files_of(source))
        source.sql(change)
        with pytest.raises(Blocked, match=r"was rewritten|was changed since"):
            copied(source.conninfo, target.conninfo, job)


def test_partitions_are_part_of_the_files(database: TestDatabase) -> None:
    database.sql(
        "CREATE TABLE item (id int) PARTITION BY RANGE (id);"
        "CREATE TABLE one PARTITION OF item FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE two PARTITION OF item FOR VALUES FROM (10) TO (20)"
    )
    before = files_of(database)
    database.sql("TRUNCATE two")
    assert len(before) == 3
    assert len(set(before) & set(files_of(database))) == 2


def test_a_snapshot_that_is_not_held_any_more_is_named(pair: tuple[TestDatabase, TestDatabase]) -> None:
    source, target = pair
    with source.connect() as holder:
        job = job_of(source.conninfo, target.conninfo, snapshot=exported(holder), files=files_of(source))
    with pytest.raises(Blocked, match="the snapshot of the sync is lost"):
        copied(source.conninfo, target.conninfo, job)


@pytest.mark.parametrize(
    ("expression", "wire", "reason"),
    [
        ("upper(a)", "text", None),
        ("id > 5", "", None),
        ("id IN (SELECT id FROM public.item)", "", None),
        ("public.twice(a) -- a comment", "text", None),
        ("twice(a)", "text", "function twice(text) does not exist"),
        ("nothing", "text", 'column "nothing" does not exist'),
        ("max(a)", "text", "aggregate functions are not allowed in WHERE"),
        ("row_number() OVER ()", "text", "window functions are not allowed in WHERE"),
        ("generate_series(1, 2)", "text", "set-returning functions are not allowed in WHERE"),
        ("a", "", "must be type boolean"),
        ("id; DROP TABLE item", "int", "syntax error|cannot insert multiple commands"),
    ],
)
def test_an_expression_is_checked_without_a_view_on_a_standby(
    pair: tuple[TestDatabase, TestDatabase],
    server: Server,
    standby: Server,
    expression: str,
    wire: str,
    reason: str | None,
) -> None:
    source, _ = pair
    caught_up(standby, server)
    place = standby.conninfo(source.name, user="inline_reader", password="reader")
    table = catalog_of(place).by_ref[TABLE]
    with session(place) as opened, opened.transaction(read_only=True) as tx:
        found = expressions.problem_of(tx, table, expression, wire)
        again = expressions.problem_of(tx, table, "true", "")
    assert again.problem is None
    if reason is None:
        assert found.problem is None
    else:
        assert any(part in str(found.problem) for part in reason.split("|")), found.problem
