"""Publications in the target's DDL do not stop the run, and the run does not change them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from confiture.errors import ConfitureError
from live import LiveRun
from servers import Databases

TABLES = """
CREATE TABLE keyed (id int PRIMARY KEY, code int UNIQUE NOT NULL, v int);
CREATE TABLE rate (country text, percent int);
CREATE TABLE silent (id int PRIMARY KEY, v int); ALTER TABLE silent REPLICA IDENTITY NOTHING;
CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE parts_all PARTITION OF parts DEFAULT;
"""
ROWS = """
INSERT INTO keyed SELECT n, 100 - n, n FROM generate_series(1, 20) n;
INSERT INTO rate SELECT 'c' || n, n FROM generate_series(1, 20) n;
INSERT INTO silent SELECT n, n FROM generate_series(1, 20) n;
INSERT INTO parts SELECT n, n FROM generate_series(1, 20) n;
"""
CHANGE = "".join(f"UPDATE {t} SET v = v + 1; DELETE FROM {t} WHERE v = 5;" for t in ("keyed", "silent", "parts"))
SAME = {t: f"SELECT * FROM {t}" for t in ("keyed", "rate", "silent", "parts")}
STATE = """
SELECT pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,
       (SELECT array_agg(prrelid::regclass::text || prattrs::text ORDER BY 1) FROM pg_publication_rel r
        WHERE r.prpubid = p.oid), (SELECT count(*) FROM pg_publication_namespace n WHERE n.pnpubid = p.oid)
FROM pg_publication p ORDER BY pubname
"""
PUBLICATIONS = {
    "by name": "CREATE PUBLICATION pub FOR TABLE rate, silent, keyed, parts WITH (publish = 'insert, delete')",
    "all tables": "CREATE PUBLICATION pub FOR ALL TABLES WITH (publish_via_partition_root)",
    "by schema": 'CREATE PUBLICATION "p %s" FOR TABLES IN SCHEMA public',
    "filtered": "CREATE PUBLICATION pub FOR TABLE keyed WHERE (v > 0), silent (id), parts_all",
    "two": "CREATE PUBLICATION one FOR TABLE rate; CREATE PUBLICATION two FOR TABLE keyed",
}


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
@pytest.mark.parametrize("publication", PUBLICATIONS.values(), ids=PUBLICATIONS.keys())
def test_published_table_without_identity_is_migrated_and_still_published(
    kind: str, publication: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    ddl = f"{TABLES}{publication};"
    # The walk key is the unique column, so a pass does not delete by the primary key of the target.
    live = LiveRun(databases, tmp_path, TABLES + ROWS, ddl, "keyed:\n  $key: [code]\n", chunk_rows=7)
    live.setup()
    live.source.sql(CHANGE)
    live.migrate()
    live.source.sql(f"{CHANGE} DELETE FROM rate WHERE percent < 4")
    assert live.verify().equal
    live.cutover()
    live.assert_same(**SAME)
    assert live.target.rows(STATE) == databases.cloned(ddl).rows(STATE)
    live.cleanup()


def test_a_publication_survives_a_rollback_and_a_second_cutover(databases: Databases, tmp_path: Path) -> None:
    tables = TABLES.replace("CREATE TABLE rate (country text, percent int);", "")
    rows = ROWS.replace("INSERT INTO rate SELECT 'c' || n, n FROM generate_series(1, 20) n;", "")
    ddl = f"{tables} CREATE PUBLICATION pub FOR ALL TABLES;"
    live = LiveRun(databases, tmp_path, tables + rows, ddl, chunk_rows=7)
    same = {t: q for t, q in SAME.items() if t != "rate"}
    live.through()
    live.target.sql("UPDATE keyed SET v = v + 1; DELETE FROM parts WHERE v = 7; INSERT INTO silent VALUES (99)")
    live.rollback()
    live.source.sql("DELETE FROM silent WHERE id < 4")
    assert live.verify().equal
    live.cutover()
    live.assert_same(**same)
    assert live.target.rows(STATE) == databases.cloned(ddl).rows(STATE)
    live.cleanup()


def test_abort_drops_the_publications_that_setup_built(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, TABLES + ROWS, f"{TABLES} CREATE PUBLICATION pub FOR ALL TABLES;")
    for _ in range(2):
        live.setup()
        live.abort()
    assert live.target.rows(STATE) == []


INSERT_ONLY = "CREATE TABLE events (id int UNIQUE NOT NULL, v int);"


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
@pytest.mark.parametrize("tables", ["FOR TABLE events", "FOR TABLES IN SCHEMA public"])
def test_plan_reports_a_published_source_that_prevents_a_rollback(
    kind: str, tables: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    rows = f"INSERT INTO events SELECT n, n FROM generate_series(1, 9) n; CREATE PUBLICATION pub {tables};"
    live = LiveRun(databases, tmp_path, INSERT_ONLY + rows, INSERT_ONLY)
    (problem,) = live.plan().rollback_problems
    assert "published by pub of the source without a replica identity" in problem
    live.source.sql(re.search("ALTER TABLE .* FULL", problem)[0])  # type: ignore[index]
    assert live.plan().rollback_problems == ()
    live.through()
    live.target.sql("INSERT INTO events VALUES (50, 1); DELETE FROM events WHERE id = 4")
    live.rollback()
    live.assert_same(events="SELECT * FROM events WHERE id <> 4")


def test_published_source_of_inserts_only_can_be_rolled_back(databases: Databases, tmp_path: Path) -> None:
    publication = "CREATE PUBLICATION pub FOR TABLE events WITH (publish = 'insert');"
    live = LiveRun(databases, tmp_path, INSERT_ONLY + publication, INSERT_ONLY)
    live.through()
    live.target.sql("INSERT INTO events VALUES (50, 1)")
    live.rollback()
    assert live.source.rows("SELECT id FROM events") == [(50,)]


def test_a_publication_that_is_dropped_during_the_run_does_not_stop_it(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, TABLES + ROWS, f"{TABLES}{PUBLICATIONS['two']};", "keyed:\n  $key: [code]\n")
    live.up_to_cutover()
    live.target.sql("DROP PUBLICATION one")
    live.source.sql(CHANGE)
    live.cutover()
    assert live.target.rows("SELECT pubname, pubinsert, pubdelete FROM pg_publication") == [("two", True, True)]
    live.assert_same(**SAME)


def test_a_publication_created_during_the_run_is_named_by_the_pass(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, TABLES + ROWS, TABLES, "keyed:\n  $key: [code]\n")
    live.up_to_cutover()
    live.target.sql("CREATE PUBLICATION late FOR ALL TABLES")
    live.source.sql(CHANGE)
    with pytest.raises(ConfitureError) as refused:
        live.follow()
    text = "\n".join(refused.value.lines())
    assert "silent" in text
    assert "publishes deletes" in text
    live.target.sql("DROP PUBLICATION late")
    live.cutover()
    live.assert_same(**SAME)
