"""A session that only reads is reported where it blocks a command: it blocks the drop of a trigger, a rule or a key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from confiture.errors import CutoverAborted, Held
from confiture.schema_to_schema import blockers
from confiture.schema_to_schema.outcomes import Limits
from forked import Forks, until
from live import LiveRun
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 30) n;
CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
INSERT INTO u SELECT n, n FROM generate_series(1, 20) n;
"""
NEW = """
CREATE TABLE t (id bigint PRIMARY KEY, v text);
CREATE TABLE u (id bigint PRIMARY KEY, t bigint REFERENCES t ON DELETE CASCADE);
"""
RULE = "CREATE RULE kept AS ON DELETE TO t WHERE false DO ALSO NOTHING;"
CHECK = "ALTER TABLE t ADD CONSTRAINT short CHECK (v <> 'no') NOT VALID;"
SAME = {"t": "SELECT id, v FROM t", "u": "SELECT id, t FROM u"}


@contextmanager
def reading(database: TestDatabase, table: str) -> Iterator[int]:
    """A transaction that has read a table and stays open; its process ID."""
    with database.connect(autocommit=False, application_name="reader") as reader:
        reader.execute(f"SELECT count(*) FROM {table}".encode())
        yield reader.info.backend_pid


def reported(live: LiveRun, pid: int) -> bool:
    return any(f"pid {pid} (postgres, reader, idle in transaction" in line for line in live.progress.lines)


def completes_once_its_reader_has_ended(
    live: LiveRun, database: TestDatabase, table: str, command: Callable[[], object]
) -> None:
    with reading(database, table) as pid:
        running = threading.Thread(target=command)
        running.start()
        until(lambda: reported(live, pid), f"the report of the reader:\n{live.progress.lines}")
        assert running.is_alive()
    running.join()


@pytest.mark.parametrize(("more", "table"), [(RULE, "t"), (CHECK, "t"), ("", "t"), ("", "u")])
def test_a_rollback_reports_the_reader_of_the_target_that_blocks_its_end(
    databases: Databases, tmp_path: Path, more: str, table: str
) -> None:
    live = LiveRun(databases, tmp_path, OLD, NEW + more)
    live.through()
    completes_once_its_reader_has_ended(live, live.target, table, live.rollback)
    assert live.state == "migrating"
    assert live.verify().equal
    live.cutover()
    live.assert_same(**SAME)


def test_a_rollback_whose_end_is_blocked_names_the_reader_and_can_resume(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockers, "BRIEF_LOCK_SECONDS", 1)
    live = LiveRun(databases, tmp_path, OLD, NEW + RULE)
    live.through()
    with reading(live.target, "t") as pid, pytest.raises(Held, match="could not be locked") as held:
        live.rollback()
    assert f"pid {pid}" in str(held.value.why)
    assert live.open_sides("UPDATE t SET v = v WHERE id = 1") == {"source"}
    live.rollback()
    assert live.state == "migrating"


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_cutover_reports_the_reader_of_a_referenced_table(databases: Databases, tmp_path: Path, side: str) -> None:
    live = LiveRun(databases, tmp_path, OLD, NEW)
    live.up_to_cutover()
    database = live.source if side == "source" else live.target
    completes_once_its_reader_has_ended(live, database, "t", live.cutover)
    live.assert_same(**SAME)


DAMAGES = {
    "disabled": "ALTER TABLE t DISABLE TRIGGER {0}",
    "dropped": "DROP TRIGGER {0} ON t",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_cutover_names_the_reader_that_blocks_repair_of_the_write_block(
    databases: Databases, tmp_path: Path, forks: Forks, damage: str
) -> None:
    live = LiveRun(databases, tmp_path, OLD, NEW)
    live.up_to_cutover()
    forks.run(live.arguments("cutover"), live.project, CONFITURE_FAILPOINT="cutover.locked")
    live.source.sql(damage.format(f"aa_{live.source.run_schema}_rows"))
    with reading(live.source, "t") as pid, pytest.raises(CutoverAborted) as aborted:
        live.cutover(Limits(give_up_after=0.5))
    assert f"pid {pid}" in str(aborted.value.why)
    live.cutover()
    live.assert_same(**SAME)


def test_readers_do_not_block_a_cutover_that_creates_the_write_block(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, OLD, "CREATE TABLE t (id bigint PRIMARY KEY, v text)", "$omit: [u]\n")
    live.up_to_cutover()
    with reading(live.source, "t"):
        live.cutover(Limits(give_up_after=0.5))
    assert not [line for line in live.progress.lines if "reader" in line]


def test_a_restart_of_a_table_reports_the_reader_that_blocks_its_capture(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, OLD, NEW)
    live.setup()
    live.migrate()
    live.source.sql("ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL")
    completes_once_its_reader_has_ended(live, live.source, "t", lambda: live.restart("t"))
    assert live.verify().equal
