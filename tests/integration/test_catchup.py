"""Passes of catch-up are numbered on both sides, so that a target that has lost a pass blocks the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture import commands
from confiture.capture import apply
from confiture.errors import Refused
from confiture.schema_to_schema import follow
from confiture.schema_to_schema import migrate as migrating
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


@pytest.mark.parametrize(
    ("backlogs", "number", "stalled"),
    [
        ((9000, 500), 2, False),
        ((9000, 9000, 9100), 3, True),
        ((9000, 9500, 8000, 8000, 8000), 5, True),
        ((9000, 8000, 7000, 6000, 10), 5, False),
    ],
)
def test_drain_ends_when_two_passes_do_not_shrink_the_backlog(
    databases: Databases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backlogs: tuple[int, ...],
    number: int,
    stalled: bool,
) -> None:
    table = "CREATE TABLE a (id int PRIMARY KEY, n int);"
    live = LiveRun(databases, tmp_path, f"{table} INSERT INTO a VALUES (1, 0)", table)
    live.setup()
    live.migrate()
    measured = iter(backlogs)

    def grow(context: object, plan: object) -> int:
        live.source.sql("UPDATE a SET n = n + 1")
        return next(measured)

    live.source.sql("UPDATE a SET n = n + 1")
    monkeypatch.setattr(follow, "measure", grow)
    monkeypatch.setattr(live.progress, "lines", [])
    with commands.holding.hold_run(live.where, "follow", live.progress) as (context, _):
        follow.drain(context, migrating.stored_plan(context), record_changed=True)
    reported = [line for line in live.progress.lines if line.startswith("pass ")]
    assert len(reported) == number
    assert f": 1 key, 1 row; {backlogs[0]:,} waiting" in reported[0]
    assert any("have not shrunk the backlog" in line for line in live.progress.lines) == stalled
