"""Two runs of one source: at most one of their targets takes writes (docs/invariants.md, I-8.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from confiture.commands.endpoints import Endpoints
from confiture.errors import Blocked, CutoverAborted, Refused
from confiture.schema_to_schema import cutover
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE item (id int PRIMARY KEY, n int);
CREATE TABLE other (id int PRIMARY KEY);
INSERT INTO item SELECT n, n FROM generate_series(1, 30) n;
"""
NEW = "CREATE TABLE item (id bigint PRIMARY KEY, n bigint); CREATE TABLE other (id bigint PRIMARY KEY);"
WRITE = "INSERT INTO item (id) VALUES (-1)"


def second(first: LiveRun, databases: Databases, folder: Path, mapping: str = "", new: str = NEW) -> LiveRun:
    """A run of the same source into a target of its own."""
    run = LiveRun(databases, folder, "SELECT", new, mapping)
    run.source = first.source
    run.where = Endpoints(run.target.conninfo, first.source.conninfo, run.project)
    return run


@pytest.fixture
def first(databases: Databases, tmp_path: Path) -> LiveRun:
    return LiveRun(databases, tmp_path / "first", OLD, NEW)


@pytest.mark.parametrize("capture", [True, False])
def test_a_source_that_another_run_has_closed_is_refused(
    first: LiveRun, databases: Databases, tmp_path: Path, capture: bool
) -> None:
    first.through()
    later = second(first, databases, tmp_path / "later")
    with pytest.raises(Refused, match=r"public\.item of the source is closed by another run"):
        later.setup(capture=capture)
    assert first.open_sides(WRITE) == {"target"}


def test_a_closed_source_is_also_refused_after_cleanup(first: LiveRun, databases: Databases, tmp_path: Path) -> None:
    first.through()
    first.cleanup()
    with pytest.raises(Refused, match="closed by another run"):
        second(first, databases, tmp_path / "later").plan()


def test_a_source_is_accepted_again_after_a_rollback(first: LiveRun, databases: Databases, tmp_path: Path) -> None:
    first.through()
    first.rollback()
    first.abort()
    later = second(first, databases, tmp_path / "later")
    later.through()
    assert later.open_sides(WRITE) == {"target"}


def test_a_second_run_for_the_other_tables_is_accepted(databases: Databases, tmp_path: Path) -> None:
    only_item = "CREATE TABLE item (id bigint PRIMARY KEY, n bigint);"
    first = LiveRun(databases, tmp_path / "first", OLD, only_item, "$omit: [other]\n")
    first.through()
    only_other = "CREATE TABLE other (id bigint PRIMARY KEY);"
    later = second(first, databases, tmp_path / "later", "$omit: [item]\n", only_other)
    later.through()
    assert later.open_sides("INSERT INTO other VALUES (1)") == {"target"}


@pytest.mark.parametrize("capture", [True, False])
def test_only_one_target_of_two_verified_runs_opens(
    first: LiveRun, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capture: bool
) -> None:
    """The other cutover commits after this cutover has checked the source, and before it acquires its lock."""
    first.up_to_cutover()
    later = second(first, databases, tmp_path / "later")
    later.setup(capture=capture)
    later.migrate()
    assert later.verify().equal
    # The fingerprint would also detect the triggers of the other run. It is disabled, so that only this check is left.
    monkeypatch.setattr("confiture.fingerprint.changes", lambda *args: [])
    close = cutover._close

    def after_the_other(*args: Any) -> None:
        monkeypatch.setattr(cutover, "_close", close)
        first.cutover()
        close(*args)

    if capture:
        monkeypatch.setattr(cutover, "_close", after_the_other)
    else:
        first.cutover()
    with pytest.raises(CutoverAborted, match="closed by another run"):
        later.cutover()
    monkeypatch.undo()
    assert first.open_sides(WRITE) == {"target"}
    assert later.state == "verified"


def test_a_run_is_blocked_when_a_second_run_starts(first: LiveRun, databases: Databases, tmp_path: Path) -> None:
    first.up_to_cutover()
    second(first, databases, tmp_path / "later").setup()
    with pytest.raises(Blocked, match="was changed during the run"):
        first.cutover()
