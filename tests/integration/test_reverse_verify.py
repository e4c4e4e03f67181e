"""The checks of a rollback on both servers before it reports that the source matches the target."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from confiture.errors import Blocked, CutoverAborted
from confiture.postgres.embedded import Server
from forked import Forks
from live import LiveRun
from servers import Databases, restored_after

OLD = """
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 300) n;
"""
NEW = "CREATE TABLE t (id bigint PRIMARY KEY, v text)"
RESTARTED = "comparing every row before the rollback: the server of the {} was restarted"


@pytest.fixture
def live(apart: tuple[Databases, Databases], tmp_path: Path) -> LiveRun:
    """A run whose target is serving, on a server of its own."""
    here, there = apart
    run = LiveRun(here, tmp_path, OLD, NEW, apart=there, strategy="copy")
    run.through()
    return run


def restart(server: Server) -> None:
    server.stop()
    server.start()


def damage(live: LiveRun, statements: str) -> None:
    """Change the source as only the run may, and without a reverse pass."""
    live.source.as_the_run(statements)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_rollback_after_a_restart_compares_every_row_first(live: LiveRun, side: str) -> None:
    live.target.sql("UPDATE t SET v = 'new' WHERE id < 10")
    restart(getattr(live, side).server)
    live.rollback()
    assert [line for line in live.progress.lines if line.startswith(RESTARTED.format(side))]
    assert live.source.value("SELECT count(*) FROM t WHERE v = 'new'") == 9


def test_a_rollback_without_a_restart_does_not_compare_every_row(live: LiveRun) -> None:
    live.target.sql("UPDATE t SET v = 'new' WHERE id < 10")
    live.rollback()
    assert not [line for line in live.progress.lines if "comparing every row" in line]


def test_row_that_a_restarted_source_lost_aborts_rollback_until_repaired(live: LiveRun, forks: Forks) -> None:
    restart(live.source.server)
    damage(live, "DELETE FROM t WHERE id = 7")
    with pytest.raises(CutoverAborted, match="source and target differ") as stopped:
        live.rollback()
    assert stopped.value.why is not None
    assert stopped.value.why.startswith("1 difference,")
    for part in (".restored", ".begun", ".logged", "", ".ended"):
        point = f"reverse_verify{part}"
        if point.endswith("restored"):
            live.source.sql("ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL")
            with pytest.raises(Blocked, match="write block"):
                live.rollback()
        killed = forks.run(live.arguments("verify"), live.project, CONFITURE_FAILPOINT=f"{point}.before_commit")
        assert killed.code == -signal.SIGKILL, f"{point}: {killed.code}\n{killed.out}{killed.err}"
    assert live.verify(repair=True).equal
    live.rollback()
    assert live.source.value("SELECT v FROM t WHERE id = 7") == "v7"


def test_a_target_restored_to_before_a_reverse_pass_blocks(live: LiveRun) -> None:
    def written() -> None:
        live.target.sql("UPDATE t SET v = 'lost' WHERE id = 1")
        live.follow()

    restored_after(live.target.server, written)
    assert live.source.value("SELECT v FROM t WHERE id = 1") == "lost"
    for command in (live.follow, live.rollback):
        with pytest.raises(Blocked, match=r"restored|lost"):
            command()
    assert live.open_sides("UPDATE t SET v = v WHERE id = 1") == {"target"}


def test_a_source_restored_to_before_a_reverse_pass_blocks(live: LiveRun) -> None:
    def written() -> None:
        live.target.sql("UPDATE t SET v = 'kept' WHERE id = 1")
        live.follow()

    restored_after(live.source.server, written)
    for command in (live.follow, live.rollback):
        with pytest.raises(Blocked, match=r"restored|lost"):
            command()
    assert live.open_sides("UPDATE t SET v = v WHERE id = 1") == {"target"}


def test_target_restored_before_any_pass_is_compared_in_its_present_state(live: LiveRun) -> None:
    """No server holds the rows that it lost."""
    restored_after(live.target.server, lambda: live.target.sql("UPDATE t SET v = 'lost' WHERE id = 1"))
    live.target.sql("UPDATE t SET v = 'kept' WHERE id = 2")
    live.rollback()
    assert [line for line in live.progress.lines if line.startswith(RESTARTED.format("target"))]
    assert live.source.rows("SELECT v FROM t WHERE id < 3 ORDER BY id") == [("v1",), ("kept",)]


WHERE_OLD = """
CREATE TABLE d (id int PRIMARY KEY, v text, deleted_at date);
INSERT INTO d SELECT n, 'v' || n, CASE WHEN n % 5 = 0 THEN date '2020-01-01' END FROM generate_series(1, 50) n;
"""
WHERE_NEW = "CREATE TABLE d (id bigint PRIMARY KEY, v text, deleted_at date)"
WHERE = 'd: {$where: "deleted_at IS NULL"}\n'


@pytest.mark.parametrize(
    "written",
    [
        "UPDATE d SET deleted_at = '2026-01-01' WHERE id IN (1, 2)",
        "UPDATE d SET deleted_at = '2026-01-01', v = 'x' WHERE id = 1; DELETE FROM d WHERE id = 2",
        "INSERT INTO d VALUES (900, 'new', '2026-01-01'), (901, 'new', NULL)",
        "UPDATE d SET deleted_at = '2026-01-01' WHERE id = 1; UPDATE d SET deleted_at = NULL WHERE id = 1",
    ],
)
@pytest.mark.parametrize("drained", [False, True])
def test_rows_that_leave_where_after_the_cutover_are_applied_in_reverse(
    databases: Databases, tmp_path: Path, written: str, drained: bool
) -> None:
    run = LiveRun(databases, tmp_path, WHERE_OLD, WHERE_NEW, WHERE)
    run.through()
    run.target.sql(written)
    if drained:
        run.follow()
    there = run.target.rows("SELECT * FROM d ORDER BY id")
    run.rollback()
    left = "id % 5 = 0 AND id <= 50"
    assert run.source.rows(f"SELECT * FROM d WHERE NOT ({left}) ORDER BY id") == there
    assert run.source.value(f"SELECT count(*) FROM d WHERE {left}") == 10


def test_a_row_that_left_where_and_differs_aborts_the_rollback(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, WHERE_OLD, WHERE_NEW, WHERE)
    run.through()
    run.target.sql("UPDATE d SET deleted_at = '2026-01-01' WHERE id = 1")
    run.follow()
    damage(run, "UPDATE d SET v = 'x' WHERE id = 1")
    with pytest.raises(CutoverAborted, match="would not match"):
        run.rollback()
