"""Cleanup finds the objects of a run by their own identity, not by the name of the table they belong to."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from confiture import commands
from confiture.errors import Refused
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY, v int);
CREATE TABLE w (id int PRIMARY KEY, v int); CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
INSERT INTO t SELECT n, n FROM generate_series(1, 20) n;
INSERT INTO p SELECT n, n FROM generate_series(90, 110) n;
"""
NEW = "".join(f"CREATE TABLE {name} (id bigint PRIMARY KEY, v bigint);" for name in "tuwp")
CHANGES = """
ALTER TABLE t RENAME TO other;
CREATE SCHEMA moved; ALTER TABLE u SET SCHEMA moved;
DROP TABLE w CASCADE;
ALTER TABLE p DETACH PARTITION p1;
ALTER TABLE p DETACH PARTITION p2; ALTER TABLE p2 RENAME TO kept;
"""
LEFT = """
SELECT tgrelid::regclass::text, tgname::text FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid
WHERE p.pronamespace::regnamespace::text ~ '^confiture_' OR tgname ~ 'confiture'
UNION ALL SELECT '', nspname FROM pg_namespace WHERE nspname ~ '^confiture_'
"""


@pytest.mark.parametrize("ending", ["abort", "cleanup"])
def test_nothing_is_left_on_the_source_after_its_tables_were_changed(
    databases: Databases, tmp_path: Path, ending: str
) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW)
    run.setup()
    run.migrate()
    if ending == "cleanup":
        assert run.verify().equal
        run.cutover()
    assert run.source.rows(LEFT) != []
    run.source.sql(CHANGES)
    getattr(run, ending)()
    if ending == "abort":
        assert run.source.rows(LEFT) == []
    else:
        assert run.target.rows(LEFT) == []
        # A closed source keeps only its write block.
        assert [name for table, name in run.source.rows(LEFT) if table and not name.startswith("aa_")] == []


LATE = {
    "a table": ("CREATE TABLE late (id int)", "DROP TABLE late"),
    "a foreign table": (
        "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;"
        " CREATE FOREIGN TABLE late (id int) SERVER s",
        "DROP EXTENSION postgres_fdw CASCADE",
    ),
    "a large object": ("SELECT lo_create(4711)", "SELECT lo_unlink(4711)"),
}


@pytest.mark.parametrize("cleaned", [False, True], ids=["at once", "cleaned before"])
@pytest.mark.parametrize("capture", [True, False], ids=["captured", "not captured"])
def test_a_source_with_an_object_created_later_is_not_dropped(
    databases: Databases, tmp_path: Path, capture: bool, cleaned: bool
) -> None:
    table = "CREATE TABLE t (id int PRIMARY KEY)"
    run = LiveRun(databases, tmp_path / "project", table, table)
    run.up_to_cutover(capture=capture)
    run.cutover()
    if cleaned:
        run.cleanup()
    asked: list[bool] = []

    def drop_source() -> None:
        commands.cleanup.execute(run.where, run.source.name, lambda: asked.append(True), run.progress)

    for create, drop in LATE.values():
        run.source.sql(create)
        with pytest.raises(Refused, match="that the run did not move"):
            drop_source()
        assert asked == []
        assert run.state == ("cleaned" if cleaned else "cutover")
        run.source.sql(drop)
    drop_source()
    assert run.state == "cleaned"
    with pytest.raises(psycopg.OperationalError):
        run.source.sql("SELECT 1")
