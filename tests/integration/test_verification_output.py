"""What verify prints: progress by table, sequences that are behind, and values that show NULL apart from a text."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.journal.model import Difference
from confiture.render import verification as render
from confiture.schema_to_schema.outcomes import Result, TableResult
from live import LiveRun
from servers import Databases

TABLES = """
CREATE TABLE a (id serial PRIMARY KEY, v text);
CREATE TABLE b (id int PRIMARY KEY, v text);
"""
ROWS = (
    "INSERT INTO a (v) SELECT n FROM generate_series(1, 20) n; INSERT INTO b SELECT n, n FROM generate_series(1, 9) n;"
)


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, TABLES + ROWS, TABLES, chunk_rows=7)
    run.setup()
    run.migrate()
    return run


def test_verify_reports_the_compared_rows_of_each_table(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int, str]] = []
    monkeypatch.setattr(live.progress, "table", lambda *reported: seen.append(reported))
    live.verify()
    assert [s for s in seen if s[0] == "a"] == [
        ("a", 7, 20, "comparing"),
        ("a", 14, 20, "comparing"),
        ("a", 20, 20, "comparing"),
        ("a", 20, 20, "compared"),
    ]
    assert ("public.b", 9, 9, "compared") in seen


def test_verify_reports_sequences_behind_the_source_without_a_difference(live: LiveRun) -> None:
    live.source.sql("SELECT setval('a_id_seq', 500)")
    result = live.verify()
    assert result.equal
    said = "\n".join(live.progress.lines)
    assert "1 sequence of the target behind the source (public.a_id_seq); the cutover sets them" in said
    assert "→ Sequences advance while the application writes" in render.text(result)
    live.cutover()
    assert live.target.value("SELECT nextval('a_id_seq')") > 500


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "NULL"), ("", "''"), ("NULL", "'NULL'"), ("x" * 99, f"'{'x' * 57}...'")]
)
def test_difference_shows_null_apart_from_texts(value: str | None, shown: str) -> None:
    found = Difference("rows", "a", "differs", {"id": "1"}, "v", value, "other")
    result = Result(1, (TableResult("public.a", "public.a", 1, 1, False),), {}, (found,))
    assert f"v differs: {shown} (source) ≠ 'other' (target)" in render.text(result)


def test_only_an_ambiguous_table_has_its_schema() -> None:
    tables = tuple(TableResult(name, name, 1, 1, True) for name in ("public.a", "public.b", "old.b", 'public."A b"'))
    lines = render.text(Result(1, tables, {}, ())).splitlines()
    assert [line.split(":")[0] for line in lines[1:5]] == ["  → a", "  → public.b", "  → old.b", '  → "A b"']
