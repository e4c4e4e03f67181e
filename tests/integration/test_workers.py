"""Worker processes of a migrate: what they copy, how they die, and that none of them outlives its runner."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

import small_move
from confiture.copy import chunks
from confiture.copy.run_table import RunTable
from confiture.errors import Blocked, DataFailure, Drained, Held
from confiture.journal import leases, table_plans
from confiture.journal.model import LEASE_SECONDS
from confiture.runner import capacity, worker
from confiture.schema_to_schema import jobs
from confiture.schema_to_schema.copy_chunk import copy_chunk
from confiture.schema_to_schema.copy_tables import DEATHS
from confiture.schema_to_schema.migrate import stored_plan
from forked import Forks, Running, until
from servers import Databases, TestDatabase
from small_move import SmallMove

#: The number of chunks of the move.
CHUNKS = 16


BOTH_STRATEGIES = pytest.mark.parametrize("move", ["fdw", "copy"], indirect=True)


@pytest.fixture
def move(databases: Databases, tmp_path: Path, request: pytest.FixtureRequest) -> SmallMove:
    """A run that is set up, by COPY unless a test names the strategies. No row is copied."""
    made = small_move.make(databases, tmp_path)
    made.run(
        "setup", "--mapping", str(made.mapping), "--chunk-rows", "40", "--strategy", getattr(request, "param", "copy")
    )
    return made


def start(forks: Forks, move: SmallMove, *options: str, **environment: str) -> Running:
    """A migrate with two worker processes."""
    return forks.start(move.arguments("migrate", "--jobs", "2", *options), move.project, **environment)


def assert_finishes(move: SmallMove, databases: Databases, *options: str) -> None:
    """Assert that the same command finishes the migration, and that every row is present exactly once."""
    move.run("migrate", *options)
    move.finish()
    move.assert_every_row_arrived_once()
    move.assert_rows_and_checkpoints_agree()
    move.assert_as_designed(databases)
    move.assert_nothing_is_left()


def workers(move: SmallMove) -> set[int]:
    """The process IDs of the last command's workers, as they are recorded in the journal."""
    names = move.target.rows(
        "SELECT DISTINCT b ->> 2 FROM (SELECT * FROM confiture.runner ORDER BY epoch DESC LIMIT 1) r,"
        " jsonb_array_elements(target_backends || source_backends) b WHERE b ->> 2 <> ''"
    )
    return {int(name.split()[1]) for (name,) in names}


def waits(database: TestDatabase) -> bool:
    """Whether a session of this database waits for a lock."""
    activity = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(database.rows(activity))


@contextmanager
def stuck(forks: Forks, move: SmallMove, **environment: str) -> Iterator[Running]:
    """A migrate whose workers wait for a lock in chunks of ``post``; the lock is released at the end."""
    with move.target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE post IN SHARE MODE")
        running = start(forks, move, **environment)
        until(lambda: waits(move.target), "a worker to wait for the lock")
        yield running
        blocker.rollback()


def exists(pid: int) -> bool:
    """Whether a process is running."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@BOTH_STRATEGIES
def test_two_workers_copy_every_row_once(move: SmallMove, databases: Databases) -> None:
    move.run("migrate", "--jobs", "2")
    assert len(workers(move)) == 2
    assert os.getpid() not in workers(move)
    until(lambda: not any(map(exists, workers(move))), "the end of the workers")
    assert_finishes(move, databases)


def test_one_job_copies_in_the_process_of_the_runner(move: SmallMove, databases: Databases) -> None:
    move.run("migrate", "--jobs", "1")
    assert workers(move) == set()
    assert_finishes(move, databases)


def test_little_data_is_copied_without_worker_processes(move: SmallMove) -> None:
    move.run("migrate")
    assert workers(move) == set()


# Death ---------------------------------------------------------------------------------------------


@BOTH_STRATEGIES
def test_a_killed_worker_costs_only_its_chunks(forks: Forks, move: SmallMove, databases: Databases) -> None:
    ended = start(forks, move, CONFITURE_FAILPOINT="copy.before_commit:5").wait()
    assert ended.code == 0, ended.err
    assert "a worker process ended in the middle of a chunk" in ended.err
    done = [status for table in ("app_user", "post", "tag") for status, _ in move.chunks(table)]
    assert set(done) == {"done"}
    assert len(done) >= CHUNKS  # a chunk that was lost more than twice is divided
    assert_finishes(move, databases)


def test_a_worker_killed_after_its_commit_does_not_copy_again(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    ended = start(forks, move, CONFITURE_FAILPOINT="copy.after_commit:5").wait()
    assert ended.code == 0, ended.err
    assert_finishes(move, databases)


def test_workers_that_always_die_end_the_command(forks: Forks, move: SmallMove, databases: Databases) -> None:
    ended = start(forks, move, CONFITURE_FAILPOINT="copy.before_commit:1").wait()
    assert ended.code == DataFailure.exit_code
    assert f"{DEATHS} worker processes in a row ended" in ended.err
    assert "with fewer --jobs" in ended.err
    assert_finishes(move, databases, "--jobs", "2")


def test_a_worker_killed_while_it_ends_a_table_ends_it_again(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    for point in ("rebuild.before_commit", "copy.table_done.before_commit", "copy.table_done.after_commit"):
        ended = start(forks, move, CONFITURE_FAILPOINT=f"{point}:1").wait()
        assert ended.code in (0, DataFailure.exit_code, -signal.SIGKILL), ended.err
    assert_finishes(move, databases)


@BOTH_STRATEGIES
def test_workers_end_with_a_killed_runner(forks: Forks, move: SmallMove, databases: Databases) -> None:
    with stuck(forks, move) as running:
        until(lambda: len(workers(move)) == 2, "two workers")
        running.signal(signal.SIGKILL)
        assert running.wait().code == -signal.SIGKILL
        until(lambda: not any(map(exists, workers(move))), "the end of the workers")
        until(lambda: not writers(running.err), "the end of every process of the command")
        assert "warn" not in running.err.read_text()
    assert_finishes(move, databases, "--jobs", "2")


def writers(path: Path) -> list[Path]:
    """The open descriptors of a file, of any process but this one."""
    found = []
    for descriptor in Path("/proc").glob("[0-9]*/fd/2"):
        with suppress(OSError):
            if descriptor.readlink() == path.resolve():
                found.append(descriptor)
    return found


# A worker without its runner -----------------------------------------------------------------------


def orphan(move: SmallMove) -> tuple[worker.Outcome[object], int]:
    """The result of a worker for a chunk that it was given by a runner that is gone; with the rows of the table."""
    with move.holding() as context:
        table = stored_plan(context).tables[1]
        job = RunTable(table, context.schema)
        planned = chunks.plan_ahead(context, job, table.number, 40, 2).chunks
        facts = context.facts
    try:
        found = worker.perform(facts, copy_chunk, job, planned[0], None)
    finally:
        worker.close(facts)
    return found, int(move.target.value(f"SELECT count(*) FROM {table.target}"))


def test_a_worker_whose_runner_has_ended_writes_no_row(move: SmallMove) -> None:
    found, rows = orphan(move)
    assert isinstance(found.error, Held)
    assert "runner of this worker process has ended" in found.error.what
    assert rows == 0


def test_a_worker_of_a_runner_that_was_taken_over_writes_no_row(move: SmallMove) -> None:
    with move.holding() as context:
        job = RunTable(stored_plan(context).tables[1], context.schema)
        planned = chunks.plan_ahead(context, job, job.table.number, 40, 2).chunks
        facts = context.facts
    with move.holding():
        found = worker.perform(facts, copy_chunk, job, planned[0], None)
        worker.close(facts)
    assert isinstance(found.error, Held)
    assert "another runner has taken this run over" in found.error.what
    assert move.target.value("SELECT count(*) FROM post") == 0


def test_a_worker_waits_while_the_lease_of_its_runner_has_run_out(move: SmallMove) -> None:
    aged = f"UPDATE confiture.runner SET heartbeat_at = heartbeat_at - interval '{LEASE_SECONDS + 1} s'"
    with move.holding() as context:
        facts = context.facts
        move.target.sql(aged)
        with context.target.transaction(read_only=True) as tx, pytest.raises(Exception, match="does not renew"):
            leases.fence_worker(tx, facts.run_id, facts.epoch)


def test_a_takeover_ends_the_sessions_of_workers(forks: Forks, move: SmallMove, databases: Databases) -> None:
    with stuck(forks, move) as running:
        until(lambda: len(workers(move)) == 2, "two workers")
        pids = workers(move)
        for pid in (running.pid, *pids):
            os.kill(pid, signal.SIGSTOP)
        try:
            move.target.sql(
                f"UPDATE confiture.runner SET heartbeat_at = heartbeat_at - interval '{LEASE_SECONDS + 1} s'"
            )
            second = start(forks, move)
            second.until_said("taking over from")
            until(lambda: workers(move) and not workers(move) & pids, "the workers of the second command")
        finally:
            for pid in (running.pid, *pids):
                os.kill(pid, signal.SIGKILL)
        running.wait()
    assert second.wait().code == 0
    assert_finishes(move, databases)


# Signals and errors --------------------------------------------------------------------------------


def test_a_signal_lets_the_workers_complete_their_chunks(forks: Forks, move: SmallMove, databases: Databases) -> None:
    with stuck(forks, move) as running:
        running.signal(signal.SIGTERM)
        running.until_passed("signal.heard")
    assert running.wait().code == 128 + signal.SIGTERM
    assert [s for s, _ in move.chunks("post")].count("done") >= 1
    assert_finishes(move, databases, "--jobs", "2")


def test_a_second_signal_ends_the_workers(forks: Forks, move: SmallMove, databases: Databases) -> None:
    with stuck(forks, move) as running:
        until(lambda: len(workers(move)) == 2, "two workers")
        running.signal(signal.SIGTERM)
        running.until_passed("signal.heard")
        running.signal(signal.SIGTERM)
        assert running.wait().code == 128 + signal.SIGTERM
        until(lambda: not any(map(exists, workers(move))), "the end of the workers")
    assert_finishes(move, databases)


def test_a_row_that_a_worker_cannot_copy_is_named(move: SmallMove, databases: Databases) -> None:
    move.source.sql("UPDATE tb_post SET cents = 'free' WHERE id = 603")
    ended = move.run("migrate", "--jobs", "2", code=5)
    assert "id = 603" in ended.err
    assert "free" in ended.err
    assert ("failed",) in [(s,) for s, _ in move.chunks("post")]
    move.source.sql("UPDATE tb_post SET cents = '1' WHERE id = 603")
    assert_finishes(move, databases, "--jobs", "2")


def test_a_worker_gives_way_to_the_application(forks: Forks, move: SmallMove, databases: Databases) -> None:
    with stuck(forks, move) as running:
        with move.source.connect(autocommit=False) as application:
            application.execute("SET lock_timeout = '20s'")
            application.execute("LOCK TABLE tb_post IN ACCESS EXCLUSIVE MODE")
            application.rollback()
    ended = running.wait()
    assert ended.code == 0, ended.err
    assert "gave way to pid" in ended.err
    assert_finishes(move, databases)


@pytest.mark.parametrize(
    "error",
    [
        Held("a", why="b", fix="c"),
        Blocked("a", why="b", step="migrate", restart=("t",)),
        Drained("a", signal_number=15),
        DataFailure("a", detail="d"),
    ],
)
def test_an_error_of_a_worker_reaches_the_runner_unchanged(error: Exception) -> None:
    found = pickle.loads(pickle.dumps(worker.Outcome(error=error, cause=psycopg.errors.UniqueViolation("x"))))  # type: ignore[type-var,arg-type]
    assert type(found.error) is type(error)
    assert vars(found.error) == vars(error)
    assert str(found.error) == str(error)
    assert isinstance(found.cause, psycopg.errors.UniqueViolation)


# The number of jobs --------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["0", "-1", "1000", "many"])
def test_a_number_of_jobs_that_makes_no_sense_is_refused(move: SmallMove, jobs: str) -> None:
    ended = move.run("migrate", "--jobs", jobs, code=2)
    assert "--jobs" in ended.err
    assert move.chunks("post") == []


def test_a_runner_killed_anywhere_in_a_copy_with_workers_is_continued(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    for point in ("plan.before_commit:2", "plan.after_commit:3", "claim.before_commit:2", "claim.after_commit:4"):
        ended = start(forks, move, CONFITURE_FAILPOINT=point).wait()
        assert ended.code == -signal.SIGKILL, point
    assert_finishes(move, databases, "--jobs", "2")


def test_jobs_are_reduced_to_what_the_connections_permit(databases: Databases, tmp_path: Path) -> None:
    move = small_move.make(databases, tmp_path)
    move.run("setup", "--mapping", str(move.mapping))  # a chunk for each table
    limit = int(move.source.value("SELECT current_setting('max_connections')::int"))
    ended = move.run("migrate", "--jobs", "200")
    assert "instead of 200: the server has" in ended.err
    assert "connections to spare, and each needs 4" in ended.err
    assert 0 < len(workers(move)) <= 3 < limit / 4
    move.run("verify")


def test_beside_a_server_half_of_the_cores_copy(move: SmallMove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "cores", lambda: 4)
    monkeypatch.setattr(jobs, "BYTES_PER_PROCESS", 1)
    with move.holding() as context:
        plan = stored_plan(context)
        with context.target.transaction(read_only=True) as tx:
            left = table_plans.of_run(tx, context.run_id)
        assert jobs.pool(context, plan, left, None).slots == 2
        monkeypatch.setattr(capacity, "cores", lambda: 1)
        assert jobs.pool(context, plan, left, None).slots == 1
        assert jobs.pool(context, plan, left, 3).slots == 3
        assert jobs.pool(context, plan, [], 3).slots == 1  # nothing is left to copy
