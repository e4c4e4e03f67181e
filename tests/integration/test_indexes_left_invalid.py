"""An index that the target's DDL leaves invalid stays as it is; one that a run restores must be valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from live import LiveRun
from servers import Databases

TABLES = """
CREATE TABLE p (id int, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
"""
ROWS = "INSERT INTO p SELECT n, n FROM generate_series(1, 150) n;"
ATTACHED = "CREATE INDEX px ON ONLY p (d); CREATE INDEX p1x ON p1 (d); ALTER INDEX px ATTACH PARTITION p1x;"
INDEXES = {
    "no partition": "CREATE INDEX px ON ONLY p (d);",
    "some partitions": ATTACHED,
    "unique": "CREATE UNIQUE INDEX px ON ONLY p (d, id);",
    "beside valid ones": f"CREATE INDEX ok ON p (d, id); {ATTACHED} CREATE INDEX ON p2 (d);",
}
STATE = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisvalid, h.inhparent::regclass::text
FROM pg_index i LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
WHERE i.indrelid IN ('p'::regclass, 'p1'::regclass, 'p2'::regclass) ORDER BY 1
"""


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
@pytest.mark.parametrize("indexes", INDEXES.values(), ids=INDEXES.keys())
def test_index_left_invalid_is_a_note_and_stays_invalid(
    kind: str, indexes: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    live = LiveRun(databases, tmp_path, TABLES + ROWS, TABLES + indexes, chunk_rows=40)
    assert any("index px of public.p is not valid" in note for note in live.plan().notes)
    live.setup()
    live.source.sql("DELETE FROM p WHERE id = 7; INSERT INTO p VALUES (1000, 199)")
    live.migrate()
    assert live.verify().equal
    live.cutover()
    live.target.sql("DELETE FROM p WHERE id = 8")
    live.rollback()
    assert live.verify().equal
    live.cutover()
    live.assert_same(p="SELECT * FROM p")
    assert live.target.rows(STATE) == databases.cloned(TABLES + indexes).rows(STATE)
    live.cleanup()


def test_restored_index_that_is_not_valid_is_a_difference(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, TABLES + ROWS, f"{TABLES} CREATE INDEX px ON p (d);")
    live.setup()
    live.migrate()
    live.target.sql("DROP INDEX px; CREATE INDEX px ON ONLY p (d)")
    found = live.verify()
    assert not found.equal
    assert ["px" in str(d) for d in found.differences] == [True]
