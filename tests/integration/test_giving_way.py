"""Confiture gives way to a session of the application that waits for one of its locks, whatever Confiture is doing.

Each test makes one piece of work wait for a lock that the test holds, so that it cannot end by itself, and then has
the application ask for a table that this work reads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from confiture import commands, config
from confiture.compare import checksum, parts, suspects
from confiture.errors import GaveWay
from confiture.postgres import yielding
from confiture.postgres.session import Session
from confiture.runner.context import reading
from confiture.schema_to_schema import cutover, verify
from confiture.schema_to_schema.outcomes import Limits, Result
from confiture.types import KeyRange
from forked import until
from live import LiveRun
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE a (id int PRIMARY KEY, n int);
CREATE TABLE b (code text COLLATE "C" PRIMARY KEY, n int);
CREATE TABLE bare (n int);
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE quartered (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE quarter PARTITION OF quartered FOR VALUES FROM (0) TO (100);
INSERT INTO a SELECT n, n FROM generate_series(1, 40) n;
INSERT INTO b SELECT 'c' || n, n FROM generate_series(1, 40) n;
INSERT INTO bare SELECT n FROM generate_series(1, 5) n;
INSERT INTO parted SELECT n FROM generate_series(1, 40) n;
"""
NEW = """
CREATE TABLE a (id bigint PRIMARY KEY, n bigint);
CREATE TABLE b (code text COLLATE ucs_basic PRIMARY KEY, n bigint);
CREATE TABLE bare (n bigint);
CREATE INDEX bare_pkey ON bare (n);
CREATE TABLE parted (id bigint PRIMARY KEY);
CREATE TABLE quartered (id bigint PRIMARY KEY);
"""
#: Without the tables that require COPY or cannot be rolled back.
KEYED = tuple(
    "\n".join(line for line in ddl.splitlines() if not {"b", "bare"} & set(line.split())) for ddl in (OLD, NEW)
)
SAME = {name: f"SELECT * FROM {name}" for name in ("a", "b", "bare", "parted")}
#: Far longer than the application may be delayed, and shorter than Confiture waits for the lock that a test holds.
PATIENCE = "20s"

_WAITS = (
    "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database"
    " WHERE NOT l.granted AND d.datname = current_database() AND a.application_name ~ '^confiture .*{}'"
)


class Work(threading.Thread):
    """A command of Confiture in a thread."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._act()
        except Exception as error:  # noqa: BLE001 - raised by the test
            self.error = error

    def done(self) -> None:
        """Wait for its end, and raise its error."""
        self.join(timeout=100)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


@contextmanager
def held(database: TestDatabase, statement: str) -> Iterator[None]:
    """Hold a lock for the block that blocks Confiture and not the application."""
    with database.connect(autocommit=False, application_name="holder") as other:
        other.execute(statement.encode())
        yield


def ask(database: TestDatabase, table: str) -> int:
    """Lock a table exclusively as the application, like ALTER TABLE. Returns the process ID of the session."""
    with database.connect(application_name="deploy", options=f"-c statement_timeout={PATIENCE}") as application:
        with application.transaction():
            application.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        return application.info.backend_pid


def assert_gives_way(
    live: LiveRun,
    act: Callable[[], object],
    lock: tuple[TestDatabase, str],
    asked: tuple[TestDatabase, str],
    *,
    reported: bool = True,
    role: str = "",
) -> None:
    """Assert that the application's statement ends while the work is blocked, and that the work ends after that."""
    work = Work(act)
    with held(*lock):
        work.start()
        until(lambda: lock[0].rows(_WAITS.format(role)) or not work.is_alive(), "the work to wait for the test")
        pid = ask(*asked)
        assert work.is_alive(), work.error
    work.done()
    if reported:
        assert [line for line in live.progress.lines if f"gave way to pid {pid} (postgres, deploy)" in line]


def index_of(table: str) -> str:
    """A lock that blocks a statement that reads the table, but not one that locks it."""
    return f"ALTER INDEX {table}_pkey SET TABLESPACE pg_default"


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, OLD, NEW, strategy="copy", chunk_rows=20)
    run.setup()
    return run


@pytest.fixture
def verified(live: LiveRun) -> LiveRun:
    live.migrate()
    assert live.verify().equal
    return live


def test_planning_gives_way(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, OLD, NEW)
    found: list[object] = []
    lock = (live.source, "LOCK TABLE ONLY quartered IN ACCESS EXCLUSIVE MODE")
    assert_gives_way(live, lambda: found.append(live.plan()), lock, (live.source, "part"), reported=False)
    assert found


def test_preview_gives_way(live: LiveRun) -> None:
    found: list[object] = []
    act = lambda: found.append(commands.plan.preview(live.where, live.choices, "a", 3))  # noqa: E731
    assert_gives_way(live, act, (live.source, index_of("a")), (live.source, "a"), reported=False)
    assert len(found[0]) == 3  # type: ignore[arg-type]


def test_planning_the_ranges_of_a_copy_gives_way(live: LiveRun) -> None:
    assert_gives_way(live, live.migrate, (live.source, index_of("a")), (live.source, "a"))
    assert live.verify().equal


@pytest.mark.parametrize("strategy", ["copy", "fdw"])
def test_copying_a_chunk_gives_way_and_splits_it(databases: Databases, tmp_path: Path, strategy: str) -> None:
    live = LiveRun(databases, tmp_path, *KEYED, strategy=strategy, chunk_rows=20)
    live.setup()
    lock = (live.target, "LOCK TABLE a IN SHARE MODE")
    assert_gives_way(live, live.migrate, lock, (live.source, "a"))
    sizes = live.target.rows(
        "SELECT c.rows FROM confiture.chunk c JOIN confiture.table_plan t ON t.number = c.table_number"
        " WHERE t.target_table = 'a' ORDER BY c.rows"
    )
    assert sizes == [(10,), (10,), (20,)]
    assert live.verify().equal
    live.assert_same(a=SAME["a"], parted=SAME["parted"])


def test_concurrent_index_build_waits_for_no_snapshot_of_confiture(live: LiveRun) -> None:
    """The index build waits for transactions, not for a lock on the table."""
    work = Work(live.migrate)
    with held(live.target, "LOCK TABLE a IN SHARE MODE"):
        work.start()
        until(lambda: live.target.rows(_WAITS.format("")), "the copy to wait for the test")
        with live.source.connect(options=f"-c statement_timeout={PATIENCE}") as application:
            application.execute("CREATE INDEX CONCURRENTLY by_n ON a (n)")
        assert work.is_alive()
    work.done()
    assert live.verify().equal


def test_copying_a_table_without_a_key_gives_way(live: LiveRun) -> None:
    assert_gives_way(live, live.migrate, (live.target, "LOCK TABLE bare IN SHARE MODE"), (live.source, "bare"))
    live.assert_same(**SAME)


@pytest.mark.parametrize("old", [False, True], ids=["new server", "old server"])
def test_a_pass_of_catch_up_gives_way(request: pytest.FixtureRequest, tmp_path: Path, old: bool) -> None:
    databases = request.getfixturevalue("old_databases" if old else "databases")
    live = LiveRun(databases, tmp_path, OLD, NEW, chunk_rows=20)
    live.setup()
    live.migrate()
    live.source.sql("UPDATE a SET n = -n; DELETE FROM parted WHERE id < 9")
    lock = (live.target, "LOCK TABLE a IN SHARE MODE")
    # The pass reads every table of the run in one transaction, so it gives way to a partition's DDL too.
    assert_gives_way(live, live.follow, lock, (live.source, "part"))
    assert live.verify().equal
    live.assert_same(**SAME)


def test_verifying_a_range_gives_way_and_compares_its_halves(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    live.migrate()
    live.tamper("UPDATE a SET n = 99 WHERE id = 3; DELETE FROM a WHERE id = 33")
    spans = summed(monkeypatch, "range_sum")
    lock = (live.target, index_of("a"))
    found: list[Result] = []
    assert_gives_way(live, lambda: found.append(live.verify()), lock, (live.source, "a"), role="verify")
    assert sorted(d.key["id"] for d in found[0].differences if d.key) == ["3", "33"]
    table = next(t for t in found[0].tables if t.target == "public.a")
    assert (table.source_rows, table.target_rows) == (40, 39)
    assert {KeyRange(None, ("11",)), KeyRange(("11",), ("21",)), KeyRange(("21",), None)} <= spans


def summed(monkeypatch: pytest.MonkeyPatch, name: str) -> set[KeyRange]:
    """The ranges whose checksums are computed on the source from here on."""
    found: set[KeyRange] = set()
    sums = getattr(checksum, name)

    def noting(tx: Any, job: Any, side: str, *args: Any) -> Any:
        if side == "source":
            found.add(args[-1])
        return sums(tx, job, side, *args)

    monkeypatch.setattr(checksum, name, noting)
    return found


def test_verifying_a_table_with_differently_ordered_keys_gives_way(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.migrate()
    monkeypatch.setattr(parts, "PART_ROWS", 15)
    spans = summed(monkeypatch, "bucket_sums")
    live.tamper("UPDATE b SET n = 99 WHERE code = 'c3'; DELETE FROM b WHERE code = 'c33'")
    found: list[Result] = []
    assert_gives_way(live, lambda: found.append(live.verify()), (live.source, index_of("b")), (live.source, "b"))
    assert sorted(d.key["code"] for d in found[0].differences if d.key) == ["c3", "c33"]
    # Two chunks of 20 rows, the first of which gave way and was split.
    edges = {edge for span in spans for edge in (span.lower, span.upper) if edge}
    assert len(edges) == 2
    assert len(spans) == 4


def test_target_with_different_key_order_is_scanned_without_source_lock(live: LiveRun) -> None:
    live.migrate()
    lock = (live.target, index_of("b"))
    assert_gives_way(live, live.verify, lock, (live.source, "b"), reported=False)


def test_verifying_without_capture_gives_way(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, OLD, NEW, chunk_rows=20)
    live.setup(capture=False)
    live.choices = live.chosen(capture=False)
    live.migrate()
    lock = (live.target, index_of("bare"))
    assert_gives_way(live, live.verify, lock, (live.source, "bare"))
    assert live.state == "verified"


def test_comparing_changed_keys_again_gives_way(verified: LiveRun) -> None:
    verified.touch("a", 7)
    lock = (verified.target, index_of("a"))
    assert_gives_way(verified, verified.follow, lock, (verified.source, "a"))
    assert verified.target.value("SELECT count(*) FROM confiture.changed_key") == 0


def test_a_rehearsal_gives_way_while_it_copies_a_table_without_a_key(verified: LiveRun) -> None:
    report = verified.project / "differences.jsonl"
    act = partial(commands.cutover.rehearse, verified.where, Limits(max_write_pause=100), report, verified.progress)
    lock = (verified.target, "LOCK TABLE bare IN SHARE MODE")
    assert_gives_way(verified, act, lock, (verified.source, "bare"))


def test_a_reverse_pass_gives_way_on_the_target(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, *KEYED)
    live.through()
    live.target.sql("UPDATE a SET n = -n")
    lock = (live.source, "LOCK TABLE a IN SHARE MODE")
    assert_gives_way(live, live.follow, lock, (live.target, "parted"))
    assert live.source.value("SELECT count(*) FROM a WHERE n < 0") == 40


def test_comparing_all_rows_after_the_cutover_gives_way_on_the_target(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, *KEYED)
    live.through()
    found: list[Result] = []
    lock = (live.source, index_of("a"))
    assert_gives_way(live, lambda: found.append(live.verify()), lock, (live.target, "a"), role="runner")
    assert found[0].equal


def sleeps_first(monkeypatch: pytest.MonkeyPatch, side: str, database: TestDatabase, table: str) -> Work:
    """Let the first hashing of rows on a side take a minute, while the application requests a lock on a table there."""
    hashes = checksum.hashes
    other = Work(lambda: ask(database, table))

    def slowly(tx: Any, job: Any, on: str, *args: Any) -> Any:
        found = hashes(tx, job, on, *args)
        if on == side and str(job.table.target) == "public.a" and other.ident is None:
            other.start()
            tx.pg.execute("SELECT pg_sleep(60)")
        return found

    monkeypatch.setattr(checksum, "hashes", slowly)
    return other


def test_classifying_suspect_rows_gives_way(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    live.migrate()
    live.tamper("UPDATE a SET n = 99 WHERE id = 3")
    settle = suspects.classify
    others: list[Work] = []

    def settling(*args: Any) -> Any:
        if not others:
            others.append(sleeps_first(monkeypatch, "source", live.source, "a"))
        return settle(*args)

    monkeypatch.setattr(suspects, "classify", settling)
    assert [d.key for d in live.verify().differences] == [{"id": "3"}]
    others[0].done()
    assert [line for line in live.progress.lines if "gave way" in line]


def test_preparing_a_rollback_gives_way_on_the_target(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveRun(databases, tmp_path, *KEYED)
    live.through()
    live.target.sql("UPDATE a SET n = -n")
    other = sleeps_first(monkeypatch, "target", live.target, "a")
    live.rollback(Limits(max_write_pause=60))
    other.done()
    assert [line for line in live.progress.lines if "gave way" in line]
    assert live.source.value("SELECT count(*) FROM a WHERE n < 0") == 40


@dataclass
class Two:
    """Sessions to two databases whose units of work give way. The first one is of a role that may only read."""

    old: TestDatabase
    one: Session
    other: Session
    messages: list[str]


@pytest.fixture
def two(databases: Databases) -> Iterator[Two]:
    old, new = databases.cloned(OLD), databases.make()
    role = f"reader_{old.name}"
    old.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'r'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    reader = config.resolve(make_conninfo(old.conninfo, user=role, password="r"), Path())
    messages: list[str] = []
    with (
        yielding.watching(messages.append),
        Session(reader, "one") as one,
        Session(config.resolve(new.conninfo, Path()), "other") as other,
    ):
        yield Two(old, one, other, messages)
    old.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_role_that_may_not_see_other_sessions_gives_way_to_them(two: Two) -> None:
    work = Work(lambda: ask(two.old, "a"))

    def unit() -> None:
        with yielding.yielding(two.one), two.one.transaction() as tx, two.other.transaction() as there:
            tx.pg.execute("LOCK TABLE public.a IN ACCESS SHARE MODE")
            work.start()
            there.pg.execute("SELECT pg_sleep(60)")

    with pytest.raises(GaveWay, match=r"gave way to pid \d+ \(postgres, deploy\)"):
        unit()
    work.done()
    assert len(two.messages) == 1


def test_no_statement_is_cancelled_once_the_other_side_has_committed(two: Two) -> None:
    """A COMMIT that is cancelled while it waits for a standby reports success without being replicated."""
    other = Work(lambda: ask(two.old, "a"))
    with yielding.yielding(two.one), two.one.transaction() as tx:
        tx.pg.execute("LOCK TABLE public.a IN ACCESS SHARE MODE")
        with two.other.transaction() as there:
            there.pg.execute("CREATE TABLE public.kept ()")
        other.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'deploy' AND wait_event_type = 'Lock'"
        until(lambda: two.old.rows(waits), "the application to wait")
        tx.pg.execute("SELECT pg_sleep(3)")
    other.done()
    assert two.messages == []


def test_statement_cancelled_for_another_reason_is_no_giving_way(two: Two) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        with yielding.yielding(two.one), two.one.transaction() as tx:
            tx.pg.execute("SET LOCAL statement_timeout = 1; SELECT pg_sleep(60)")


def test_nothing_gives_way_under_the_lock_of_a_cutover(verified: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the write pause applies there instead."""
    synchronise = cutover._synchronise
    other = Work(lambda: ask(verified.source, "parted"))

    def read_slowly(follower: Any, *args: Any) -> None:
        if other.ident is not None:
            synchronise(follower, *args)
            return
        with reading(follower.context.source, verify.lock_list(args[0])) as tx:
            other.start()
            waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'deploy' AND wait_event_type = 'Lock'"
            until(lambda: verified.source.rows(waits), "the application to wait")
            tx.pg.execute("SELECT pg_sleep(3)")
        # Its own sessions would wait behind the application, so it releases the lock and retries.
        synchronise(follower, *args)

    monkeypatch.setattr(cutover, "_synchronise", read_slowly)
    verified.cutover(Limits(max_write_pause=60))
    assert verified.state == "cutover"
    assert not [line for line in verified.progress.lines if "gave way" in line]
    other.done()


def test_confiture_gives_way_only_to_sessions_that_wait_for_it(live: LiveRun) -> None:
    """Giving way does not help a session that waits for another one."""
    work = Work(live.migrate)
    with held(live.source, "LOCK TABLE bare IN ROW EXCLUSIVE MODE"), held(live.target, "LOCK TABLE a IN SHARE MODE"):
        work.start()
        until(lambda: live.target.rows(_WAITS.format("")), "the copy to wait for the test")
        with live.source.connect(options="-c statement_timeout=3s", application_name="deploy") as application:
            with pytest.raises(psycopg.errors.QueryCanceled):
                application.execute("LOCK TABLE bare IN SHARE MODE; SELECT 1")
        assert work.is_alive()
    work.done()
    assert not [line for line in live.progress.lines if "gave way" in line]
