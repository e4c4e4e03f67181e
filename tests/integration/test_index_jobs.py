"""Indexes are built several at a time, each in a session of its own, and each resumes on its own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from confiture import commands
from confiture.errors import DataFailure
from confiture.schema_to_schema import rebuild
from confiture.status import report
from forked import Forks, Running, until
from live import LiveRun
from servers import Databases, TestDatabase

#: Each build of an index on held() waits while a test holds the lock.
HELD = """
CREATE FUNCTION held(int) RETURNS int IMMUTABLE LANGUAGE plpgsql SET lock_timeout = 0 AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN $1; END';
"""
TABLE = "CREATE TABLE t (id int PRIMARY KEY, a int, b int UNIQUE); CREATE TABLE u (id int PRIMARY KEY);"
ROWS = "INSERT INTO t SELECT n, n, n FROM generate_series(1, 50) n; INSERT INTO u VALUES (1);"
NEW = f"{TABLE}{HELD} CREATE INDEX t_a ON t (held(a)); CREATE INDEX t_b ON t (held(b)); CREATE INDEX t_z ON t (a, b);"
BUILDING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX%'
    AND wait_event = 'advisory'
"""
SESSIONS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^confiture .* index$'
"""
KEY_WAITS = """
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query ~ 't_pkey' AND wait_event_type = 'Lock'
"""
#: Records a server process as one of the runner's.
RECORD = """
UPDATE confiture.runner SET target_backends = target_backends || (
    SELECT jsonb_build_array(jsonb_build_array(pid, extract(epoch FROM backend_start)::text, ''))
    FROM pg_stat_activity WHERE pid = {})
WHERE epoch = (SELECT max(epoch) FROM confiture.runner)
"""
BUILT = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 't'::regclass AND indisvalid ORDER BY 1"
ALL = [("t_a",), ("t_b",), ("t_b_key",), ("t_pkey",), ("t_z",)]


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, TABLE + ROWS, NEW)
    run.setup()
    return run


@contextmanager
def holding(database: TestDatabase) -> Iterator[psycopg.Connection[object]]:
    """Have index builds wait in the block."""
    with database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(4711)")
        yield holder
        holder.execute("SELECT pg_advisory_unlock(4711)")


@contextmanager
def migrating(forks: Forks, live: LiveRun, *options: str) -> Iterator[Running]:
    """A ``migrate`` whose builds on held() wait; until two of them do."""
    with holding(live.target):
        running = forks.start([*live.arguments("migrate"), *options], live.project)
        until(lambda: live.target.value(BUILDING) == 2, "two builds")
        yield running


def test_two_indexes_of_one_table_are_built_at_a_time(live: LiveRun, forks: Forks) -> None:
    with migrating(forks, live) as running:
        pids = live.target.rows(BUILDING.replace("count(*)", "pid"))
        recorded = live.target.value("SELECT target_backends FROM confiture.runner ORDER BY epoch DESC LIMIT 1")
        assert {pid for (pid,) in pids} < {backend[0] for backend in recorded}
    ended = running.wait()
    assert ended.code == 0, ended.err
    assert live.target.rows(BUILT) == ALL
    assert live.verify().equal


def test_status_shows_how_far_each_index_is(live: LiveRun, forks: Forks) -> None:
    with migrating(forks, live) as running:
        (run,) = report.report(live.target.conninfo, live.project).runs
        builds = {b["name"]: b for b in run.builds}
        assert builds.keys() == {"t_a", "t_b"}
        for build in builds.values():
            assert build["table"] == "public.t"
            assert build["phase"] == "scanning table"
            assert build["percent"] == 100.0
        text = forks.run(["status", "--target", live.target.conninfo], live.project).out
        assert "Index   t_a on public.t: scanning table, 100 %" in text
    assert running.wait().code == 0
    (run,) = report.report(live.target.conninfo, live.project).runs
    assert run.builds == ()


def test_progress_reports_how_far_each_index_is(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "WATCH_SECONDS", 0.0)
    lines = live.progress.lines
    with holding(live.target):
        running = threading.Thread(target=live.migrate)
        running.start()
        for name in ("t_a", "t_b"):
            wanted = f"rebuild: {name} on public.t: scanning table, 100 %"
            until(lambda wanted=wanted: wanted in lines, wanted)  # type: ignore[misc]
    running.join()
    assert live.target.rows(BUILT) == ALL


def test_progress_reports_builds_while_a_worker_builds_a_key(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "WATCH_SECONDS", 0.0)
    two = live.chosen(jobs=2)
    running = threading.Thread(target=lambda: commands.migrate.execute(live.where, two, live.progress))
    with live.target.connect() as builder, holding(live.target), live.target.connect(autocommit=False) as writer:
        writer.execute("LOCK TABLE t IN ROW EXCLUSIVE MODE")  # rows are copied, and the build of the key waits
        running.start()
        until(lambda: live.target.rows(KEY_WAITS), "the build of the key")
        # The build of a key cannot be made to wait within. So another build of the run is shown in its place.
        live.target.sql(RECORD.format(builder.info.backend_pid))
        other = threading.Thread(target=builder.execute, args=("CREATE INDEX u_held ON u (held(id))",))
        other.start()
        wanted = "rebuild: u_held on public.u: scanning table, 100 %"
        until(lambda: wanted in live.progress.lines, wanted)
        writer.rollback()
    running.join()
    assert live.target.rows(BUILT) == ALL


def test_progress_reports_the_key_of_a_large_table_with_one_job(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "WATCHED_BYTES", 0)
    running = threading.Thread(target=live.migrate)
    with live.target.connect(autocommit=False) as writer:
        writer.execute("LOCK TABLE t IN ROW EXCLUSIVE MODE")
        running.start()
        until(lambda: live.target.rows(KEY_WAITS), "the build of the key")
        assert live.target.value(SESSIONS) == 1  # the session of the runner is free to look
        writer.rollback()
    running.join()
    assert live.target.rows(BUILT) == ALL


def test_one_job_builds_one_index_at_a_time(live: LiveRun, forks: Forks) -> None:
    with holding(live.target):
        running = forks.start([*live.arguments("migrate"), "--index-jobs", "1"], live.project)
        until(lambda: live.target.value(BUILDING) == 1, "a build")
        assert live.target.value(SESSIONS) == 1
    assert running.wait().code == 0
    assert live.target.rows(BUILT) == ALL


def test_second_signal_cancels_the_builds_and_the_command_continues(live: LiveRun, forks: Forks) -> None:
    with migrating(forks, live) as running:
        running.interrupt_twice()
        until(lambda: not running.alive, "the end of the command")
        ended = running.wait()
        assert ended.code == 130, ended.err
        assert live.target.value(BUILDING) == 0
    live.migrate()
    assert live.target.rows(BUILT) == ALL


def test_first_signal_completes_the_builds_and_begins_no_further_one(live: LiveRun, forks: Forks) -> None:
    with migrating(forks, live) as running:
        running.signal(signal.SIGTERM)
        running.until_passed("signal.heard")
    assert running.wait().code == 143
    assert {("t_a",), ("t_b",)} <= set(live.target.rows(BUILT))
    assert ("t_z",) not in live.target.rows(BUILT)
    live.migrate()
    assert live.target.rows(BUILT) == ALL


def test_pause_completes_the_builds_and_begins_no_further_one(live: LiveRun, forks: Forks) -> None:
    with migrating(forks, live) as running:
        commands.requests.request(live.where, "pause")
        running.until_said("paused on request")
    until(lambda: {("t_a",), ("t_b",)} <= set(live.target.rows(BUILT)), "the builds")
    assert ("t_z",) not in live.target.rows(BUILT)
    commands.requests.request(live.where, "resume")
    assert running.wait().code == 0
    assert live.target.rows(BUILT) == ALL


def test_takeover_ends_every_build_of_the_runner_before_it(live: LiveRun, forks: Forks) -> None:
    with migrating(forks, live) as running:
        running.signal(signal.SIGSTOP)
        live.target.sql("UPDATE confiture.runner SET heartbeat_at = heartbeat_at - interval '1 hour'")
        frozen = live.target.rows(BUILDING.replace("count(*)", "pid"))
        other = threading.Thread(target=live.migrate)
        other.start()
        alive = "SELECT pid FROM pg_stat_activity"
        until(lambda: not set(frozen) & set(live.target.rows(alive)), "the end of the builds before")
        until(lambda: live.target.value(BUILDING) == 2, "the builds of the new runner")
    other.join()
    running.signal(signal.SIGCONT)
    ended = running.wait()
    assert ended.code != 0
    assert "taken" in ended.err
    assert live.target.rows(BUILT) == ALL


# Each on its own -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hit", [1, 3, 5])
def test_killed_build_is_continued_by_the_same_command(live: LiveRun, forks: Forks, hit: int) -> None:
    before = live.target.rows("SELECT count(*) FROM confiture.deferred_object WHERE kind IN ('index', 'constraint')")
    for point in ("before_commit", "after_commit"):
        killed = forks.run(live.arguments("migrate"), live.project, CONFITURE_FAILPOINT=f"rebuild.{point}:{hit}")
        assert killed.code in (-signal.SIGKILL, 0)
    live.migrate()
    assert live.target.rows(BUILT) == ALL
    assert live.verify().equal
    built = "SELECT count(*) FROM confiture.step WHERE name LIKE '% t_b_key on %' AND status = 'done'"
    assert live.target.value(built) == 2
    assert before == [(6,)]


def interrupted_after_build(live: LiveRun, forks: Forks) -> None:
    """Kill a ``migrate`` when the index of a constraint is built, and its constraint is not added."""
    migrate = [*live.arguments("migrate"), "--index-jobs", "1"]
    # The first two commits are those of the keys.
    assert forks.run(migrate, live.project, CONFITURE_FAILPOINT="rebuild.after_commit:3").code == -signal.SIGKILL
    assert live.target.rows(BUILT) == [("t_b_key",), ("t_pkey",)]
    assert live.target.rows("SELECT FROM pg_constraint WHERE conname = 't_b_key'") == []


@pytest.mark.parametrize("again", [(), ("u",)], ids=["resumed", "another table is restarted"])
def test_index_that_is_built_is_adopted_by_its_constraint(live: LiveRun, forks: Forks, again: tuple[str, ...]) -> None:
    interrupted_after_build(live, forks)
    number = "SELECT 't_b_key'::regclass::oid"
    before = live.target.value(number)
    for table in again:
        live.restart(table)
    live.migrate()
    assert live.target.value(number) == before
    assert live.target.rows(BUILT) == ALL


def test_index_that_is_built_is_dropped_when_its_table_is_restarted(live: LiveRun, forks: Forks) -> None:
    interrupted_after_build(live, forks)
    number = "SELECT 't_b_key'::regclass::oid"
    before = live.target.value(number)
    live.restart("t")
    assert live.target.value(number) != before
    assert live.target.rows(BUILT) == ALL
    assert live.verify().equal


def test_index_that_is_built_is_adopted_by_an_abort(databases: Databases, tmp_path: Path, forks: Forks) -> None:
    live = LiveRun(databases, tmp_path, TABLE + ROWS, NEW)
    databases.make(live.target.name)
    live.target.sql(NEW)
    live.setup()
    interrupted_after_build(live, forks)
    live.abort()
    assert live.target.rows(BUILT) == ALL


def test_invalid_index_that_an_attempt_left_is_built_again(live: LiveRun) -> None:
    live.target.as_the_run("INSERT INTO t VALUES (1, 1, 1), (2, 2, 1)")
    with live.target.connect() as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY t_b_key ON t (b)")
    live.target.as_the_run("DELETE FROM t")
    live.migrate()
    assert live.target.rows(BUILT) == ALL
    assert live.verify().equal


def test_rows_that_conflict_stop_the_command_when_other_builds_are_completed(
    databases: Databases, tmp_path: Path
) -> None:
    live = LiveRun(databases, tmp_path, TABLE.replace(" UNIQUE", "") + ROWS.replace("n, n, n", "n, n, n % 49"), NEW)
    live.setup()
    with pytest.raises(DataFailure) as failed:
        live.migrate()
    text = "\n".join(failed.value.lines())
    assert "constraint t_b_key on public.t cannot be restored" in text
    assert "Key (b)=(1) is duplicated" in text
    live.source.sql("UPDATE t SET b = 1000 WHERE id = 50")
    live.restart("t")
    assert live.target.rows(BUILT) == ALL
    assert live.verify().equal


def test_error_of_a_build_leaves_the_others_running(databases: Databases, tmp_path: Path, forks: Forks) -> None:
    new = f"{TABLE}{HELD} CREATE INDEX t_a ON t (held(a)); CREATE INDEX t_z ON t (a, b);"
    live = LiveRun(databases, tmp_path, TABLE.replace(" UNIQUE", "") + ROWS.replace("n, n, n", "n, n, n % 49"), new)
    live.setup()
    logged = len(live.target.server.log.read_text(errors="replace"))
    with holding(live.target):
        running = forks.start([*live.arguments("migrate"), "--index-jobs", "2"], live.project)
        log = live.target.server.log
        until(lambda: live.target.value(BUILDING) == 1, "the other build")
        until(lambda: "could not create unique index" in log.read_text(errors="replace")[logged:], "the error")
        # The signal does not replace the error.
        running.signal(signal.SIGTERM)
        running.until_passed("signal.heard")
        assert live.target.value(BUILDING) == 1
    ended = running.wait()
    assert ended.code == 5, ended.err
    assert "Key (b)=(1) is duplicated" in ended.err
    assert live.target.rows(BUILT) == [("t_a",), ("t_pkey",)]


@pytest.mark.parametrize("begun", [False, True])
def test_dry_run_reports_the_jobs_that_are_given(live: LiveRun, forks: Forks, begun: bool) -> None:
    if begun:
        live.migrate()
    options = ["--dry-run", "--index-jobs", "5", "--jobs", "3"]
    plan = " ".join(forks.run([*live.arguments("migrate"), *options], live.project).out.split())
    assert "5 indexes are built at a time" in plan
    assert "up to 14 connections to the source and 8 connections to the target" in plan
    assert "up to 3 chunks are copied at a time" in plan


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["0", "1000", "-1", "two"])
def test_impossible_number_of_index_jobs_is_a_usage_error(live: LiveRun, forks: Forks, jobs: str) -> None:
    ended = forks.run([*live.arguments("migrate"), "--index-jobs", jobs], live.project)
    assert ended.code == 2
    assert "--index-jobs" in ended.err
    assert live.target.value("SELECT sum(rows_done) FROM confiture.table_plan") == 0
