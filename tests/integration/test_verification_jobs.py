"""Parts that ``verify --jobs`` compares at the same time: signals, pauses, takeovers, too few connections."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from confiture import catalog, commands, config
from confiture.plan.free_connections import permitted
from confiture.postgres.session import Session
from confiture.runner import threads
from forked import Forks, Running, until
from live import LiveRun
from projects import run_confiture
from servers import Databases

TABLES = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);"
ROWS = (
    "INSERT INTO a SELECT n, 'a' || n FROM generate_series(1, 50) n;"
    "INSERT INTO b SELECT n, 'b' || n FROM generate_series(1, 20) n;"
)
JOBS = 3
#: Chunks of both tables.
PARTS = 5 + 2
#: Sessions of the jobs that wait for a lock.
WAITING = (
    "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database"
    " WHERE NOT l.granted AND d.datname = current_database() AND a.application_name ~ '^confiture .* verify$'"
)
RECORDED = "SELECT count(*) FROM confiture.verified_unit WHERE check_name = 'rows'"


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, TABLES + ROWS, TABLES, chunk_rows=10)
    run.setup()
    run.migrate()
    return run


@contextmanager
def in_flight(
    forks: Forks, live: LiveRun, *, heartbeat: float | None = None, jobs: int = JOBS, tables: str = "ab"
) -> Iterator[Running]:
    """A verification whose jobs all wait for a lock in the target, which is released at the end."""
    with live.target.connect(autocommit=False) as holder:
        for table in tables:
            holder.execute(f"ALTER INDEX {table}_pkey SET TABLESPACE pg_default".encode())
        arguments = [*live.arguments("verify"), "--jobs", str(jobs)]
        running = forks.start(arguments, live.project, heartbeat=heartbeat)
        until(lambda: live.target.value(WAITING) == jobs or not running.alive, "the jobs to wait for the lock")
        assert running.alive, running.err.read_text()
        yield running


def recorded(live: LiveRun) -> int:
    return int(live.target.value(RECORDED))


def test_parts_of_several_tables_are_compared_at_the_same_time(forks: Forks, live: LiveRun) -> None:
    with in_flight(forks, live, jobs=PARTS) as running:
        for side, database in (("source", live.source), ("target", live.target)):
            (pids,) = (
                {pid for pid, *_ in row[0]}
                for row in live.target.rows(f"SELECT {side}_backends FROM confiture.runner WHERE ended_at IS NULL")
            )
            working = {
                row[0]
                for row in database.rows(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name ~ '^confiture .* verify$'"
                )
            }
            assert len(working) == PARTS
            # A takeover ends them.
            assert working <= pids
    assert running.wait().code == 0
    assert (recorded(live), live.state) == (PARTS, "verified")


def test_a_signal_lets_the_parts_in_flight_end(forks: Forks, live: LiveRun) -> None:
    with in_flight(forks, live) as running:
        running.signal(signal.SIGTERM)
        running.until_passed("signal.heard")
        assert recorded(live) == 0
    ended = running.wait()
    assert ended.code == 143
    assert "completed work is kept" in ended.err
    assert recorded(live) == JOBS
    assert forks.run([*live.arguments("verify"), "--jobs", "2"], live.project).code == 0
    assert recorded(live) == PARTS


def test_a_second_signal_cancels_the_statements_of_every_job(forks: Forks, live: LiveRun) -> None:
    with in_flight(forks, live) as running:
        running.interrupt_twice()
        began = time.monotonic()
        assert running.wait().code == 130
        # Without a cancellation the statements would end after the 30 s that they wait for a lock.
        assert time.monotonic() - began < 20
        until(lambda: live.target.value(WAITING) == 0, "the sessions to end")
        assert recorded(live) == 0
    assert live.verify(jobs=JOBS).equal


def test_a_lost_lease_ends_the_statements_of_every_job(forks: Forks, live: LiveRun) -> None:
    with in_flight(forks, live, heartbeat=0.1) as running:
        live.target.sql("UPDATE confiture.runner SET ended_at = now(), ended_why = 'taken over'")
        assert running.wait().code == 6
        until(lambda: live.target.value(WAITING) == 0, "the sessions to end")
    assert recorded(live) == 0


def test_a_pause_records_the_parts_in_flight_and_begins_no_other(forks: Forks, live: LiveRun) -> None:
    with in_flight(forks, live) as running:
        commands.requests.request(live.where, "pause")
        running.until_said("paused on request")
    until(lambda: recorded(live) == JOBS, "the parts in flight to be recorded")
    assert running.alive
    commands.requests.request(live.where, "resume")
    assert running.wait().code == 0
    assert recorded(live) == PARTS


def test_a_killed_verification_continues_with_the_parts_that_are_left(forks: Forks, live: LiveRun) -> None:
    arguments = [*live.arguments("verify"), "--jobs", str(JOBS)]
    killed = forks.run(arguments, live.project, CONFITURE_FAILPOINT="verify.after_commit:3")
    assert killed.code == -signal.SIGKILL, killed.err
    assert recorded(live) == 3
    assert forks.run(arguments, live.project).code == 0
    assert live.target.value("SELECT max(number) FROM confiture.verification") == 1
    assert recorded(live) == PARTS


def test_an_error_of_one_part_ends_the_others(forks: Forks, live: LiveRun) -> None:
    with in_flight(forks, live) as running:
        live.target.sql(f"SELECT pg_terminate_backend(pid) FROM ({WAITING.replace('count(*)', 'pid')} LIMIT 1) one")
        ended = running.wait()
        assert (ended.code, live.target.value(WAITING)) == (3, 0), ended.err
    assert live.verify(jobs=JOBS).equal


@pytest.mark.parametrize("jobs", [1, 7])
def test_differences_have_the_same_order_whatever_ends_first(live: LiveRun, jobs: int) -> None:
    live.tamper(
        "UPDATE a SET v = 'x' WHERE id IN (5, 12, 33, 50); DELETE FROM b WHERE id IN (3, 20); "
        "INSERT INTO a VALUES (-7, 'new'), (40000, 'new')"
    )
    found = [(d.subject, d.key["id"]) for d in live.verify(jobs=jobs).differences if d.key]
    assert found == [
        *(("public.a", n) for n in ("-7", "5", "12", "33", "50", "40000")),
        *(("public.b", n) for n in ("3", "20")),
    ]


def test_too_few_connections_reduce_the_jobs(live: LiveRun, databases: Databases) -> None:
    with Session(config.resolve(live.source.conninfo, live.project), "test") as session, session.transaction() as tx:
        found = replace(catalog.identity(tx), superuser=False, server_connections=(100, 20))
    limited = replace(found, role="other", database_connections=(12, 4))
    apart = replace(found, system_identifier="another server")
    assert permitted(found, apart, 100, (1, 1)) == (
        75,
        "75 jobs at a time instead of 100: the server of the source has 75 connections to spare, and each needs 1",
    )
    # One server has the connections of both sides.
    assert permitted(found, found, 100, (1, 1))[0] == 35
    assert permitted(found, limited, 4, (1, 1)) == (
        3,
        f"3 jobs at a time instead of 4: the target {found.database} has 3 connections to spare, and each needs 1",
    )
    assert permitted(found, limited, 3, (1, 1)) == (3, "")


def test_jobs_end_with_the_connections_that_are_left(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other sessions take the last connections after they were counted."""
    refused = config.resolve(live.source.conninfo + "&options=-c%20no_such_setting=1", live.project)
    opened = []

    def opening(database: config.Database, role: str, run: str) -> Session:
        opened.append(Session(refused if len(opened) >= 5 else database, role, run))
        return opened[-1]

    monkeypatch.setattr(threads, "Session", opening)
    assert live.verify(jobs=5).equal
    assert [line for line in live.progress.lines if line.startswith("continuing with 2 jobs: cannot connect to ")]
    assert len(opened) == 6


@pytest.mark.parametrize(("jobs", "why"), [("0", "at least 1"), ("1000", "at most 256"), ("x", "a whole number")])
def test_number_of_jobs_must_be_sensible(live: LiveRun, jobs: str, why: str) -> None:
    done = run_confiture(*live.arguments("verify"), "--jobs", jobs, cwd=live.project, check=2)
    assert why in done.stderr
