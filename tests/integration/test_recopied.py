"""The cutover copies small tables without a key again under its lock. Earlier checks report no difference in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.errors import CutoverAborted, Refused
from confiture.schema_to_schema.outcomes import Limits
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE parent (id int PRIMARY KEY, code text);
CREATE TABLE rate (country text, percent int, parent_id int REFERENCES parent);
CREATE TABLE sale (id int PRIMARY KEY, country text, parent_id int REFERENCES parent);
INSERT INTO parent SELECT n, 'c' || n FROM generate_series(1, 20) n;
INSERT INTO rate SELECT 'l' || n % 7, n, n FROM generate_series(1, 20) n;
INSERT INTO sale SELECT n, 'once', n FROM generate_series(1, 20) n;
"""
#: The new schema joins a table with a key to one without, and the other way round.
NEW = """
CREATE TABLE parent (id bigint PRIMARY KEY, code text);
CREATE TABLE rate (country text, percent int UNIQUE, parent_id bigint REFERENCES parent ON DELETE CASCADE);
CREATE TABLE sale (id bigint PRIMARY KEY, country text, parent_id bigint REFERENCES parent,
    percent int NOT NULL DEFAULT 1 REFERENCES rate (percent));
"""
SAME = {
    "parent": "SELECT id, code FROM parent",
    "rate": "SELECT country, percent, parent_id FROM rate",
    "sale": "SELECT id, country, parent_id, 1 FROM sale",
}
#: The parent is deleted with its rows in the table without a key. A child of both tables is inserted.
CHANGE = """
UPDATE sale SET parent_id = 2 WHERE parent_id = 5; DELETE FROM rate WHERE parent_id = 5;
DELETE FROM parent WHERE id = 5;
INSERT INTO parent VALUES (100, 'new'); INSERT INTO rate VALUES ('new', 100, 100), ('twice', 101, 100);
INSERT INTO sale VALUES (100, 'new', 100); UPDATE rate SET country = 'x' WHERE percent = 3;
"""
KEYS = """
SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
WHERE contype = 'f' AND connamespace = 'public'::regnamespace
"""


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, OLD, NEW, chunk_rows=10)
    run.setup()
    run.migrate()
    return run


def test_changes_in_a_table_without_a_key_are_present_after_the_cutover(live: LiveRun, databases: Databases) -> None:
    live.source.sql(CHANGE)
    live.follow()
    assert live.verify().equal
    live.source.sql("DELETE FROM rate WHERE percent = 101")
    live.cutover()
    live.assert_same(**SAME)
    assert sorted(live.target.rows(KEYS)) == sorted(databases.cloned(NEW).rows(KEYS))
    live.cleanup()


def test_an_emptied_table_without_a_key_is_empty_after_the_cutover(live: LiveRun) -> None:
    live.source.sql("TRUNCATE rate; INSERT INTO rate VALUES ('only', 1, 1)")
    assert live.verify().equal
    live.cutover()
    live.assert_same(**SAME)


def test_row_that_would_orphan_others_aborts_the_cutover(live: LiveRun) -> None:
    live.source.sql("DELETE FROM rate WHERE percent = 1")
    assert live.verify().equal
    with pytest.raises(CutoverAborted, match="differ"):
        live.cutover()
    live.source.sql("INSERT INTO rate VALUES ('back', 1, 1)")
    live.cutover()
    live.assert_same(**SAME)


def test_the_copy_under_the_lock_counts_against_the_write_pause(live: LiveRun) -> None:
    live.source.sql("INSERT INTO rate SELECT 'many', n, 1 FROM generate_series(1000, 60000) n")
    assert live.verify().equal
    with pytest.raises(CutoverAborted, match="write pause would exceed"):
        live.cutover(Limits(max_write_pause=0.05))
    live.source.sql("DELETE FROM rate WHERE country = 'many'")
    live.cutover()
    live.assert_same(**SAME)


LARGE = "CREATE TABLE plain (a int); INSERT INTO plain SELECT n FROM generate_series(1, 40000) n"


def test_large_table_without_a_key_is_refused_by_plan_and_setup(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, LARGE, "CREATE TABLE plain (a int)", recopy_mb=1)
    for command in (run.plan, run.setup):
        with pytest.raises(Refused, match="writes cannot be captured") as refused:
            command()
        assert "public.plain has no usable key" in refused.value.why
        assert "--no-capture" in refused.value.fix
    assert run.plan(recopy_mb=2).tables[0].recopied
    assert not run.plan(capture=False).tables[0].recopied


def test_a_publication_of_all_tables_is_refused_by_name_unless_accepted(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW, chunk_rows=10)
    run.source.sql(
        "ALTER TABLE rate REPLICA IDENTITY FULL; CREATE PUBLICATION named FOR TABLE parent;"
        " CREATE PUBLICATION everything FOR ALL TABLES"
    )
    for command in (run.plan, run.setup):
        with pytest.raises(Refused, match=r"publishes all its tables: everything$"):
            command()
    run.choices = run.chosen(accept_publication=True)
    run.setup()
    run.migrate()
    # The publication includes the run's own tables here, so each needs a replica identity.
    run.source.sql(CHANGE)
    run.follow()
    assert run.verify().equal
    run.cutover()
    run.assert_same(**SAME)
