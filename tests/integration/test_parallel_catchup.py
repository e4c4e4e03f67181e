"""A large pass over independent tables: several sessions apply it, and it is complete or repeated as a whole."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from confiture import commands, config
from confiture.capture import apply, helpers, independent_groups
from confiture.capture.apply import Follower
from confiture.errors import DataFailure
from confiture.postgres.session import Session
from confiture.runner import threads
from confiture.schema_to_schema import follow
from confiture.schema_to_schema import migrate as migrating
from confiture.types import TableRef
from forked import Forks, until
from live import LiveRun
from servers import Databases, TestDatabase
from stateful import EXPIRE_LEASE

ROWS = 2_500
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
    f"CREATE TABLE {name} (id bigint PRIMARY KEY, u bigint UNIQUE, v text CHECK (v <> 'bad'), own int DEFAULT 7);"
    for name in ALONE
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
DELETE FROM c WHERE id % 2 = 0; UPDATE c SET v = 'new';
INSERT INTO c SELECT -n, -n, 'more' FROM generate_series(1, {ROWS}) n;
TRUNCATE d; INSERT INTO d SELECT n, -n, 'again' FROM generate_series({ROWS} / 2, {ROWS} * 2) n;
INSERT INTO parent SELECT -n, 'new' FROM generate_series(1, {ROWS}) n;
UPDATE child SET parent = -parent; DELETE FROM parent WHERE id > 0;
UPDATE whole SET name = name || '!', mail = upper(mail);
"""


#: Sessions of catch-up that are in a transaction or work.
BUSY = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
    " AND application_name ~ '^confiture .* catch-up$'"
)
#: Those of them that wait for a lock.
WAITING = BUSY.replace("state <> 'idle'", "wait_event_type = 'Lock'")
WITHOUT_HELPERS = "continuing with one job"


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, OLD, NEW, MAPPING)
    run.setup()
    run.migrate()
    return run


@contextmanager
def following(live: LiveRun, jobs: int = 4) -> Iterator[Follower]:
    """A follower within a command that holds the run."""
    with commands.holding.hold_run(live.where, "follow", live.progress) as (context, _):
        with follow.with_helpers(context, migrating.stored_plan(context), jobs) as follower:
            yield follower


def catch_up(live: LiveRun, jobs: int = 4) -> int:
    """Apply everything that is logged. Returns the number of passes."""
    before = passes(live)
    with commands.holding.hold_run(live.where, "follow", live.progress) as (context, _):
        follow.drain(context, migrating.stored_plan(context), record_changed=True, jobs=jobs)
    return passes(live) - before


def passes(live: LiveRun) -> int:
    return int(live.target.value("SELECT coalesce(max(pass), 0) FROM confiture.catchup"))


def writers(live: LiveRun) -> int:
    """How many transactions have written the rows that the independent tables have."""
    parts = " UNION ".join(f"SELECT xmin::text FROM {name}" for name in (*ALONE, "parent", "named"))
    return len(live.target.rows(parts))


def contents(live: LiveRun) -> dict[str, list[Any]]:
    """Every row of the target's tables, with the transaction that wrote it."""
    return {name: live.target.rows(f"SELECT xmin, t::text FROM {name} t ORDER BY 2") for name in SAME}


def is_helper() -> bool:
    return threading.current_thread() is not threading.main_thread()


def test_several_sessions_apply_the_tables_of_one_pass(live: LiveRun) -> None:
    live.source.sql(CHANGES)
    assert catch_up(live) == 1
    live.assert_same(**SAME)
    assert writers(live) > 1
    assert not [line for line in live.progress.lines if WITHOUT_HELPERS in line]


def test_tables_that_foreign_keys_connect_are_applied_in_one_transaction(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.source.sql("; ".join(line for line in CHANGES.splitlines() if "parent" in line))
    live.source.sql(
        "UPDATE parent SET v = v || '!'; UPDATE parent SET v = v || '?'" + "; UPDATE child SET id = -id" * 3
    )
    applies_in_helper(monkeypatch, "child")
    with following(live) as follower:
        follower.catch_up()
    live.assert_same(**SAME)
    assert len(live.target.rows("SELECT xmin::text FROM parent UNION SELECT xmin::text FROM child")) == 1
    assert not [line for line in live.progress.lines if WITHOUT_HELPERS in line]


def test_keys_that_helpers_apply_are_recorded_as_changed(live: LiveRun) -> None:
    assert live.verify().equal
    for v in "xy":
        live.source.sql("; ".join(f"UPDATE {name} SET v = '{v}'" for name in ALONE))
    catch_up(live)
    assert writers(live) > 1
    recorded = live.target.rows("SELECT table_number, count(*) FROM confiture.changed_key GROUP BY 1")
    assert [count for _, count in recorded] == [ROWS] * 4


def test_small_pass_sends_as_many_statements_whatever_the_jobs(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def counting(cursor: Any, query: Any, *args: Any, **options: Any) -> Any:
        if "catch-up" in cursor.connection.info.parameter_status("application_name"):
            sent.append(str(query))
        return execute(cursor, query, *args, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", counting)
    counts = []
    for jobs in (1, 4):
        live.source.sql("; ".join(f"UPDATE {name} SET v = '{jobs}' WHERE id < 20" for name in ALONE))
        sent.clear()
        assert catch_up(live, jobs) == 1
        counts.append(len(sent))
    assert counts[0] == counts[1] > 0


# Failures ----------------------------------------------------------------------------------------------


def test_row_that_a_helper_cannot_apply_leaves_nothing_applied(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    live.source.sql(CHANGES + "UPDATE c SET v = 'bad' WHERE id = 1")
    before = contents(live), passes(live)
    copy_rows = apply._copy_rows

    def after_the_others(*args: Any) -> int:
        if is_helper() and str(args[3].table.target) == "public.c":
            deadline = time.monotonic() + 3
            while contents(live) == before[0] and time.monotonic() < deadline:
                time.sleep(0.1)
        return copy_rows(*args)

    monkeypatch.setattr(apply, "_copy_rows", after_the_others)
    applies_in_helper(monkeypatch, "c")
    with pytest.raises(DataFailure) as failed:
        catch_up(live)
    assert isinstance(failed.value.__cause__, psycopg.errors.CheckViolation)
    assert [line for line in live.progress.lines if WITHOUT_HELPERS in line]
    assert (contents(live), passes(live)) == before
    live.source.sql("UPDATE c SET v = 'good' WHERE id = 1")
    assert catch_up(live) == 1
    live.assert_same(**SAME)


def applies_in_helper(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """The session of the follower itself claims its first group when a helper has claimed that of ``table``."""
    claimed = threading.Event()
    claim = helpers.Sharing.claim

    def claiming(self: Any, *args: Any) -> Any:
        if not is_helper():
            claimed.wait(20)
        else:
            # In its own order: the groups with most rows first.
            with self._claiming:
                self._left.sort(key=lambda group: str(group[0].item.table) != f"public.{table}")
        found = claim(self, *args)
        if is_helper():
            claimed.set()
        return found

    monkeypatch.setattr(helpers.Sharing, "claim", claiming)


CHECKED = """
CREATE TABLE a (id int PRIMARY KEY, v text);
CREATE FUNCTION paired(v text) RETURNS boolean LANGUAGE plpgsql STABLE AS
    $$ BEGIN RETURN v <> 'pair' OR EXISTS (SELECT FROM public.a WHERE a.v = 'pair'); END $$;
CREATE TABLE b (id int PRIMARY KEY, v text CHECK (paired(v)));
"""


def test_check_that_reads_another_table_is_applied_without_helpers(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);"
    rows = "INSERT INTO a SELECT n, 'v' FROM generate_series(1, 6000) n; INSERT INTO b SELECT id, v FROM a;"
    live = LiveRun(databases, tmp_path, tables + rows, CHECKED)
    live.setup()
    live.migrate()
    for v in ("other", "pair"):
        live.source.sql(f"UPDATE a SET v = '{v}'; UPDATE b SET v = '{v}'")
    applies_in_helper(monkeypatch, "b")
    assert catch_up(live) == 1
    assert [line for line in live.progress.lines if WITHOUT_HELPERS in line and "violates check" in line]
    live.assert_same(a="SELECT * FROM a", b="SELECT * FROM b")


def test_pass_of_which_a_helper_lost_its_connection_is_repeated(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    live.source.sql(CHANGES)
    copy_rows = apply._copy_rows
    ended: list[int] = []

    def losing(*args: Any) -> int:
        rows = copy_rows(*args)
        if is_helper() and not ended:
            ended.append(args[1].pg.info.backend_pid)
            live.target.sql(f"SELECT pg_terminate_backend({ended[0]})")
        return rows

    monkeypatch.setattr(apply, "_copy_rows", losing)
    assert catch_up(live) == 1
    assert ended
    assert not [line for line in live.progress.lines if WITHOUT_HELPERS in line]
    live.assert_same(**SAME)


def test_pass_that_fails_ends_after_its_helpers(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that commits later would write old rows over those of the next pass."""
    live.source.sql(CHANGES)
    helping = threading.Event()
    copy_rows = apply._copy_rows

    def failing(*args: Any) -> int:
        if is_helper():
            helping.set()
            with args[1].pg.transaction():
                args[1].pg.execute("SELECT pg_sleep(5)")
            return copy_rows(*args)
        helping.wait(20)
        raise LookupError("the follower's own session fails")

    monkeypatch.setattr(apply, "_copy_rows", failing)
    applies_in_helper(monkeypatch, "b")
    before = contents(live), passes(live)
    with following(live) as follower:
        with pytest.raises(LookupError):
            follower.catch_up()
        assert live.target.value(BUSY) == 0
        monkeypatch.undo()
        follower.catch_up()
    assert passes(live) == before[1] + 1
    live.assert_same(**SAME)


def test_helpers_read_the_snapshot_of_the_pass(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    live.source.sql(CHANGES)
    helped = Follower._help
    late = "; ".join(f"UPDATE {name} SET v = 'late' WHERE u % 10 = 0" for name in ALONE)
    writing = threading.Lock()
    written: list[str] = []

    def after_a_write(self: Any, *args: Any) -> None:
        with writing:
            if not written:
                live.source.sql(late)
                written.append(late)
        helped(self, *args)

    monkeypatch.setattr(Follower, "_help", after_a_write)
    applies_in_helper(monkeypatch, "a")
    with following(live) as follower:
        follower.catch_up()
        for name in ALONE:
            assert live.target.value(f"SELECT count(*) FROM {name} WHERE v = 'late'") == 0
        assert writers(live) > 1
        follower.catch_up()
    live.assert_same(**SAME)


def test_too_few_connections_leave_fewer_helpers(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    live.source.sql(CHANGES)
    refused = config.resolve(live.target.conninfo + "&options=-c%20no_such_setting=1", live.project)
    opened: list[Session] = []

    def opening(database: config.Database, role: str, run: str) -> Session:
        opened.append(Session(refused if len(opened) >= 3 else database, role, run))
        return opened[-1]

    monkeypatch.setattr(threads, "Session", opening)
    assert catch_up(live) == 1
    assert [line for line in live.progress.lines if "continuing with 2 jobs: cannot connect" in line]
    assert writers(live) == 2
    live.assert_same(**SAME)


# The application waits ---------------------------------------------------------------------------------


def ask(database: TestDatabase, table: str) -> float:
    """Lock a table exclusively as the application, like ALTER TABLE. Returns the seconds that it has waited."""
    with database.connect(application_name="deploy", options="-c statement_timeout=20s") as application:
        began = time.monotonic()
        with application.transaction():
            application.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        return time.monotonic() - began


@pytest.mark.parametrize("table", ["a", "child"])
def test_a_pass_with_helpers_gives_way(live: LiveRun, table: str) -> None:
    live.source.sql(CHANGES)
    work = threading.Thread(target=catch_up, args=(live,), daemon=True)
    with live.target.connect(autocommit=False) as holder:
        holder.execute(b"LOCK TABLE c IN SHARE MODE")
        work.start()
        until(lambda: live.target.value(WAITING), "a session of the pass to wait for the test")
        assert ask(live.source, table) < 3
        assert work.is_alive()
    work.join(60)
    assert [line for line in live.progress.lines if "gave way to" in line]
    live.assert_same(**SAME)


def test_table_that_the_application_waits_for_is_left_to_the_follower(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.source.sql(CHANGES)
    lock_at_once = apply._lock_at_once
    asking: list[threading.Thread] = []
    refused: list[bool] = []
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'deploy' AND wait_event_type = 'Lock'"

    def locking(source: Any, group: Any) -> None:
        if not asking:
            asking.append(threading.Thread(target=ask, args=(live.source, str(group[0].item.table)), daemon=True))
            asking[0].start()
            until(lambda: live.source.rows(waits), "the application to wait")
            began = time.monotonic()
            with pytest.raises(apply._NotLocked):
                lock_at_once(source, group)
            refused.append(time.monotonic() - began < 1)
        lock_at_once(source, group)

    monkeypatch.setattr(apply, "_lock_at_once", locking)
    catch_up(live)
    asking[0].join(30)
    assert refused == [True]
    live.assert_same(**SAME)


# Crashes and takeovers ---------------------------------------------------------------------------------

POINTS = ("catchup.helper.before_commit", "catchup.helper.after_commit", "catchup.before_target_commit")


def test_a_pass_killed_between_its_commits_is_repeated(live: LiveRun, forks: Forks) -> None:
    live.source.sql(CHANGES)
    before = contents(live), passes(live)
    arguments = [*live.arguments("migrate"), "--jobs", "3"]
    for point in POINTS:
        killed = forks.run(arguments, live.project, CONFITURE_FAILPOINT=point)
        assert killed.code == -signal.SIGKILL, killed.err
        assert passes(live) == before[1]
        if point != POINTS[0]:
            assert contents(live) != before[0]
        live.source.sql("UPDATE a SET v = v || '+'; DELETE FROM b WHERE u % 7 = 0; UPDATE whole SET name = 'n'")
    assert forks.run(arguments, live.project).code == 0
    assert passes(live) == before[1] + 1
    live.assert_same(**SAME)
    assert live.verify().equal


def test_runner_that_was_taken_over_writes_nothing_by_its_helpers(live: LiveRun, forks: Forks) -> None:
    live.source.sql(CHANGES)
    with live.target.connect(autocommit=False) as holder:
        holder.execute(b"LOCK TABLE c IN SHARE MODE")
        frozen = forks.start([*live.arguments("migrate"), "--jobs", "4"], live.project)
        until(lambda: live.target.value(WAITING) or not frozen.alive, "a session of the pass to wait for the test")
        for side, database in (("source", live.source), ("target", live.target)):
            (recorded,) = live.target.rows(f"SELECT {side}_backends FROM confiture.runner WHERE ended_at IS NULL")
            working = {pid for (pid,) in database.rows(BUSY.replace("count(*)", "pid"))}
            assert len(working) > 1
            assert working <= {pid for pid, *_ in recorded[0]}
        frozen.signal(signal.SIGSTOP)
    live.target.sql(EXPIRE_LEASE)
    live.source.sql("UPDATE a SET v = 'newer'; UPDATE c SET v = 'newer'; DELETE FROM b WHERE u % 3 = 0")
    catch_up(live)
    live.assert_same(**SAME)
    done = contents(live)
    frozen.signal(signal.SIGCONT)
    assert frozen.wait().code in (3, 6)
    assert contents(live) == done


def test_second_signal_cancels_the_statements_of_every_helper(live: LiveRun, forks: Forks) -> None:
    live.source.sql(CHANGES)
    before = contents(live), passes(live)
    with live.target.connect(autocommit=False) as holder:
        holder.execute(b"LOCK TABLE a, b, c, d, parent, named IN SHARE MODE")
        running = forks.start([*live.arguments("migrate"), "--jobs", "4"], live.project)
        until(lambda: live.target.value(WAITING) > 1 or not running.alive, "the sessions to wait for the test")
        running.interrupt_twice()
        began = time.monotonic()
        assert running.wait().code == 130
        # Without a cancellation the statements would end after the 30 s that they wait for a lock.
        assert time.monotonic() - began < 20
        until(lambda: live.target.value(BUSY) == 0, "the sessions to end")
    assert (contents(live), passes(live)) == before


# Groups ------------------------------------------------------------------------------------------------

CONNECTED = """
CREATE TABLE lone (id int PRIMARY KEY);
CREATE TABLE also_lone (id int PRIMARY KEY);
CREATE TABLE top (id int PRIMARY KEY);
CREATE TABLE middle (id int PRIMARY KEY REFERENCES top);
CREATE TABLE bottom (id int PRIMARY KEY REFERENCES middle);
CREATE TABLE self (id int PRIMARY KEY, boss int REFERENCES self);
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE leaf PARTITION OF part FOR VALUES FROM (0) TO (5);
CREATE TABLE of_leaf (id int PRIMARY KEY REFERENCES leaf);
CREATE TABLE base (id int PRIMARY KEY);
CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (base);
CREATE TABLE unfilled (id int PRIMARY KEY);
CREATE TABLE one (id int PRIMARY KEY REFERENCES unfilled);
CREATE TABLE other (id int PRIMARY KEY REFERENCES unfilled);
"""


def test_tables_that_may_wait_for_each_other_are_in_one_group(databases: Databases, tmp_path: Path) -> None:
    names = ("lone", "bottom", "self", "parted", "heir", "one", "top", "of_leaf", "also_lone", "base", "other")
    items = [(name, [TableRef("public", name)]) for name in names]
    items += [("split", [TableRef("public", "also_lone"), TableRef("public", "self")])]
    database = databases.cloned(CONNECTED)
    with Session(config.resolve(database.conninfo, tmp_path), "test") as session, session.transaction() as tx:
        found = independent_groups.find(tx, items)
    assert found == [
        ["lone"],
        ["bottom", "top"],
        ["self", "also_lone", "split"],
        ["parted", "of_leaf"],
        ["heir", "base"],
        ["one", "other"],
    ]
