"""A session queues for a strong lock behind one session of Confiture, and another session of Confiture behind it.

No server detects that as a deadlock, because one session of Confiture waits for the other outside of the lock manager.
Confiture therefore releases its lock, so that the other session proceeds, and retries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from confiture.copy.fdw import Fdw
from confiture.copy.run_table import RunTable
from confiture.errors import Held
from confiture.schema_to_schema import blockers, cutover
from confiture.schema_to_schema.outcomes import Limits
from forked import until
from live import LiveRun
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE a (id int PRIMARY KEY, n int);
CREATE TABLE b (id int PRIMARY KEY, n int);
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100);
INSERT INTO a SELECT n, n FROM generate_series(1, 20) n;
INSERT INTO b SELECT n, n FROM generate_series(1, 20) n;
"""
NEW = """
CREATE TABLE a (id bigint PRIMARY KEY, n bigint);
CREATE TABLE b (id bigint PRIMARY KEY, n bigint);
CREATE TABLE parted (id bigint PRIMARY KEY);
"""
SAME = {"a": "SELECT * FROM a", "b": "SELECT * FROM b"}
#: Longer than any wait of Confiture, shorter than the time limit of the test.
STUCK = "40s"


class Queued(threading.Thread):
    """Requests an exclusive lock on a table, once."""

    def __init__(self, database: TestDatabase, statement: str) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._statement = statement
        self.error: psycopg.Error | None = None

    def run(self) -> None:
        with self._database.connect(application_name="queued") as connection:
            connection.execute(f"SET lock_timeout = '{STUCK}'".encode())
            try:
                connection.execute(self._statement.encode())
            except psycopg.Error as error:
                self.error = error

    def go_and_wait(self) -> None:
        """Start, and return when the session waits for its lock."""
        self.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'queued' AND wait_event_type = 'Lock'"
        until(lambda: self._database.rows(waits), "a session to queue for a lock")


class Contrary(threading.Thread):
    """Locks two tables repeatedly in an unusual order. Its long deadlock_timeout makes the other session the victim."""

    def __init__(self, database: TestDatabase) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._ending = threading.Event()
        self.turns = 0

    def run(self) -> None:
        with self._database.connect(autocommit=False) as connection:
            connection.execute("SET deadlock_timeout = '1min'")
            connection.commit()
            # Both tables are free for most of the time. Otherwise no attempt at their locks might succeed in 30 s.
            while not self._ending.wait(0.08):
                connection.execute("LOCK TABLE b IN SHARE ROW EXCLUSIVE MODE")
                self._ending.wait(0.03)
                connection.execute("LOCK TABLE a IN SHARE ROW EXCLUSIVE MODE")
                connection.commit()
                self.turns += 1

    def stop(self) -> None:
        self._ending.set()
        self.join()


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, OLD, NEW, strategy="fdw", chunk_rows=7)
    run.setup()
    return run


def first_time(act: Callable[[], object], then: Callable[..., Any]) -> Callable[..., Any]:
    """``then``, preceded by ``act`` the first time it is called."""
    todo = [act]

    def both(*args: Any) -> Any:
        while todo:
            todo.pop()()
        return then(*args)

    return both


def test_a_chunk_by_fdw_gives_way_to_a_queued_lock(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    queued = Queued(live.source, "TRUNCATE b")
    move = Fdw.move

    def queue_up(mover: Fdw, source: Any, target: Any, job: RunTable, span: Any, most: int | None) -> int:
        if job.table.target.name == "b" and queued.ident is None:
            queued.go_and_wait()
        return move(mover, source, target, job, span, most)

    monkeypatch.setattr(Fdw, "move", queue_up)
    live.migrate()
    queued.join()
    assert queued.error is None
    assert live.verify().equal
    live.assert_same(**SAME)


def test_a_cutover_gives_way_to_a_queued_lock_and_retries(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    live.migrate()
    assert live.verify().equal
    queued = Queued(live.source, "TRUNCATE b")
    monkeypatch.setattr(cutover, "_synchronise", first_time(queued.go_and_wait, cutover._synchronise))
    live.cutover(Limits(max_write_pause=20))
    queued.join()
    assert queued.error is None
    assert live.source.rows("TABLE b") == []
    live.assert_same(**SAME)


def test_reading_the_catalog_is_retried_after_a_deadlock(live: LiveRun) -> None:
    planned = []
    with live.source.connect(autocommit=False) as one:
        one.execute("LOCK TABLE ONLY parted")
        planning = threading.Thread(target=lambda: planned.append(live.plan()))
        planning.start()
        ours = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'confiture%' AND wait_event_type = 'Lock'"
        until(lambda: live.source.rows(ours), "the plan to wait for the root")
        # The plan began to wait first, so its deadlock_timeout expires first and it is the victim.
        one.execute("LOCK TABLE part")
        one.rollback()
    planning.join(timeout=60)
    assert planned


def test_session_that_blocks_the_locks_of_a_command_is_named(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setup and cleanup are not urgent: they block other sessions only briefly, and are aborted in the end."""
    run = LiveRun(databases, tmp_path, OLD, NEW)
    for act, statement in ((run.setup, "UPDATE b SET n = n"), (run.cleanup, "SELECT FROM b")):
        with (
            run.source.connect(autocommit=False, application_name="report") as other,
            run.source.connect(autocommit=False, application_name="reader") as reader,
        ):
            other.execute(statement.encode())
            reader.execute("SELECT FROM b")
            with monkeypatch.context() as hasty:
                hasty.setattr(blockers, "BRIEF_LOCK_SECONDS", 1)
                with pytest.raises(Held, match=r"public\.b of the source could not be locked") as aborted:
                    act()
            # A reader does not block the creation of triggers, only their removal.
            assert ("reader" in str(aborted.value.why)) == (act == run.cleanup)
            assert f"pid {other.info.backend_pid} (postgres, report" in str(aborted.value.why)
            assert any(f"held by pid {other.info.backend_pid}" in line for line in run.progress.lines)
        act()
        if act == run.setup:
            run.migrate()
            run.verify()
            run.cutover()
    run.assert_same(**SAME)


def test_session_that_locks_in_contrary_order_only_delays_the_run(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW, strategy="fdw", chunk_rows=7)
    contrary = [Contrary(run.source)]
    contrary[0].start()
    run.setup()
    contrary.append(Contrary(run.target))
    contrary[1].start()
    patient = Limits(max_write_pause=20)
    for act in (run.migrate, run.verify, partial(run.cutover, patient), partial(run.rollback, patient), run.verify):
        act()
        run.assert_same(**SAME)
    while any(one.turns <= 20 and one.is_alive() for one in contrary):  # on a fast machine
        run.verify()
    run.cutover(patient)
    run.cleanup()
    for one in contrary:
        one.stop()
        assert one.turns > 20
    run.assert_same(**SAME)
