"""An index that the target's DDL leaves invalid stays as it is; one that a run restores must be valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from live import LiveRun
from servers import Databases

TABLES = """
CREATE TABLE {p} (id int, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE {p}1 PARTITION OF {p} FOR VALUES FROM (0) TO (100);
CREATE TABLE {p}2 PARTITION OF {p} FOR VALUES FROM (100) TO (200);
"""
ROWS = "INSERT INTO {p} SELECT n, n FROM generate_series(1, 150) n;"
ATTACHED = "CREATE INDEX {p}x ON ONLY {p} (d); CREATE INDEX {p}1x ON {p}1 (d); ALTER INDEX {p}x ATTACH PARTITION {p}1x;"
#: By table: the index that has no partition, some partitions, is unique, or is beside valid ones.
INDEXES = {
    "a": "CREATE INDEX {p}x ON ONLY {p} (d);",
    "b": ATTACHED,
    "c": "CREATE UNIQUE INDEX {p}x ON ONLY {p} (d, id);",
    "d": f"CREATE INDEX ok ON {{p}} (d, id); {ATTACHED} CREATE INDEX ON {{p}}2 (d);",
}
STATE = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisvalid, h.inhparent::regclass::text
FROM pg_index i LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
WHERE i.indrelid::regclass::text ~ '^[a-d][12]?$' ORDER BY 1
"""


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
def test_indexes_left_invalid_are_notes_and_stay_invalid(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    old = "".join((TABLES + ROWS).format(p=name) for name in INDEXES)
    new = "".join((TABLES + indexes).format(p=name) for name, indexes in INDEXES.items())
    live = LiveRun(databases, tmp_path, old, new, chunk_rows=40)
    notes = "\n".join(live.plan().notes)
    for name in INDEXES:
        assert f"index {name}x of public.{name} is not valid" in notes
    live.setup()
    for name in INDEXES:
        live.source.sql(f"DELETE FROM {name} WHERE id = 7; INSERT INTO {name} VALUES (1000, 199)")
    live.migrate()
    assert live.verify().equal
    live.cutover()
    for name in INDEXES:
        live.target.sql(f"DELETE FROM {name} WHERE id = 8")
    live.rollback()
    assert live.verify().equal
    live.cutover()
    live.assert_same(**{name: f"SELECT * FROM {name}" for name in INDEXES})
    assert live.target.rows(STATE) == databases.cloned(new).rows(STATE)
    live.cleanup()


def test_restored_index_that_is_not_valid_is_a_difference(databases: Databases, tmp_path: Path) -> None:
    tables, rows = TABLES.format(p="p"), ROWS.format(p="p")
    live = LiveRun(databases, tmp_path, tables + rows, f"{tables} CREATE INDEX px ON p (d);")
    live.setup()
    live.migrate()
    live.target.sql("DROP INDEX px; CREATE INDEX px ON ONLY p (d)")
    found = live.verify()
    assert not found.equal
    assert ["px" in str(d) for d in found.differences] == [True]
