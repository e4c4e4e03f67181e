"""Rows that differ while the application writes: verify finds a wrong row among any number of rows that only lag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from confiture.compare import parts, suspects
from live import LiveRun, Quiet
from servers import Databases

OLD = """
CREATE TABLE a_first (id int PRIMARY KEY);
CREATE TABLE item (id int PRIMARY KEY, amount int NOT NULL);
INSERT INTO item SELECT n, n FROM generate_series(1, 3000) n;
"""
NEW = """
CREATE TABLE a_first (id bigint PRIMARY KEY);
CREATE TABLE item (id bigint PRIMARY KEY, amount bigint NOT NULL);
"""
#: The last of all keys in the order of text.
WRONG = 999


class DuringVerify(Quiet):
    """Calls ``act`` after the first table is verified and before the second table is read."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act = act

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        if (name, phase) == ("public.a_first", "compared"):
            self.act()


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    """A run whose second table changes in every row but one, after verify has caught up."""
    run = LiveRun(databases, tmp_path, OLD, NEW)
    run.setup()
    run.migrate()
    run.progress = DuringVerify(
        lambda: run.source.sql(f"UPDATE item SET amount = amount + 1 WHERE id <> {WRONG}"),
    )
    return run


def test_a_constantly_changing_row_is_not_reported_as_different(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    read = suspects._read

    def then_it_changes(*args: Any) -> object:
        found = read(*args)
        live.source.sql("UPDATE item SET amount = amount + 1 WHERE id = 1")
        return found

    monkeypatch.setattr(suspects, "_read", then_it_changes)
    assert live.verify().equal


def test_rows_that_are_only_behind_are_not_reported_as_different(live: LiveRun) -> None:
    assert live.verify().equal


def test_a_wrong_row_is_found_among_thousands_that_are_only_behind(live: LiveRun) -> None:
    live.tamper(f"UPDATE item SET amount = -1 WHERE id = {WRONG}")
    assert [d.key for d in live.verify().differences] == [{"id": str(WRONG)}]


TEXT_KEYS = """
CREATE TABLE word (code text PRIMARY KEY, n int);
INSERT INTO word SELECT 'c' || n, n FROM generate_series(1, 9) n;
"""


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        ("UPDATE word SET n = 0 WHERE code = 'c7'", "UPDATE word SET n = 7 WHERE code = 'c7'"),
        ("DELETE FROM word WHERE code = 'c7'", "INSERT INTO word VALUES ('c7', 7)"),
        ("INSERT INTO word VALUES ('new', 0)", "DELETE FROM word WHERE code = 'new'"),
        ("TRUNCATE word", "INSERT INTO word SELECT 'c' || n, n FROM generate_series(1, 9) n"),
    ],
)
def test_a_change_that_is_undone_before_its_rows_are_read_is_no_difference(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, undo: str
) -> None:
    """The keys are ordered differently, so that the sums and the rows of the table are read at different times."""
    live = LiveRun(databases, tmp_path, TEXT_KEYS, 'CREATE TABLE word (code text COLLATE "C" PRIMARY KEY, n bigint)')
    live.setup()
    live.migrate()
    sums, rows = parts._source_sums, parts._differing_rows

    def of_changed(*args: Any) -> object:
        live.source.sql(change)
        return sums(*args)

    def of_unchanged(*args: Any) -> object:
        live.source.sql(undo)
        monkeypatch.setattr(parts, "_source_sums", sums)
        return rows(*args)

    monkeypatch.setattr(parts, "_source_sums", of_changed)
    monkeypatch.setattr(parts, "_differing_rows", of_unchanged)
    found = live.verify()
    monkeypatch.undo()
    assert (found.equal, found.differences) == (True, ())
    live.cutover()
    live.assert_same(word="SELECT code, n FROM word")
