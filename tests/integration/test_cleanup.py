"""What a run installed is found by what it is, not by the name of the table that it was installed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE t (id int PRIMARY KEY, v int);
CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
INSERT INTO t SELECT n, n FROM generate_series(1, 20) n;
INSERT INTO p SELECT n, n FROM generate_series(90, 110) n;
"""
NEW = "CREATE TABLE t (id bigint PRIMARY KEY, v bigint); CREATE TABLE p (id bigint PRIMARY KEY, v bigint);"
CHANGES = {
    "a table renamed": "ALTER TABLE t RENAME TO other",
    "a table moved to another schema": "CREATE SCHEMA moved; ALTER TABLE t SET SCHEMA moved",
    "a partition detached": "ALTER TABLE p DETACH PARTITION p1",
    "a partition detached and renamed": "ALTER TABLE p DETACH PARTITION p2; ALTER TABLE p2 RENAME TO kept",
    "a table dropped": "DROP TABLE t CASCADE",
}
LEFT = """
SELECT tgrelid::regclass::text, tgname::text FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid
WHERE p.pronamespace::regnamespace::text ~ '^confiture_' OR tgname ~ 'confiture'
UNION ALL SELECT '', nspname FROM pg_namespace WHERE nspname ~ '^confiture_'
"""


@pytest.mark.parametrize("ending", ["abort", "cleanup"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nothing_is_left_on_the_source_after_its_tables_were_changed(
    databases: Databases, tmp_path: Path, change: str, ending: str
) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW)
    run.setup()
    run.migrate()
    if ending == "cleanup":
        assert run.verify().equal
        run.cutover()
    assert run.source.rows(LEFT) != []
    run.source.sql(change)
    getattr(run, ending)()
    if ending == "abort":
        assert run.source.rows(LEFT) == []
    else:
        assert run.target.rows(LEFT) == []
        # A closed source keeps its write block, and nothing else.
        assert [name for table, name in run.source.rows(LEFT) if table and not name.startswith("aa_")] == []
