"""A large pass over independent tables: several sessions apply it, and it is complete or repeated as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture import commands
from confiture.schema_to_schema import follow
from confiture.schema_to_schema import migrate as migrating
from live import LiveRun
from servers import Databases

ROWS = 4_000
ALONE = ("a", "b", "c", "d")
OLD = "".join(
    f"CREATE TABLE {name} (id int PRIMARY KEY, u int UNIQUE DEFERRABLE, v text);"
    f"INSERT INTO {name} SELECT n, n, 'v' || n FROM generate_series(1, {ROWS}) n;"
    for name in ALONE
)
OLD += f"""
CREATE TABLE parent (id int PRIMARY KEY, v text);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
CREATE TABLE whole (id int PRIMARY KEY, name text, mail text);
INSERT INTO parent SELECT n, 'p' || n FROM generate_series(1, {ROWS}) n;
INSERT INTO child SELECT n, n FROM generate_series(1, {ROWS}) n;
INSERT INTO whole SELECT n, 'n' || n, 'm' || n FROM generate_series(1, {ROWS}) n;
"""
NEW = "".join(
    f"CREATE TABLE {name} (id bigint PRIMARY KEY, u bigint UNIQUE, v text, own int DEFAULT 7);" for name in ALONE
)
NEW += """
CREATE TABLE parent (id bigint PRIMARY KEY, v text);
CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES parent ON DELETE CASCADE);
CREATE TABLE named (id bigint PRIMARY KEY, name text);
CREATE TABLE mailed (id bigint PRIMARY KEY, mail text);
"""
MAPPING = """
named: {$from: whole, $omit: [mail]}
mailed: {$from: whole, $omit: [name]}
"""
SAME = {
    **{name: f"SELECT id, u, v, 7 FROM {name}" for name in ALONE},
    "parent": "SELECT * FROM parent",
    "child": "SELECT * FROM child",
    "named": "SELECT id, name FROM whole",
    "mailed": "SELECT id, mail FROM whole",
}
#: Values that exchange their rows, keys that move, rows that are new or gone, a table that is emptied and filled again.
CHANGES = f"""
UPDATE a SET u = {ROWS} + 1 - u;
UPDATE b SET id = -id, v = 'moved';
DELETE FROM c WHERE id % 2 = 0; UPDATE c SET v = 'new'; INSERT INTO c SELECT -n, -n, 'more' FROM generate_series(1, {ROWS}) n;
TRUNCATE d; INSERT INTO d SELECT n, -n, 'again' FROM generate_series({ROWS} / 2, {ROWS} * 2) n;
INSERT INTO parent SELECT -n, 'new' FROM generate_series(1, {ROWS}) n;
UPDATE child SET parent = -parent; DELETE FROM parent WHERE id > 0;
UPDATE whole SET name = name || '!', mail = upper(mail);
"""


def made(databases: Databases, folder: Path) -> LiveRun:
    return LiveRun(databases, folder, OLD, NEW, MAPPING)


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = made(databases, tmp_path)
    run.setup()
    run.migrate()
    return run


def catch_up(live: LiveRun, jobs: int = 4) -> int:
    """Apply everything that is logged; the number of passes."""
    before = live.target.value("SELECT coalesce(max(pass), 0) FROM confiture.catchup")
    with commands.holding.hold_run(live.where, "follow", live.progress) as (context, _):
        follow.drain(context, migrating.stored_plan(context), record_changed=True, jobs=jobs)
    return int(live.target.value("SELECT pass FROM confiture.catchup")) - int(before)


def writers(live: LiveRun) -> int:
    """How many transactions have written the rows of the independent tables."""
    parts = " UNION ".join(f"SELECT xmin::text FROM {name} WHERE v <> ''" for name in (*ALONE, "parent"))
    return len(live.target.rows(parts))


def test_several_sessions_apply_the_tables_of_one_pass(live: LiveRun) -> None:
    live.source.sql(CHANGES)
    assert catch_up(live) == 1
    live.assert_same(**SAME)
    assert writers(live) > 1
    assert not [line for line in live.progress.lines if "one job" in line]
