"""The forecast of a plan: read from real servers, with every kind of table, and nothing changed on either side."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from confiture import commands, config
from confiture.commands import forecast
from confiture.commands.plan import make, next_command
from confiture.errors import Refused
from confiture.journal.growth import grown
from confiture.plan.forecast import Forecast, TableForecast, as_json, from_json
from confiture.postgres import free_disk
from confiture.postgres.session import Session
from confiture.render import plan as render
from confiture.render import status as render_status
from confiture.schema_to_schema import forecast as reader
from confiture.schema_to_schema import timed_sample
from confiture.status.facts import Severity
from confiture.status.report import report
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
    choices = live.chosen(sample=sample)
    found = forecast.of(live.where, make(live.where, choices), choices)
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


def test_forecast_of_chosen_and_of_deleted_rows(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("few", "absent", "deleted", "sparse")
    tables = "".join(f"CREATE TABLE {name} (id int PRIMARY KEY, v text);" for name in names)
    rows = "".join(
        f"ALTER TABLE {name} SET (autovacuum_enabled = off{', fillfactor = 10' if name == 'sparse' else ''});"
        f"INSERT INTO {name} SELECT n, 'v' || n FROM generate_series(1, 40000) n;"
        for name in names
    )
    chosen = 'few: {$where: "id % 100 = 7"}\nabsent: {$where: "id < 0"}\n'
    analyzed = "ANALYZE few, absent, deleted; DELETE FROM deleted;"
    live = LiveRun(databases, tmp_path, tables + rows + analyzed, tables, chosen)
    monkeypatch.setattr(timed_sample, "BYTES_LEAST", 1)
    monkeypatch.setattr(timed_sample, "STATEMENT_TIMEOUT", "60s")
    monkeypatch.setattr(timed_sample, "ROWS_MOST", 10_000)
    found, forecasts = _forecast(live)
    # 400 rows are copied; their number is not that of the table.
    assert 150 < forecasts["few"].rows < 700
    assert forecasts["few"].bytes < 100_000
    assert (forecasts["absent"].rows, forecasts["absent"].bytes) == (0, 0)
    # The server has counted rows that are no more, and their time is not that of an empty statement for each of them.
    assert (forecasts["deleted"].rows, forecasts["deleted"].basis) == (40_000, "usual rates")
    # A page has few rows; the size of the table would give ten times as many.
    assert 20_000 < forecasts["sparse"].rows < 70_000
    assert all(t.copy_seconds < 3 and t.verification_seconds < 3 for t in found.tables)
    # The share of the rows is not known before a table with a condition is copied.
    live.setup()
    live.migrate()
    live.target.sql("UPDATE confiture.table_plan SET phase = 'copying', rows_done = 9 WHERE target_table = 'few'")
    assert _share(live) == 0
    live.target.sql("UPDATE confiture.table_plan SET phase = 'copied', rows_done = 400 WHERE target_table = 'few'")
    assert _share(live) == 1


def _share(live: LiveRun) -> float:
    run = live.target.value("SELECT id FROM confiture.run")
    with Session(config.resolve(live.target.conninfo, Path()), "test") as session, session.transaction() as tx:
        found = grown(tx, run)
    assert found is not None
    return found.share


def test_table_that_cannot_be_sampled_has_usual_rates(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_sample, "BYTES_LEAST", 1)
    planned = make(live.where, live.choices)
    with live.source.connect(autocommit=False) as other:
        other.execute("LOCK TABLE narrow, parted IN ACCESS EXCLUSIVE MODE")
        found = forecast.of(live.where, planned, live.choices)
    assert found is not None
    rated = {t.target.removeprefix("public.") for t in found.tables if t.basis == "usual rates"}
    assert rated == {"narrow", "parted", "empty"}


def test_sample_ends_with_its_timeout(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "INSERT INTO t SELECT n, 'v' FROM generate_series(1, 100) n; ANALYZE t;"
    table = "CREATE TABLE t (id int PRIMARY KEY, v text);"
    slow = 't: {v: {source_column: v, transform: "md5(repeat(v, 20000000))"}}'
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
    assert forecast.of(live.where, make(live.where, live.choices), live.choices) is None
    live.abort()
    found, tables = _forecast(live, sample=False)
    assert tables["narrow"].basis == "an earlier run of this journal"
    assert tables["wide"].basis == "usual rates"  # with too few rows for a rate
    assert found.copy.basis.startswith("earlier runs of 4 of 6 tables (")
    assert found.verification.basis == "earlier verifications of this journal, by the number of rows"


def test_setup_refuses_a_disk_that_is_too_small(live: LiveRun) -> None:
    choices = live.chosen(target_disk=1_000_000)
    with pytest.raises(Refused, match="the disk of the target is too small") as refused:
        commands.setup.execute(live.where, choices, live.progress)
    assert re.search(r"976\.6 KiB are free \(--target-disk\): [0-9.]+ MiB are missing", str(refused.value.why))
    assert "--accept-small-disk" in str(refused.value.fix)
    # Setup has created the target's database, and has dropped it again.
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        live.target.connect()
    accepted = replace(choices, accept_small_disk=True)
    run = commands.setup.execute(live.where, accepted, live.progress)
    kind, detail = live.target.rows("SELECT kind, detail FROM confiture.event WHERE kind LIKE 'forecast%'")[0]
    assert (kind, detail["forecast"]["target_disk"]["free"]["bytes"]) == ("forecast recorded", 1_000_000)
    assert from_json(detail["forecast"]).target_disk.missing > 0
    assert detail["database_bytes"] > 1_000_000
    # A setup that is repeated neither records nor refuses anything again.
    assert commands.setup.execute(live.where, choices, live.progress).id == run.id
    assert live.target.value("SELECT count(*) FROM confiture.event WHERE kind LIKE 'forecast%'") == 1


def test_free_disk_is_asked_of_a_server_of_this_machine(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    database = config.resolve(databases.server.conninfo("postgres"), Path())
    data = databases.server.data
    with Session(database, "test") as session, session.transaction() as tx:
        found = free_disk.of(tx)
        if not os.access(data / "postmaster.pid", os.R_OK):
            assert found is None
            pytest.skip("the files of the server are not readable for this user")
        assert found is not None
        assert (found.place, found.wal_apart) == (str(data), False)
        assert 0 < found.bytes <= shutil.disk_usage(data).total
        # Another server behind a forwarded port was started at another time, or has another identity.
        monkeypatch.setattr(free_disk, "START_SECONDS", -1)
        assert free_disk.of(tx) is None
        monkeypatch.undo()
        monkeypatch.setattr(free_disk, "is_this_machine", lambda _: False)
        assert free_disk.of(tx) is None


def test_free_disk_is_not_known_to_a_role_without_privileges(databases: Databases) -> None:
    databases.make().sql("DROP ROLE IF EXISTS forecast_reader; CREATE ROLE forecast_reader LOGIN PASSWORD 'x'")
    conninfo = make_conninfo(databases.server.conninfo("postgres"), user="forecast_reader", password="x")
    with Session(config.resolve(conninfo, Path()), "test") as session, session.transaction() as tx:
        assert free_disk.of(tx) is None


def test_status_warns_when_the_disk_will_be_full(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    # The disk of this machine is left out: what the operator states counts.
    monkeypatch.setattr(free_disk, "is_this_machine", lambda _: False)
    live.choices = live.chosen(target_disk=1_000_000, accept_small_disk=True)
    live.setup()
    (run,) = report(live.where.target, live.project).runs
    assert (run.severity, run.state) == (Severity.WARNING, "setup")
    assert run.reasons[0].startswith("the target's disk will be full before the end: about ")
    assert run.disk is not None
    assert run.forecast is not None
    assert run.disk["free"] is not None
    assert run.disk["free"] <= 1_000_000
    assert run.disk["expected"] > run.disk["missing"] > 0
    assert (run.forecast["elapsed_seconds"], run.forecast["ready_at"]) == (0, None)
    words = " ".join(render_status.text(report(live.where.target, live.project)).split())
    assert re.search(
        r"Plan about [0-9a-z ]+ until the cutover, [0-9a-z ]+ of it for the copy; disk .* of about [0-9.]+ MiB, "
        r"[0-9.]+ KiB free",
        words,
    )
    live.migrate()
    # Every row and index is there: the disk has sufficed.
    (run,) = report(live.where.target, live.project).runs
    assert (run.reasons, run.disk and run.disk["missing"]) == ((), 0)
    warnings = live.target.rows(
        "SELECT detail ->> 'reason', detail ->> 'free' FROM confiture.event WHERE kind = 'forecast'"
    )
    assert len(warnings) == 1
    assert warnings[0][0].startswith("the target's disk will be full before the end: about ")
    live.verify()
    live.cutover()
    (run,) = report(live.where.target, live.project).runs
    assert (run.forecast, run.disk) == (None, None)


def test_status_without_a_known_disk_does_not_warn(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_disk, "is_this_machine", lambda _: False)
    live.setup()
    (run,) = report(live.where.target, live.project).runs
    assert run.severity is Severity.OK
    assert run.disk is not None
    assert (run.disk["free"], run.disk["missing"], run.disk["full_in_seconds"]) == (None, 0, None)
    assert "free space not known" in " ".join(render_status.text(report(live.where.target, live.project)).split())
    assert live.target.value("SELECT count(*) FROM confiture.event WHERE kind = 'forecast'") == 0
