"""Materialized views are refreshed after the cutover, or reported as stale by name."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from confiture.schema_to_schema import materialized_views
from confiture.status import report
from forked import Forks
from live import LiveRun
from servers import Databases

TABLES = "CREATE TABLE a (id int PRIMARY KEY, v int);"
ROWS = "INSERT INTO a SELECT n, n FROM generate_series(1, 20) n;"
VIEWS = """
CREATE MATERIALIZED VIEW "select" AS SELECT count(*) AS n, sum(v) AS total FROM a;
CREATE MATERIALIZED VIEW by_id AS SELECT id, v FROM a; CREATE UNIQUE INDEX ON by_id (id);
CREATE VIEW between AS SELECT max(v) AS v FROM by_id;
CREATE MATERIALIZED VIEW above AS SELECT v FROM between;
CREATE MATERIALIZED VIEW bare AS SELECT v FROM a WITH NO DATA;
"""
TOTALS = 'SELECT (SELECT total FROM "select"), (SELECT sum(v) FROM by_id), (SELECT v FROM above)'
POPULATED = "SELECT relname FROM pg_class WHERE relkind = 'm' AND relispopulated ORDER BY 1"


def _stale(live: LiveRun) -> tuple[str, ...]:
    return report.report(live.target.conninfo, live.project).runs[0].stale_views


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
def test_populated_views_are_refreshed_after_the_last_change(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    live = LiveRun(request.getfixturevalue(kind), tmp_path, TABLES + ROWS, TABLES + VIEWS)
    live.setup()
    live.migrate()
    live.source.sql("UPDATE a SET v = 1000 WHERE id = 1")
    assert live.verify().equal
    live.cutover()
    assert live.target.rows(TOTALS) == [(1209, 1209, 1000)]
    assert live.target.rows(POPULATED) == [("above",), ("by_id",), ("select",)]
    assert _stale(live) == ()
    live.target.sql("UPDATE a SET v = 2000 WHERE id = 1")
    live.rollback()
    live.source.sql("UPDATE a SET v = 3000 WHERE id = 1")
    assert live.verify().equal
    live.cutover()
    assert live.target.rows(TOTALS) == [(3209, 3209, 3000)]
    live.cleanup()


def test_a_view_readable_on_the_source_is_readable_in_the_target(databases: Databases, tmp_path: Path) -> None:
    """``pg_dump`` writes each materialized view WITH NO DATA, also those that have data."""
    views = """
    CREATE MATERIALIZED VIEW base AS SELECT v FROM a WITH NO DATA;
    CREATE VIEW placeholder AS SELECT 1 AS v;
    CREATE MATERIALIZED VIEW early AS SELECT v FROM placeholder WITH NO DATA;
    CREATE MATERIALIZED VIEW late AS SELECT sum(v)::int AS v FROM base WITH NO DATA;
    CREATE OR REPLACE VIEW placeholder AS SELECT v FROM late;
    CREATE MATERIALIZED VIEW "not read" AS SELECT v FROM a WITH NO DATA;
    """
    filled = "REFRESH MATERIALIZED VIEW base; REFRESH MATERIALIZED VIEW late; REFRESH MATERIALIZED VIEW early;"
    live = LiveRun(databases, tmp_path, TABLES + ROWS + views + filled, TABLES + views)
    live.source.sql("REFRESH MATERIALIZED VIEW base WITH NO DATA")  # `late` and `early` can still be read
    live.setup()
    assert 'materialized view public."not read" is not refreshed' in "\n".join(live.plan().notes)
    live.migrate()
    assert live.target.value("SELECT v FROM early") == 210
    live.source.sql("UPDATE a SET v = 1000 WHERE id = 1")
    assert live.verify().equal
    live.cutover()
    assert live.target.value("SELECT v FROM early") == 1209
    assert live.target.rows(POPULATED) == [("base",), ("early",), ("late",)]


def test_a_refresh_that_fails_is_reported_and_retried_by_the_command(
    databases: Databases, tmp_path: Path, forks: Forks
) -> None:
    failing = "CREATE MATERIALIZED VIEW failing AS SELECT 1 / (v - 7777) AS q FROM a;"
    live = LiveRun(databases, tmp_path, TABLES + ROWS, TABLES + failing + VIEWS)
    live.setup()
    live.migrate()
    live.source.sql("UPDATE a SET v = 7777 WHERE id = 1")
    assert live.verify().equal
    point = {"CONFITURE_FAILPOINT": "view.stale.before_commit"}
    assert forks.run(live.arguments("cutover"), live.project, **point).code == -signal.SIGKILL
    live.cutover()
    assert live.state == "cutover"
    assert live.target.value('SELECT total FROM "select"') == 7986
    assert _stale(live) == ("public.failing",)
    said = "\n".join(live.progress.lines)
    assert "materialized view public.failing is stale: division by zero (22012); run: REFRESH MATERIALIZED VIEW" in said
    live.target.sql("UPDATE a SET v = 1 WHERE id = 1")
    live.cutover()
    assert _stale(live) == ()
    assert live.target.value("SELECT count(*) FROM failing") == 20


@pytest.mark.parametrize("capture", [True, False])
def test_a_view_whose_query_fails_for_the_rows_does_not_stop_the_copy(
    databases: Databases, tmp_path: Path, capture: bool
) -> None:
    failing = """
    CREATE MATERIALIZED VIEW divides AS SELECT 1 / (v - 5) AS q FROM a;
    CREATE MATERIALIZED VIEW repeats AS SELECT v / 2 AS half FROM a; CREATE UNIQUE INDEX ON repeats (half);
    CREATE FUNCTION complain(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN IF $1 = 15 THEN RAISE ''no''; END IF;
        RETURN $1; END';
    CREATE MATERIALIZED VIEW complains AS SELECT complain(v) FROM a;
    CREATE MATERIALIZED VIEW reads AS SELECT * FROM complains;
    """
    live = LiveRun(databases, tmp_path, TABLES + ROWS, TABLES + failing + VIEWS)
    live.setup(capture=capture)
    live.migrate()
    said = "\n".join(live.progress.lines)
    assert "materialized view public.divides is stale: division by zero (22012)" in said
    assert "materialized view public.repeats is stale: " in said
    assert "materialized view public.complains is stale: no (P0001)" in said
    assert live.verify().equal
    live.cutover()
    assert live.target.value('SELECT total FROM "select"') == 210
    live.cleanup()


def test_readers_of_a_view_with_a_unique_index_are_not_blocked(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveRun(databases, tmp_path, TABLES + ROWS, TABLES + VIEWS)
    live.setup()
    live.migrate()
    live.source.sql("UPDATE a SET v = 1000 WHERE id = 1")
    assert live.verify().equal
    with live.target.connect(autocommit=False) as reader:
        real = materialized_views.refresh

        def read_and_refresh(*arguments: object) -> None:
            reader.execute("SELECT * FROM by_id")  # and the transaction stays open
            real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(materialized_views, "refresh", read_and_refresh)
        live.cutover()
        reader.rollback()
    assert live.target.value("SELECT sum(v) FROM by_id") == 1209
