"""The copy is throttled by a rate, by lagging standbys, by a long log or by a pause.

``status`` shows the limits, and they survive a kill.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

import small_move
from confiture import commands, config
from confiture.config import Database
from confiture.copy import chunks, throttle, throttler
from confiture.copy.run_table import RunTable
from confiture.copy.throttle import Throttle
from confiture.copy.throttler import Throttler
from confiture.plan import planner
from confiture.postgres.embedded import Server
from confiture.postgres.session import Session
from confiture.render import status as render
from confiture.runner.context import Context
from confiture.schema_to_schema import copy_tables, log_compaction
from confiture.schema_to_schema import migrate as migrating
from confiture.status import report
from confiture.status.facts import RunReport, Severity
from forked import Forks, Running, until
from live import LiveRun, Quiet
from servers import Databases, TestDatabase, standby_of
from small_move import SmallMove

THROTTLED = "throttled: rate limit 1 rows/s"


@pytest.fixture
def move(databases: Databases, tmp_path: Path) -> SmallMove:
    """A run that is set up with its mapping and has copied nothing."""
    made = small_move.make(databases, tmp_path)
    made.setup()
    return made


def start(forks: Forks, move: SmallMove, *options: str) -> Running:
    """Start ``migrate`` in a process of its own."""
    return forks.start(move.arguments("migrate", *options), move.project)


@contextmanager
def in_first_chunk_of_post(forks: Forks, move: SmallMove) -> Iterator[Running]:
    """A ``migrate`` that waits in the middle of a chunk until the end of the block."""
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with move.target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE post IN SHARE MODE")
        running = start(forks, move)
        until(lambda: move.target.rows(waits), "migrate to wait for the lock")
        yield running
        blocker.rollback()


def status_of(move: SmallMove) -> RunReport:
    """The run as ``status`` reports it, validated against the schema."""
    found = report.report(move.target.conninfo, move.project)
    schema = json.loads((resources.files("confiture") / "schemas/status.json").read_text())
    jsonschema.validate(found.as_json(), schema)
    return found.runs[0]


def copied(move: SmallMove) -> int:
    return int(move.target.value("SELECT count(*) FROM confiture.chunk WHERE status = 'done'"))


def assert_finishes(move: SmallMove, running: Running) -> None:
    ended = running.wait()
    assert ended.code == 0, ended.err
    move.assert_every_row_arrived_once()
    move.assert_rows_and_checkpoints_agree()


# The rate ------------------------------------------------------------------------------------------


def test_a_running_copy_obeys_a_new_limit_after_at_most_one_chunk(forks: Forks, move: SmallMove) -> None:
    with in_first_chunk_of_post(forks, move) as running:
        move.run("throttle", "--max-rate", "1")
    running.until_said(THROTTLED)
    assert [s for s, _ in move.chunks("post")].count("done") == 1
    run = status_of(move)
    assert run.severity == Severity.OK
    assert run.throttle["active"]
    assert run.throttle["reason"] == "rate limit 1 rows/s"
    assert run.throttle["limits"]["max_rate"] == 1
    found = report.report(move.target.conninfo, move.project)
    assert ", throttled: rate limit 1 rows/s" in render.text(found)
    assert "_throttled'=1" in render.nagios(found)
    # While the copy waits, no transaction is open on either side.
    idle = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND application_name LIKE 'confiture%'"
    assert move.source.rows(idle) == []
    move.target.sql("UPDATE confiture.runner SET throttled_since = throttled_since - interval '6 min'")
    assert status_of(move).severity == Severity.WARNING
    (reason,) = status_of(move).reasons
    assert re.fullmatch("throttled for 6 minutes.*: rate limit 1 rows/s", reason)
    move.run("throttle", "--off")
    assert_finishes(move, running)
    run = status_of(move)
    assert (run.throttle["active"], run.throttle["limits"]["max_rate"]) == (False, None)


def test_the_same_command_is_throttled_again_after_a_kill(forks: Forks, move: SmallMove) -> None:
    running = start(forks, move, "--max-rate", "1")
    running.until_said(THROTTLED)
    running.signal(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    # The limit makes chunks this small. Otherwise 40 rows would be copied together, followed by 40 seconds of waiting.
    assert [rows for s, rows in move.chunks("app_user") if s == "done"] == [2]
    assert len(move.chunks("app_user")) == 2  # planned at this size, not split from larger chunks
    run = status_of(move)
    assert not run.throttle["active"]
    assert run.throttle["limits"]["max_rate"] == 1
    again = start(forks, move)
    again.until_said(THROTTLED)
    move.run("throttle", "--off")
    assert_finishes(move, again)


def test_a_migrate_killed_while_it_stores_its_limits_is_throttled_by_them(forks: Forks, move: SmallMove) -> None:
    limited = move.arguments("migrate", "--max-rate", "1")
    for command, point in (
        (move.arguments("migrate"), "copy.before_commit"),  # planned without a limit
        (limited, "throttle.limits.before_commit"),
        (limited, "chunk.shortened.before_commit"),
        (limited, "throttled.before_commit"),
    ):
        killed = forks.run(command, move.project, CONFITURE_FAILPOINT=point)
        assert killed.code == -signal.SIGKILL, f"{point}: {killed.code}\n{killed.err}"
        move.assert_rows_and_checkpoints_agree()
    again = start(forks, move)
    again.until_said(THROTTLED)
    move.run("throttle", "--off")
    assert_finishes(move, again)


def test_a_throttled_copy_obeys_a_signal_and_a_pause(forks: Forks, move: SmallMove) -> None:
    running = start(forks, move, "--max-rate", "1")
    running.until_said(THROTTLED)
    move.run("pause")
    running.until_said("paused on request")
    assert not status_of(move).throttle["active"]
    running.signal(signal.SIGTERM)
    assert running.wait().code == 143


def test_a_copy_is_throttled_until_it_is_slower_than_its_limit(move: SmallMove) -> None:
    commands.requests.throttle(move.where, Throttle(max_rate=100), False)
    with move.holding() as context:
        context.progress = quiet = Quiet()
        held = Throttler(context)
        for _ in range(2):
            held.copied(1, 100, 0.0)
            held.wait()
        assert quiet.lines == ["throttled: rate limit 100 rows/s"]
        held.copied(1, 100, 2.0)
        held.wait()
        held.copied(1, 100, 0.0)
        held.wait()
        assert quiet.lines == ["throttled: rate limit 100 rows/s"], "the operator's own limit is reported once"


def test_limits_are_set_separately_and_removed_together(move: SmallMove) -> None:
    def limits(*options: str) -> Throttle:
        move.run("throttle", *options)
        return throttle.from_json(status_of(move).throttle["limits"])

    assert limits("--max-rate", "500") == Throttle(500)
    assert limits("--max-replica-lag", "2.5", "--max-backlog", "9") == Throttle(500, 2.5, 9)
    assert limits("--off", "--max-rate", "7") == Throttle(7)
    assert limits("--off") == Throttle()
    assert "--off" in move.run("throttle", code=2).err
    move.run("throttle", "--max-rate", "0", code=2)


# Duration of a chunk -------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["fdw", "copy"])
def test_either_strategy_obeys_a_pause_after_the_current_chunk(
    forks: Forks, databases: Databases, tmp_path: Path, strategy: str
) -> None:
    move = small_move.make(databases, tmp_path)
    move.run("setup", "--mapping", str(move.mapping), "--chunk-rows", "40", "--strategy", strategy)
    with in_first_chunk_of_post(forks, move) as running:
        move.run("pause")
    running.until_said("paused on request")
    assert move.target.rows("SELECT DISTINCT plan ->> 'strategy' FROM confiture.table_plan") == [(strategy,)]
    assert [s for s, _ in move.chunks("post")].count("done") == 1
    move.run("resume")
    assert_finishes(move, running)


def test_slow_chunks_become_smaller(move: SmallMove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "CHUNK_SECONDS", 0)
    monkeypatch.setattr(throttle, "SLOW_CHUNK_ROWS", 15)
    move.migrate()
    for table in ("app_user", "post", "tag"):
        first, *others = [rows for _, rows in move.chunks(table)]
        assert first == small_move.CHUNK_ROWS
        assert max(others) == 15
    move.assert_every_row_arrived_once()
    move.assert_rows_and_checkpoints_agree()


def test_chunks_grow_to_the_rows_of_a_few_seconds(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "CHUNK_ROWS_MOST", 10)
    move = small_move.make(databases, tmp_path)
    move.run("setup", "--mapping", str(move.mapping))
    move.migrate()
    first, second, *others = [rows for _, rows in move.chunks("post")]
    assert max(first, second) <= 20
    # Any server copies more than ten rows in two seconds.
    assert max(others) > 100
    move.assert_every_row_arrived_once()
    move.assert_rows_and_checkpoints_agree()


def test_chunks_do_not_grow_above_what_the_operator_has_set(move: SmallMove) -> None:
    move.migrate()
    for table in ("app_user", "post", "tag"):
        assert max(rows for _, rows in move.chunks(table)) == small_move.CHUNK_ROWS


def test_a_slow_plan_ahead_reads_fewer_keys_at_once(move: SmallMove, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    plan_ahead = chunks.plan_ahead

    def counted(context: Context, job: RunTable, number: int, rows: int, count: int, *, exact: bool) -> chunks.Ahead:
        planned.append(count)
        return plan_ahead(context, job, number, rows, count, exact=exact)

    monkeypatch.setattr(chunks, "plan_ahead", counted)
    monkeypatch.setattr(copy_tables, "PLAN_SECONDS", 0.0)
    move.migrate()
    assert planned[:2] == [2, 1]
    assert set(planned[1:]) <= {1, 2}
    move.assert_every_row_arrived_once()


# Standbys ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standby(server: Server) -> Iterator[TestDatabase]:
    """A standby that streams from the server of the tests."""
    with standby_of(server, {"wal_receiver_status_interval": "1s"}) as made:
        yield TestDatabase(made, "postgres")


@contextmanager
def replay_paused(standby: TestDatabase, source: TestDatabase, lag: float) -> Iterator[None]:
    """The standby receives WAL and replays none. At the start of the block its lag is ``lag`` seconds."""
    standby.sql("SELECT pg_wal_replay_pause()")
    try:
        until(lambda: source.value(WORST) is not None and _write(source) > lag, "the standby to lag")
        yield
    finally:
        standby.sql("SELECT pg_wal_replay_resume()")


WORST = "SELECT max(extract(epoch FROM replay_lag)::float8) FROM pg_stat_replication"


def _write(source: TestDatabase) -> float:
    """Write some WAL, without which the server measures no lag, and return the lag that it has measured."""
    source.sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 100))")
    return float(source.value(WORST) or 0)


def test_the_copy_waits_until_a_lagging_standby_has_caught_up(
    forks: Forks, move: SmallMove, standby: TestDatabase
) -> None:
    # The standby replays something first: the server measures lag in time only from a known position.
    until(lambda: _write(move.source) >= 0 and move.source.rows(f"{WORST} HAVING max(replay_lag) IS NOT NULL"), "lag")
    with replay_paused(standby, move.source, 0.5):
        running = start(forks, move, "--max-replica-lag", "0.5")
        running.until_said("throttled: replica lag ")
        assert "> 0.5 s (far of the " in running.err.read_text()
        status = status_of(move)
        assert status.throttle["reason"].startswith("replica lag ")
        assert [(r["name"], r["lag_seconds"] > 0.5) for r in status.replicas] == [("far", True)]
        assert copied(move) == 0
    running.until_said("throttle ended")
    assert_finishes(move, running)


def test_missing_privilege_to_see_standbys_is_reported_once(
    move: SmallMove, standby: TestDatabase, databases: Databases
) -> None:
    role = f"{move.source.name}_plain"
    move.source.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'plain'")
    plain = config.resolve(move.source.server.conninfo(move.source.name, user=role, password="plain"), move.project)
    try:
        with move.holding() as context:
            quiet, own = Quiet(), context.source
            context.progress, context.source = quiet, _as(context, plain)
            throttler_ = Throttler(context)
            commands.requests.throttle(move.where, Throttle(max_replica_lag=1000), False)
            throttler_.wait()
            throttler_._measured.clear()
            throttler_.wait()
            context.source.close()
            context.source = own
        assert quiet.lines == [
            "replica lag of the source's server is not visible, so the copy does not wait for it: "
            f"GRANT pg_read_all_stats TO {role}"
        ]
        move.source.sql(f"GRANT pg_read_all_stats TO {role}")
        with Session(plain, "test") as session:
            found = throttler.replicas("source", session)
        assert found is not None
        assert [replica.name for replica in found] == ["far"]
    finally:
        move.source.sql(f"DROP ROLE {role}")


def _as(context: Context, database: Database) -> Session:
    return Session(database, "runner", context.schema[-8:])


# The log of a run with capture ---------------------------------------------------------------------


class LogWatcher(Quiet):
    """Progress that records the length of the log and the recorded reason with each line."""

    live: LiveRun
    seen: dict[str, tuple[int, str | None]]

    def say(self, text: str) -> None:
        super().say(text)
        reason = self.live.target.value("SELECT throttled_reason FROM confiture.runner WHERE ended_at IS NULL")
        self.seen[text.split()[0]] = (self.live.source.value(f"SELECT count(*) FROM {log(self.live)}"), reason)


def log(live: LiveRun) -> str:
    return str(
        live.source.value(
            "SELECT c.oid::regclass FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attname = 'truncated'"
            " WHERE relkind = 'r' AND relnamespace::regnamespace::text ~ '^confiture_'"
        )
    )


@pytest.fixture
def live(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveRun:
    """A run with capture, whose log has 300 rows of ten keys."""
    monkeypatch.setattr(throttler, "BACKLOG_SECONDS", 0)
    table = "CREATE TABLE t (id int PRIMARY KEY, n int);"
    rows = "INSERT INTO t SELECT n, 0 FROM generate_series(1, 100) n"
    made = LiveRun(databases, tmp_path, table + rows, table, chunk_rows=20)
    made.setup()
    made.progress = LogWatcher()
    made.progress.live, made.progress.seen = made, {}
    for _ in range(30):
        made.source.sql("UPDATE t SET n = n + 1 WHERE id <= 10")
    return made


def test_the_copy_waits_while_a_long_log_is_compacted(live: LiveRun) -> None:
    commands.requests.throttle(live.where, Throttle(max_backlog=50), False)
    live.migrate()
    lines = live.progress.lines
    assert next(line for line in lines if "throttle" in line) == "throttled: backlog 300 rows > 50"
    assert live.progress.seen["throttled:"] == (300, "backlog 300 rows > 50")
    assert live.progress.seen["throttle"] == (10, None)
    throttled = "SELECT kind FROM confiture.event WHERE kind LIKE 'throttle%' AND actor <> '' ORDER BY id"
    assert [kind for (kind,) in live.target.rows(throttled)] == ["throttle", "throttled", "throttle ended"]
    live.assert_same(t="SELECT id, n FROM t")


def test_the_log_is_compacted_while_the_copy_waits(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_compaction, "EVERY_SECONDS", 0)
    commands.requests.throttle(live.where, Throttle(max_rate=100), False)
    with commands.holding.hold_run(live.where, "migrate", live.progress) as (context, _):
        with log_compaction.LogCompactor(context, migrating.stored_plan(context)) as log:
            held = Throttler(context, log)
            held.copied(1, 0, time.monotonic())
            held.copied(1, 100, time.monotonic())
            live.source.sql("UPDATE t SET n = n + 1 WHERE id <= 10")
            held.wait()
            assert log.waiting() == 10


def test_a_log_with_too_many_keys_does_not_stop_the_copy(live: LiveRun) -> None:
    commands.requests.throttle(live.where, Throttle(max_backlog=5), False)
    live.migrate()
    assert [line for line in live.progress.lines if "; continuing" in line] == [
        "10 log rows have to wait until their tables are copied; continuing"
    ]
    live.assert_same(t="SELECT id, n FROM t")
