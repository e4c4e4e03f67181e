"""The opening is prepared before the closing commits: no step after the point of no return can wait or fail."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from confiture.config import Database
from confiture.errors import CutoverAborted
from confiture.postgres.budget import Budget
from confiture.postgres.session import Session, limited
from confiture.schema_to_schema import cutover
from confiture.schema_to_schema.outcomes import Limits
from forked import forks, until
from live import LiveRun
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE p (id serial PRIMARY KEY, n int);
CREATE TABLE ch (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE, n int);
INSERT INTO p SELECT n, n FROM generate_series(1, 50) n;
INSERT INTO ch SELECT n, n, n FROM generate_series(1, 50) n;
CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER seen BEFORE UPDATE ON ch FOR EACH ROW EXECUTE FUNCTION seen();
"""
NEW = OLD.replace("INSERT", "--")
RULE = "CREATE RULE r AS ON DELETE TO p WHERE OLD.id < 0 DO ALSO NOTHING;"
SAME = {"p": "SELECT * FROM p", "ch": "SELECT * FROM ch"}
WRITE = "UPDATE ch SET n = n + 1 WHERE id = 1"
SOON = Limits(lock_timeout=0.2, give_up_after=1.0)


@pytest.fixture
def verified(databases: Databases, tmp_path: Path) -> LiveRun:
    return LiveRun(databases, tmp_path, OLD, NEW).up_to_cutover()


@contextmanager
def holding(database: TestDatabase, *statements: str) -> Iterator[psycopg.Connection[object]]:
    """A session of the application, with a transaction that is open for the duration of the block."""
    with database.connect(autocommit=False, application_name="report") as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
        connection.rollback()


READERS = {
    "a reader": "SELECT * FROM ch",
    "a reader of both": "SELECT * FROM ch JOIN p ON p.id = ch.p",
    "an explicit lock": "LOCK TABLE ch IN ACCESS SHARE MODE",
}


@pytest.mark.parametrize("reading", READERS.values(), ids=READERS)
def test_a_reader_of_the_target_does_not_delay_the_opening(verified: LiveRun, reading: str) -> None:
    with holding(verified.target, reading):
        hidden = threading.Thread(
            target=until, args=(lambda: verified.open_sides(WRITE) == {"target"}, "the target open")
        )
        command = threading.Thread(target=verified.cutover)
        command.start()
        hidden.start()
        hidden.join(timeout=60)
        assert not hidden.is_alive()
        assert verified.open_sides(WRITE) == {"target"}
    command.join(timeout=60)
    verified.assert_same(**SAME)


def test_a_reader_of_the_source_does_not_delay_a_rollback(verified: LiveRun) -> None:
    verified.cutover()
    verified.target.sql(WRITE)
    with holding(verified.source, "SELECT * FROM ch"):
        rollback = threading.Thread(target=verified.rollback)
        rollback.start()
        until(lambda: verified.open_sides(WRITE) == {"source"}, "the source open")
    rollback.join(timeout=60)
    verified.assert_same(**SAME)


def test_session_that_blocks_the_opening_aborts_the_cutover_and_is_named(databases: Databases, tmp_path: Path) -> None:
    """Enabling a rule takes the strongest lock, so a reader blocks it. The source is not closed yet."""
    run = LiveRun(databases, tmp_path, OLD, NEW + RULE)
    run.up_to_cutover()
    with holding(run.target, "SELECT * FROM p") as reader:
        with pytest.raises(CutoverAborted, match="the target's tables could not be locked") as aborted:
            run.cutover(SOON)
        assert f"pid {reader.info.backend_pid}" in aborted.value.why
        assert run.open_sides(WRITE) == {"source"}
    run.cutover()
    assert run.open_sides(WRITE) == {"target"}


def test_session_that_blocks_the_first_lock_is_named_and_waited_for(
    verified: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session takes its lock between the rehearsal and the attempt."""
    begin = cutover._begin_opening
    maintenance = verified.target.connect(autocommit=False, application_name="maintenance")

    def late(*args: object) -> object:
        if maintenance.info.transaction_status == psycopg.pq.TransactionStatus.IDLE and not ended:
            maintenance.execute("LOCK TABLE ch IN SHARE UPDATE EXCLUSIVE MODE")
        return begin(*args)  # type: ignore[arg-type]

    ended: list[int] = []

    def end() -> None:
        until(lambda: any("maintenance" in line for line in verified.progress.lines), "the session to be named")
        ended.append(1)
        maintenance.rollback()

    monkeypatch.setattr(cutover, "_begin_opening", late)
    ending = threading.Thread(target=end)
    ending.start()
    verified.cutover()
    ending.join()
    maintenance.close()
    assert verified.open_sides(WRITE) == {"target"}


def test_session_that_blocks_opening_the_source_aborts_the_rollback(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, OLD + RULE, NEW)
    run.through()
    with holding(run.source, "SELECT * FROM p"):
        with pytest.raises(CutoverAborted, match="rollback aborted: the source's tables could not be locked"):
            run.rollback(SOON)
        assert run.open_sides(WRITE) == {"target"}
    run.rollback()
    assert run.open_sides(WRITE) == {"source"}


@pytest.mark.parametrize("command", ["cutover", "rollback"])
def test_switch_killed_between_the_two_commits_finishes_despite_a_reader(
    databases: Databases, tmp_path: Path, command: str
) -> None:
    """No database accepts writes until the other one opens. The reader is named, and ended after a grace period."""
    run = LiveRun(databases, tmp_path, OLD + RULE, NEW + RULE)
    if command == "cutover":
        run.up_to_cutover()
    else:
        run.through()
    point = {"CONFITURE_FAILPOINT": "switch.after_point_of_no_return"}
    killed = forks().run(run.arguments(command), run.project, **point)
    assert killed.code == -signal.SIGKILL, killed.err
    assert run.open_sides(WRITE) == set()
    opened, other = ("target", run.target) if command == "cutover" else ("source", run.source)
    report = other.connect(autocommit=False, application_name="report")
    report.execute("SELECT * FROM p")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutover, "GRACE_SECONDS", 1.0)
        getattr(run, command)()
    assert run.open_sides(WRITE) == {opened}
    with pytest.raises(psycopg.OperationalError):
        report.execute("SELECT 1")
    assert any("waiting for a lock" in line and "report" in line for line in run.progress.lines)
    run.assert_same(**SAME)


def test_a_burst_during_the_lock_attempts_is_applied_before_the_lock(
    verified: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is drained before each attempt, so that little of it remains under the lock."""
    monkeypatch.setattr(cutover, "MOST_UNDER_LOCK", 1_000)
    waiting: list[int] = []
    synchronise = cutover._synchronise

    def counted(*args: object) -> None:
        logs = verified.source.rows("SELECT oid::regclass FROM pg_class WHERE relname ~ '^log0' AND relkind = 'r'")
        waiting.append(sum(verified.source.value(f"SELECT count(*) FROM {name}") for (name,) in logs))
        synchronise(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(cutover, "_synchronise", counted)
    limits = Limits(lock_timeout=0.2)
    # An earlier attempt has already created the triggers of the write block.
    with holding(verified.target, SLOW), pytest.raises(CutoverAborted):
        verified.cutover(Limits(lock_timeout=0.2, give_up_after=1, max_write_pause=1))
    waiting.clear()
    with holding(verified.source, WRITE) as blocker:
        command = threading.Thread(target=verified.cutover, args=(limits,))
        command.start()
        until(lambda: any("waiting for locks" in line for line in verified.progress.lines), "an attempt that failed")
        verified.source.sql("INSERT INTO p SELECT n, n FROM generate_series(1000, 21000) n")
        blocker.rollback()
    command.join(timeout=120)
    assert verified.open_sides(WRITE) == {"target"}
    assert min(waiting) <= 1_000
    verified.assert_same(**SAME)


def test_too_many_changes_under_the_lock_are_applied_after_its_release(
    verified: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of the log is checked first under the lock."""
    monkeypatch.setattr(cutover, "MOST_UNDER_LOCK", 100)
    drained: list[int] = []
    drain = cutover.drain

    def late(follower: object) -> None:
        drain(follower)  # type: ignore[arg-type]
        if not drained:
            verified.source.sql("UPDATE p SET n = n + 1; UPDATE ch SET n = n + 1; UPDATE p SET n = n + 1")
        drained.append(1)

    monkeypatch.setattr(cutover, "drain", late)
    verified.cutover()
    assert len(drained) > 1
    verified.assert_same(**SAME)


#: Holds the lock that setval needs. The cutover calls setval while it holds only the lock on the source's tables.
SLOW = "ALTER SEQUENCE p_id_seq CACHE 5"


def test_statement_under_the_lock_is_cancelled_when_the_write_pause_ends(verified: LiveRun) -> None:
    with holding(verified.target, SLOW):
        with pytest.raises(CutoverAborted, match="the write pause would exceed"):
            verified.cutover(Limits(lock_timeout=30, give_up_after=1, max_write_pause=1))
        assert verified.open_sides(WRITE) == {"source"}
    verified.cutover()
    verified.assert_same(**SAME)


@pytest.mark.parametrize("command", ["cutover", "rollback"])
def test_every_transaction_under_the_lock_has_the_limit_of_the_pause(
    verified: LiveRun, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The heartbeat and the watcher, which are threads of their own, take no lock that the pause could wait for."""
    if command == "rollback":
        verified.cutover()
        verified.target.sql(WRITE)
    under_lock: list[Budget] = []
    begun: list[tuple[str, Budget | None]] = []
    enter, leave, transaction = Budget.__enter__, Budget.__exit__, Session.transaction

    def entering(budget: Budget) -> Budget:
        under_lock.append(budget)
        return enter(budget)

    def leaving(budget: Budget, *exc: object) -> None:
        under_lock.remove(budget)
        leave(budget, *exc)

    def counted(session: Session, **options: object) -> object:
        if under_lock and threading.current_thread() is threading.main_thread():
            begun.append((session.role, session.budget))
        return transaction(session, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Budget, "__enter__", entering)
    monkeypatch.setattr(Budget, "__exit__", leaving)
    monkeypatch.setattr(Session, "transaction", counted)
    getattr(verified, command)()
    assert {role for role, _ in begun} == {"runner", "catch-up"}
    assert [role for role, budget in begun if budget is None] == []


def test_a_session_used_by_another_thread_has_the_limit_of_the_pause(databases: Databases) -> None:
    database = databases.make()
    found: list[str] = []

    def use(session: Session) -> None:
        with session.transaction(read_only=True) as tx:
            rows = tx.pg.execute("SELECT setting FROM pg_settings WHERE name ~ '^(lock|statement)_timeout$'").fetchall()
            found.extend(setting for (setting,) in rows)

    with Session(Database(database.name, database.conninfo), "test") as session:
        for limits in ([session], []):
            with Budget(1.0, time.monotonic() + 5.0) as budget, limited(budget, limits):
                thread = threading.Thread(target=use, args=(session,))
                thread.start()
                thread.join(timeout=60)
    (lock, statement), unlimited = (found[:2], found[2:])
    assert lock == "1000"
    assert 0 < int(statement) <= 5000
    assert unlimited == ["30000", "0"]


def test_a_process_that_freezes_under_the_lock_does_not_block_writers(verified: LiveRun) -> None:
    """The server ends the session that holds the lock; the source is still serving."""
    arguments = [*verified.arguments("cutover"), "--max-write-pause", "3", "--lock-timeout", "3"]
    with holding(verified.target, SLOW):
        running = forks().start(arguments, verified.project)
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'setval'"
        until(lambda: verified.target.rows(waits), "setval to wait under the lock")
        running.signal(signal.SIGSTOP)
        verified.source.sql(f"SET lock_timeout = '60s'; {WRITE}")
        running.signal(signal.SIGKILL)
        running.wait()
    verified.cutover()
    verified.assert_same(**SAME)


def test_the_lock_on_all_tables_has_one_deadline(databases: Databases, tmp_path: Path) -> None:
    """Each table is blocked for less than --lock-timeout, and all tables together for longer."""
    names = [f"t{n}" for n in range(6)]
    tables = "".join(f"CREATE TABLE {name} (id int PRIMARY KEY);" for name in names)
    run = LiveRun(databases, tmp_path, tables, tables)
    run.up_to_cutover()
    holders = {name: run.source.connect(autocommit=False) for name in names}
    for name, holder in holders.items():
        holder.execute(f"INSERT INTO {name} VALUES (1)".encode())
    ended: list[int] = []

    def release() -> None:
        for name, holder in holders.items():
            waits = f"SELECT 1 FROM pg_locks WHERE relation = '{name}'::regclass AND NOT granted"
            until(lambda waits=waits: run.source.rows(waits) or ended, f"a session to wait for the lock on {name}")
            time.sleep(0.4)
            holder.rollback()

    releasing = threading.Thread(target=release)
    with pytest.MonkeyPatch.context() as patch:
        # Creating the triggers of the write block needs these locks too, and has no common deadline.
        patch.setattr(cutover, "prepare_block", lambda *_: None)
        run.source.sql(
            f"CREATE FUNCTION {run.source.run_schema}.write_block() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'"
        )
        releasing.start()
        with pytest.raises(CutoverAborted, match="could not be locked"):
            run.cutover(Limits(lock_timeout=1.0, give_up_after=0.0))
    ended.append(1)
    releasing.join(timeout=60)
    for holder in holders.values():
        holder.close()
    assert run.open_sides("INSERT INTO t0 VALUES (2)") == {"source"}


def test_cancellation_when_the_write_pause_ends_affects_no_later_statement(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancel request is on its way when the statement's own timeout ends it. The next statement has no limit."""
    cancel = psycopg.Connection.cancel_safe

    def late(connection: psycopg.Connection[object], **options: float) -> None:
        time.sleep(0.5)
        cancel(connection, **options)

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", late)
    with databases.make().connect(autocommit=False) as connection:
        with Budget(1.0, time.monotonic() + 0.3) as budget:
            budget.limit(connection)
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("SELECT pg_sleep(10)")
            connection.rollback()
        connection.execute("SELECT pg_sleep(1)")
