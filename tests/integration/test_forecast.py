"""The forecast of a plan: read from real servers, with every kind of table, and nothing changed on either side."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.commands import forecast
from confiture.commands.plan import make, next_command
from confiture.plan.forecast import Forecast, TableForecast, as_json, from_json
from confiture.render import plan as render
from confiture.schema_to_schema import forecast as reader
from confiture.schema_to_schema import timed_sample
from live import LiveRun
from servers import Databases

TABLES = """
CREATE TABLE narrow (id bigint PRIMARY KEY, a int);
CREATE TABLE wide (id bigint PRIMARY KEY, doc text);
CREATE TABLE empty (id int PRIMARY KEY, v text);
CREATE TABLE never_analyzed (id int PRIMARY KEY, v text);
CREATE TABLE keyless (v text);
CREATE TABLE parted (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (1000) TO (100000);
"""
INDEXES = "CREATE INDEX by_a ON narrow (a); CREATE INDEX by_v ON parted (v);"
ROWS = """
ALTER TABLE never_analyzed SET (autovacuum_enabled = off);
INSERT INTO narrow SELECT n, n % 10 FROM generate_series(1, 20000) n;
INSERT INTO wide SELECT n, (SELECT string_agg(md5((n * 1000 + i)::text), '') FROM generate_series(1, 200) i)
    FROM generate_series(1, 200) n;
INSERT INTO never_analyzed SELECT n, 'v' || n FROM generate_series(1, 3000) n;
INSERT INTO keyless SELECT md5(n::text) FROM generate_series(1, 5000) n;
INSERT INTO parted SELECT n, 'v' || n FROM generate_series(1, 5000) n;
ANALYZE narrow, wide, keyless, empty, part_1, part_2;
"""


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    return LiveRun(databases, tmp_path, TABLES + ROWS, TABLES + INDEXES)


def _forecast(live: LiveRun, *, sample: bool = True) -> tuple[Forecast, dict[str, TableForecast]]:
    found = forecast.of(live.where, make(live.where, live.choices), sample=sample)
    assert found is not None
    return found, {t.target.removeprefix("public."): t for t in found.tables}


def test_forecast_covers_each_kind_of_table(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_sample, "BYTES_LEAST", 1)
    monkeypatch.setattr(timed_sample, "STATEMENT_TIMEOUT", "60s")
    monkeypatch.setattr(timed_sample, "BUDGET_SECONDS", 600.0)
    found, tables = _forecast(live)
    sampled = {name for name, t in tables.items() if t.basis.startswith("a sample of ")}
    assert sampled == {"narrow", "wide", "never_analyzed", "keyless", "parted"}
    assert tables["narrow"].basis.endswith("behind some of its keys")
    assert tables["keyless"].basis.endswith("of pages chosen at random")
    assert (tables["empty"].rows, tables["empty"].bytes, tables["empty"].index_bytes) == (0, 0, 0)
    assert 0 < found.seconds < 60
    assert found.change_log is not None
    # The sizes are those of the target, compared with the source, which is filled alike.
    for name, size in live.source.rows(
        "SELECT relname, pg_table_size(oid) FROM pg_class WHERE relname IN ('narrow', 'wide', 'keyless')"
    ):
        assert 0.6 < tables[name].bytes / size < 1.6, name
    indexes = live.source.value("SELECT pg_indexes_size('narrow')")
    assert 1.1 * indexes < tables["narrow"].index_bytes < 1.7 * indexes
    assert found.target_disk.total >= sum(t.bytes + t.index_bytes for t in found.tables)
    assert from_json(as_json(found)) == found
    assert live.source.rows("SELECT 1 FROM pg_namespace WHERE nspname ~ '^confiture'") == []


def test_table_that_cannot_be_sampled_has_usual_rates(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_sample, "BYTES_LEAST", 1)
    planned = make(live.where, live.choices)
    with live.source.connect(autocommit=False) as other:
        other.execute("LOCK TABLE narrow, parted IN ACCESS EXCLUSIVE MODE")
        found = forecast.of(live.where, planned, sample=True)
    assert found is not None
    rated = {t.target.removeprefix("public.") for t in found.tables if t.basis == "usual rates"}
    assert rated == {"narrow", "parted", "empty"}


def test_sample_ends_with_its_timeout(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "INSERT INTO t SELECT n, 'v' FROM generate_series(1, 1000) n; ANALYZE t;"
    table = "CREATE TABLE t (id int PRIMARY KEY, v text);"
    slow = 't: {v: {source_column: v, transform: "md5(repeat(v, 100000000))"}}'
    live = LiveRun(databases, tmp_path, table + rows, table, slow)
    monkeypatch.setattr(timed_sample, "BYTES_LEAST", 1)
    monkeypatch.setattr(timed_sample, "STATEMENT_TIMEOUT", "5ms")
    found, tables = _forecast(live)
    assert tables["t"].basis == "usual rates"
    assert found.copy.basis == "usual rates: no sample was taken in time, 1 chunk at a time"


def test_plan_prints_its_forecast_with_the_basis(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "READINGS_APART", 0.01)
    planned = make(live.where, live.choices)
    found, _ = _forecast(live, sample=False)
    text = render.summary(
        planned.plan,
        captured=True,
        blockers=(),
        following=next_command(live.where, live.choices, planned),
        forecast=found,
    )
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith("Next"))
    words = " ".join(text.split())
    assert "until the cutover: copy" in words
    assert "from usual rates: no sample was taken" in words
    assert "Disk the target needs about" in words
    assert "s at the cutover, from usual rates: 6 tables, 0 sequences and the tables that are copied again" in words
    document = render.as_json(planned.plan, (), "next", None, found)
    assert document["forecast"]["target_disk"]["total"] == found.target_disk.total
    assert render.as_json(planned.plan, (), "next", planned.plan.tables[0], found)["forecast"] is None


def test_earlier_runs_of_the_journal_are_the_basis(live: LiveRun) -> None:
    live.setup()
    live.migrate()
    live.verify()
    assert forecast.of(live.where, make(live.where, live.choices), sample=False) is None
    live.abort()
    found, tables = _forecast(live, sample=False)
    assert tables["narrow"].basis == "an earlier run of this journal"
    assert tables["wide"].basis == "usual rates"  # with too few rows for a rate
    assert found.copy.basis.startswith("earlier runs of 4 of 6 tables (")
    assert found.verification.basis == "earlier verifications of this journal, by the number of rows"
