"""While a large table is copied, its log stays bounded by the number of changed keys, and finished tables catch up."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from confiture import commands
from confiture.capture import apply
from confiture.schema_to_schema import follow, log_compaction
from confiture.schema_to_schema import migrate as migrating
from forked import until
from live import LiveRun
from servers import Databases

KEYS = 100
OLD = """
CREATE TABLE able (id int PRIMARY KEY, note text);
CREATE TABLE big (id int PRIMARY KEY, n int NOT NULL);
CREATE TABLE other (id int PRIMARY KEY, big_id int NOT NULL REFERENCES big);
INSERT INTO able SELECT n, 'old' FROM generate_series(1, 10) n;
INSERT INTO big SELECT n, 0 FROM generate_series(1, 1200) n;
INSERT INTO other SELECT n, n FROM generate_series(1, 10) n;
"""
NEW = """
CREATE TABLE able (id bigint PRIMARY KEY, note text);
CREATE TABLE big (id bigint PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE other (id bigint PRIMARY KEY, big_id bigint NOT NULL REFERENCES big);
"""
SAME = {
    "able": "SELECT id, note FROM able",
    "big": "SELECT id, n FROM big",
    "other": "SELECT id, big_id FROM other",
}
WAITING = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND application_name ~ '^confiture' AND wait_event_type = 'Lock'
"""


class Application:
    """Writes after each chunk of ``big``. It is called as the progress of the run."""

    def __init__(self, live: LiveRun) -> None:
        self.live = live
        self.most = self.writes = 0
        self.caught_up: list[str] = []

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        if not name.endswith("big") or phase != "copying":
            return
        source = self.live.source
        schema = source.run_schema
        self.most = max(self.most, source.value(f"SELECT count(*) FROM {schema}.log0002"))
        self.caught_up.append(self.live.target.value("SELECT note FROM able WHERE id = 1"))
        self.writes += 1
        # Some keys are in chunks that are already copied, others in chunks that are not.
        source.sql(f"UPDATE big SET n = n + 1 WHERE id % {1200 // KEYS} = 0; UPDATE able SET note = '{self.writes}'")


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, OLD, NEW, chunk_rows=12)
    run.setup()
    return run


def test_the_log_stores_each_changed_key_once_while_tables_are_copied(live: LiveRun) -> None:
    application = Application(live)
    live.progress.table = application.table  # type: ignore[method-assign]
    live.migrate()
    assert application.writes >= 100  # ten thousand changed rows
    assert KEYS < application.most <= KEYS * (log_compaction.EVERY_CHUNKS + 1)
    behind = [now - int(note) for now, note in enumerate(application.caught_up) if note != "old"]
    assert behind
    assert max(behind) <= log_compaction.EVERY_CHUNKS
    live.assert_same(**SAME)
    assert live.verify().equal


def test_compaction_waits_for_a_pass(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    live.migrate()
    copy_rows = apply._copy_rows
    waited: list[bool] = []
    with commands.holding.hold_run(live.where, "follow", live.progress) as (context, _):
        plan = migrating.stored_plan(context)
        followed = apply.followed(context, plan)
        # The log of this table is empty, so that its compaction can only wait for the lock, not for a row of the pass.
        idle = next(f.item for f in followed if f.item.table.name == "other")
        compaction = threading.Thread(target=log_compaction.compact, args=(context, idle))

        def then_compact(*args: Any) -> int:
            if not waited:
                compaction.start()
                until(lambda: not compaction.is_alive() or live.source.rows(WAITING), "compaction to wait for the lock")
                waited.append(compaction.is_alive())
            return copy_rows(*args)

        monkeypatch.setattr(apply, "_copy_rows", then_compact)
        live.source.sql("UPDATE able SET note = 'new'")
        with apply.Follower(context, followed) as follower:
            assert follower.catch_up().keys == 10
        compaction.join()
    assert waited == [True]


def test_the_backlog_is_measured_beside_a_copy_builds_and_a_comparison(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "MEASURE_SECONDS", 0.0)
    monkeypatch.setattr(follow, "MEASURE_SHARE", 1.0)
    seen: dict[str, list[int]] = {"copying": [], "rebuild": [], "comparing": []}

    def write_during(work: str) -> None:
        if work in seen:
            # A drain has measured a short log before the builds and before the comparison.
            found = live.target.rows("SELECT backlog FROM confiture.catchup WHERE backlog IS NOT NULL")
            seen[work].append(found[0][0] if found else 0)
            live.source.sql("UPDATE big SET n = n + 1 WHERE id <= 10")

    monkeypatch.setattr(live.progress, "table", lambda name, done, total, phase: write_during(phase))
    monkeypatch.setattr(live.progress, "say", lambda text: write_during(text.partition(":")[0]))
    live.migrate()
    assert max(seen["copying"]) >= 10
    assert max(seen["rebuild"]) >= 10
    live.verify(jobs=1)
    assert max(seen["comparing"]) >= 10
