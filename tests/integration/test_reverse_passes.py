"""A rollback requires that neither side has lost a reverse pass, and it compares rows that no pass has seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.errors import Blocked, CutoverAborted
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO item SELECT n, n FROM generate_series(1, 40) n;
"""
NEW = "CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL)"
WRITE = "UPDATE item SET n = n WHERE id = 1"


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    """A run whose target is serving and that has applied one change in reverse."""
    run = LiveRun(databases, tmp_path, OLD, NEW)
    run.through()
    run.target.sql("UPDATE item SET n = 5 WHERE id = 1")
    run.follow()
    return run


def passes_of(live: LiveRun) -> str:
    """The table of the source that stores the number of the last reverse pass."""
    return f"{live.source.run_schema}.passes"


#: The record of the last reverse pass in the source after one side was restored, and the side that has lost changes.
LOST = {
    "a later pass": ("reverse = reverse + 2", "the target has lost changes"),
    "a later position of the target": ("target_lsn = 'FFFFFFFF/0'", "the target has lost changes"),
    "an earlier pass": ("reverse = reverse - 1", "the source has lost changes"),
}


@pytest.mark.parametrize(("change", "said"), LOST.values(), ids=LOST)
def test_a_rollback_is_refused_if_one_side_has_lost_a_pass(live: LiveRun, change: str, said: str) -> None:
    live.source.sql(f"UPDATE {passes_of(live)} SET {change}")
    for command in (live.follow, live.rollback):
        with pytest.raises(Blocked, match=said):
            command()
    assert live.open_sides(WRITE) == {"target"}


@pytest.mark.parametrize("change", [change for change, _ in LOST.values()], ids=LOST)
def test_a_reverse_pass_must_follow_the_last_one_recorded_on_both_sides(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The check at the start of a command misses a database that is restored during the command."""
    monkeypatch.setattr("confiture.capture.reverse_apply.refuse_behind", lambda context: None)
    live.target.sql("UPDATE item SET n = 6 WHERE id = 1")
    live.source.sql(f"UPDATE {passes_of(live)} SET {change}")
    with pytest.raises(Blocked, match="lost changes"):
        live.follow()
    assert live.source.value("SELECT n FROM item WHERE id = 1") == 5


def test_a_rollback_compares_every_row_after_a_rewrite_in_the_target(live: LiveRun) -> None:
    live.source.as_the_run("UPDATE item SET n = 7 WHERE id = 2")  # a change that no pass sees
    live.target.sql("VACUUM FULL item")
    with pytest.raises(CutoverAborted, match="source and target differ"):
        live.rollback()
    assert live.open_sides(WRITE) == {"target"}
    live.verify(repair=True)
    live.rollback()
    assert live.source.value("SELECT n FROM item WHERE id = 2") == 2
