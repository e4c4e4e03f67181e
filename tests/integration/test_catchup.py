"""Passes of catch-up are numbered on both sides, so that a target that has lost a pass blocks the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.capture import apply
from confiture.errors import Refused
from live import LiveRun
from servers import Databases

TABLE = "CREATE TABLE item (id int PRIMARY KEY, n int);"


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    return LiveRun(
        databases, tmp_path, f"{TABLE} INSERT INTO item SELECT n, n FROM generate_series(1, 9) n", TABLE
    ).up_to_cutover()


def passes(live: LiveRun) -> tuple[int, int]:
    """The number of the last pass that each side has recorded."""
    schema = live.source.run_schema
    known = live.source.value(f"SELECT number FROM {schema}.passes")
    return known, live.target.value("SELECT pass FROM confiture.catchup")


def test_both_sides_record_the_number_of_a_pass(live: LiveRun) -> None:
    before = passes(live)
    live.source.sql("UPDATE item SET n = 0")
    live.follow()
    assert passes(live) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize("step", ["follow", "cutover"])
def test_a_target_that_is_behind_its_source_blocks_the_run(live: LiveRun, step: str) -> None:
    live.source.sql("UPDATE item SET n = 0")
    live.follow()
    schema = live.source.run_schema
    # The source is one pass ahead, as after a failover of the target that lost its last commits.
    live.source.sql(f"UPDATE {schema}.passes SET number = number + 1")
    with pytest.raises(Refused, match="lost changes"):
        getattr(live, step)()
    assert live.state == "verified"


@pytest.mark.parametrize(("change", "side"), [("number + 2", "target"), ("number - 2", "source")])
def test_pass_is_refused_unless_both_sides_record_the_previous_one(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch, change: str, side: str
) -> None:
    """The check at the start of a command misses a database that is restored during the command."""
    for n in (1, 2):
        live.source.sql(f"UPDATE item SET n = {n}")
        live.follow()
    monkeypatch.setattr(apply, "refuse_behind", lambda context: None)
    live.source.sql("UPDATE item SET n = 3")
    schema = live.source.run_schema
    live.source.sql(f"UPDATE {schema}.passes SET number = {change}")
    with pytest.raises(Refused, match=f"the {side} has lost changes"):
        live.follow()
    assert live.target.value("SELECT count(*) FROM item WHERE n = 3") == 0
