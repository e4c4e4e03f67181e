"""Lock, then snapshot: a table that is rewritten while a command waits for its lock is not read as empty.

A snapshot that is older than a rewrite by ALTER TABLE sees no row of the table. It also sees the old catalog, so
that the fingerprint seems unchanged.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from confiture.copy import chunks
from confiture.errors import Refused
from confiture.journal.model import Chunk
from confiture.runner.context import Context
from forked import until
from live import LiveRun
from servers import Databases

TABLE = "CREATE TABLE item (id int PRIMARY KEY, n int);"
OLD = f"{TABLE} INSERT INTO item SELECT n, n FROM generate_series(1, 9) n"
REWRITE = "ALTER TABLE item ADD COLUMN drawn float DEFAULT random()"
WAITING = """
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^confiture'
    AND wait_event_type = 'Lock'
"""


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, OLD, TABLE, strategy="copy")
    run.setup()
    return run


def rewrite(live: LiveRun) -> None:
    """Rewrite the table, and commit once a session of the run waits for its lock."""
    application = live.source.connect(autocommit=False)
    application.execute(REWRITE.encode())

    def commit() -> None:
        with application:
            until(lambda: live.source.rows(WAITING), "a session of the run waiting for the lock")

    threading.Thread(target=commit).start()


def test_a_chunk_of_a_concurrently_rewritten_table_is_not_empty(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    count = chunks.count_attempt

    def then_rewritten(context: Context, chunk: Chunk) -> Chunk:
        counted = count(context, chunk)
        rewrite(live)
        return counted

    monkeypatch.setattr(chunks, "count_attempt", then_rewritten)
    with pytest.raises(Refused, match="was changed during the run"):
        live.migrate()
    assert live.target.rows("SELECT 1 FROM confiture.chunk WHERE status = 'done'") == []


def test_a_pass_over_a_concurrently_rewritten_table_deletes_nothing(live: LiveRun) -> None:
    live.migrate()
    live.source.sql("UPDATE item SET n = 0 WHERE id = 5")
    rewrite(live)
    with pytest.raises(Refused, match="was changed during the run"):
        live.follow()
    assert live.target.value("SELECT count(*) FROM item") == 9


PARTITIONED = """
CREATE TABLE item (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED) PARTITION BY RANGE (id);
CREATE TABLE item_low PARTITION OF item FOR VALUES FROM (MINVALUE) TO (5);
CREATE TABLE item_high PARTITION OF item FOR VALUES FROM (5) TO (MAXVALUE);
INSERT INTO item SELECT n, n FROM generate_series(1, 9) n
"""
GENERATED = """
CREATE TABLE item (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
INSERT INTO item SELECT n, n FROM generate_series(1, 9) n
"""
TARGET = "CREATE TABLE item (id int PRIMARY KEY, n int, twice int)"


@pytest.mark.parametrize(
    ("old", "statement"),
    [
        (PARTITIONED, "TRUNCATE item"),
        (PARTITIONED, "TRUNCATE item_high"),
        (GENERATED, "TRUNCATE item"),
        (GENERATED, "TRUNCATE item; INSERT INTO item VALUES (1, 1)"),
    ],
    ids=["partitioned table", "partition", "table", "table that is filled again"],
)
def test_a_truncate_that_a_check_waits_for_is_no_change_of_the_table(
    databases: Databases, tmp_path: Path, old: str, statement: str
) -> None:
    live = LiveRun(databases, tmp_path, old, TARGET)
    live.setup()
    live.migrate()
    application = live.source.connect(autocommit=False)
    application.execute(statement.encode())

    def commit() -> None:
        with application:
            until(lambda: live.source.rows(WAITING), "the check waiting for the lock")

    committing = threading.Thread(target=commit)
    committing.start()
    assert live.verify().equal
    committing.join()
    live.cutover()
    live.assert_same(item="SELECT id, n, twice FROM item")
