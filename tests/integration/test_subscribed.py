"""Changes from logical replication are captured, and a changed set of partitions blocks the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from confiture.errors import Refused
from confiture.postgres import embedded
from confiture.postgres.embedded import Server
from forked import until
from live import LiveRun
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE fed (id int PRIMARY KEY, note text);
CREATE TABLE own (id int PRIMARY KEY, note text);
INSERT INTO own VALUES (1, 'one');
"""
NEW = "CREATE TABLE fed (id bigint PRIMARY KEY, note text); CREATE TABLE own (id bigint PRIMARY KEY, note text)"
SAME = {"fed": "SELECT id, note FROM fed", "own": "SELECT id, note FROM own"}
PUBLISHED = """
CREATE TABLE fed (id int PRIMARY KEY, note text);
INSERT INTO fed SELECT n, 'n' || n FROM generate_series(1, 50) n;
CREATE PUBLICATION feed FOR TABLE fed;
"""


@pytest.fixture(scope="module")
def publisher() -> Iterator[TestDatabase]:
    """A database on a server of its own that publishes table ``fed``."""
    with Server(embedded.scratch(), settings={"wal_level": "logical"}) as server:
        yield Databases(server).make()


@pytest.fixture
def feed(publisher: TestDatabase) -> TestDatabase:
    publisher.sql("DROP PUBLICATION IF EXISTS feed; DROP TABLE IF EXISTS fed")
    publisher.sql(PUBLISHED)
    return publisher


@pytest.fixture
def live(databases: Databases, feed: TestDatabase, tmp_path: Path) -> Iterator[LiveRun]:
    run = LiveRun(databases, tmp_path, OLD, NEW, chunk_rows=20)
    yield run
    for (name,) in run.source.rows("SELECT subname FROM pg_subscription"):
        run.source.sql(f"DROP SUBSCRIPTION {name}")


def subscribe(live: LiveRun, feed: TestDatabase) -> None:
    live.source.sql(f"CREATE SUBSCRIPTION s{live.source.name} CONNECTION '{feed.conninfo}' PUBLICATION feed")
    wait_until_applied(live, feed)


def wait_until_applied(live: LiveRun, feed: TestDatabase) -> None:
    """Wait until the source has every published row."""
    wanted = feed.rows("SELECT * FROM fed ORDER BY id")
    deadline = time.monotonic() + 60
    while live.source.rows("SELECT * FROM fed ORDER BY id") != wanted:
        assert time.monotonic() < deadline, "the subscription does not apply its changes"
        time.sleep(0.02)


CHANGES = {
    "rows": "INSERT INTO fed VALUES (100, 'new'); UPDATE fed SET note = 'u' WHERE id < 5; DELETE FROM fed WHERE id = 9",
    "a key": "UPDATE fed SET id = id + 1000 WHERE id > 40",
    "truncate": "TRUNCATE fed; INSERT INTO fed VALUES (3, 'after')",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_that_a_subscription_applies_are_captured(live: LiveRun, feed: TestDatabase, change: str) -> None:
    subscribe(live, feed)
    live.setup()
    live.migrate()
    feed.sql(change)
    wait_until_applied(live, feed)
    live.source.sql("UPDATE own SET note = 'two'; INSERT INTO fed VALUES (-1, 'by hand')")
    live.follow()
    live.assert_same(**SAME)
    assert live.verify().equal


def test_a_subscription_created_during_the_run_blocks_it(live: LiveRun, feed: TestDatabase) -> None:
    """Changes from a subscription do not fire the installed statement-level triggers."""
    live.setup()
    live.migrate()
    subscribe(live, feed)
    with pytest.raises(Refused, match=r"public.fed was changed during the run"):
        live.follow()


def test_a_closed_source_refuses_changes_from_a_subscription(live: LiveRun, feed: TestDatabase) -> None:
    subscribe(live, feed)
    live.through()
    feed.sql("INSERT INTO fed VALUES (100, 'late')")
    errors = "SELECT sum(apply_error_count) > 0 FROM pg_stat_subscription_stats"
    until(lambda: live.source.value(errors), "an error of the apply worker")
    assert live.source.rows("SELECT 1 FROM fed WHERE id = 100") == []


PARTITIONED = """
CREATE TABLE log (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE log_a PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE log_b PARTITION OF log FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE log_c (id int, day date NOT NULL, PRIMARY KEY (id, day));
INSERT INTO log SELECT n, date '2024-01-01' + n % 50 FROM generate_series(1, 100) n;
"""


CHANGED = {
    "detached": ("ALTER TABLE log DETACH PARTITION log_b", "$omit: [log_b, log_c]", "log_a"),
    "attached": (
        "ALTER TABLE log ATTACH PARTITION log_c FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')",
        "",
        "log_c",
    ),
    "created": (
        "CREATE TABLE log_d PARTITION OF log FOR VALUES FROM ('2024-05-01') TO ('2024-06-01')",
        "$omit: [log_c]",
        "log_d",
    ),
}


@pytest.mark.parametrize(("change", "mapping", "leaf"), CHANGED.values(), ids=CHANGED)
def test_a_changed_set_of_partitions_blocks_the_run_until_a_restart(
    databases: Databases, tmp_path: Path, change: str, mapping: str, leaf: str
) -> None:
    new = "CREATE TABLE log (id int, day date, PRIMARY KEY (id, day))"
    run = LiveRun(databases, tmp_path, PARTITIONED, new, "$omit: [log_c]\n", chunk_rows=50)
    run.setup()
    run.migrate()
    run.source.sql(change)
    for blocked in (run.follow, run.verify):
        with pytest.raises(Refused, match=r"public.log was changed during the run"):
            blocked()
    (tmp_path / "mapping.yaml").write_text(mapping)
    run.restart("log")
    assert run.verify().equal
    run.source.sql(f"UPDATE log SET id = id + 5000; INSERT INTO log VALUES (2000, '2024-01-03'); TRUNCATE {leaf}")
    run.follow()
    run.assert_same(log="SELECT id, day FROM log")
    run.abort()
    assert run.source.rows("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []
