"""The output of verify: progress by table, sequences that are behind, and values that show NULL apart from a text."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from confiture.compare import parts
from confiture.errors import Drained
from confiture.journal.model import Difference
from confiture.render import verification as render
from confiture.runner.stop import Stop
from confiture.schema_to_schema import verify
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
    live.verify(jobs=1)
    assert [s for s in seen if s[0] == "a"] == [
        ("a", 7, 20, "comparing"),
        ("a", 14, 20, "comparing"),
        ("a", 20, 20, "comparing"),
        ("a", 20, 20, "compared"),
    ]
    assert ("b", 9, 9, "compared") in seen


def counted(monkeypatch: pytest.MonkeyPatch, act: Callable[[str, int], object]) -> None:
    """Call ``act`` whenever rows of a table are compared, with its name and their number."""
    add = verify._Progress.add

    def adding(self: verify._Progress, rows: int) -> None:
        add(self, rows)
        act(self.name, rows)

    monkeypatch.setattr(verify._Progress, "add", adding)


def test_rows_inserted_since_the_copy_are_compared_in_parts(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are all in the last range of keys, which has no upper end."""
    seen: list[int] = []
    monkeypatch.setattr(parts, "PART_ROWS", 10)
    counted(monkeypatch, lambda name, rows: seen.append(rows) if name == "a" else None)
    live.source.sql("INSERT INTO a (v) SELECT n FROM generate_series(1, 40) n")
    assert live.verify(jobs=1).equal
    assert seen == [7, 7, 10, 10, 10, 10, 6]
    live.tamper("DELETE FROM a WHERE id = 31; UPDATE a SET v = 'x' WHERE id = 58")
    found = live.verify()
    assert [d.key for d in found.differences] == [{"id": "31"}, {"id": "58"}]


def test_a_signal_ends_a_long_part(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 10)
    live.source.sql("INSERT INTO a (v) SELECT n FROM generate_series(1, 40) n")
    heard, compared, handle = threading.Event(), [], Stop._heard
    monkeypatch.setattr(Stop, "_heard", lambda *given: (handle(*given), heard.set()))

    def at_a_bound(name: str, rows: int) -> None:
        compared.append(rows)
        if compared == [7, 7, 10, 10]:
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard.wait(10)

    counted(monkeypatch, at_a_bound)
    with pytest.raises(Drained):
        live.verify(jobs=1)
    assert compared == [7, 7, 10, 10]
    # The long part has no result.
    assert live.target.rows("SELECT subject, unit FROM confiture.verified_unit ORDER BY 2") == [
        ("public.a", 1),
        ("public.a", 2),
    ]
    assert live.verify().equal


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


def test_equal_tables_among_many_are_one_line() -> None:
    equal = [TableResult(f"public.t{n}", f"public.t{n}", n, n, True) for n in range(298)]
    wrong = TableResult("public.x", "public.x", 5, 4, False)
    later = TableResult("public.y", "public.y", 5, 5, True, in_cutover=True)
    text = render.text(Result(1, (*equal, wrong, later), {}, ()))
    assert text.splitlines()[:4] == [
        "✗ Row counts differ",
        "  → x: 5 (source) ≠ 4 (target)",
        "  → y: compared in the cutover, where it is copied again",
        "  → 298 other tables: 44,253 (source) = 44,253 (target)",
    ]
    assert "  → x differs" in text


def test_many_tables_that_differ_are_counted() -> None:
    tables = tuple(TableResult(f"public.t{n}", f"public.t{n}", n, n, False) for n in range(50))
    assert "  → 40 more tables" in render.text(Result(1, tables, {}, ())).splitlines()
