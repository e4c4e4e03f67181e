"""Comparing every row again, in the background or for a cutover, finds the changes that capture cannot see."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from confiture import commands
from confiture.cli import options
from confiture.compare import compared_parts
from confiture.errors import Refused
from confiture.runner.context import Context
from confiture.schema_to_schema import background_verification
from confiture.schema_to_schema.outcomes import Limits
from confiture.status import report
from forked import Forks, until
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE a (id int PRIMARY KEY, n int);
CREATE TABLE b (code text COLLATE "C" PRIMARY KEY, n int);
CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100);
INSERT INTO a SELECT n, n FROM generate_series(1, 40) n;
INSERT INTO b SELECT 'c' || n, n FROM generate_series(1, 40) n;
INSERT INTO parted SELECT n, n FROM generate_series(1, 40) n;
"""
NEW = """
CREATE TABLE a (id bigint PRIMARY KEY, n bigint);
CREATE TABLE b (code text COLLATE ucs_basic PRIMARY KEY, n bigint);
CREATE TABLE parted (id bigint PRIMARY KEY, n bigint);
"""
#: Changes that a loader makes without firing a trigger, each detected in another way.
UNSEEN = {
    "changed": ("a", "UPDATE a SET n = -1 WHERE id = 33"),
    "added": ("a", "INSERT INTO a VALUES (50, 50)"),
    "removed, ordered differently": ("b", "DELETE FROM b WHERE code = 'c7'"),
    "changed in a partition": ("parted", "UPDATE part SET n = -1 WHERE id = 5"),
}


class Stopped(Exception):
    """Interrupts a command."""


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    return LiveRun(databases, tmp_path, OLD, NEW, chunk_rows=10).up_to_cutover()


def unseen(live: LiveRun, statement: str) -> None:
    """Write to the source as a loader that fires no triggers. Capture ignores the writes of Confiture itself."""
    live.source.as_the_run(statement)


def follow(live: LiveRun, verify_every: float | None) -> None:
    commands.follow.execute(live.where, True, live.progress, verify_every)


def age(live: LiveRun, seconds: int) -> None:
    """Make every verification so far older by this many seconds."""
    for table in ("verification", "verification_round"):
        live.target.sql(f"UPDATE confiture.{table} SET started_at = started_at - make_interval(secs => {seconds})")


def verification(live: LiveRun) -> dict[str, Any]:
    """The verification as status reports it."""
    return report.report(live.where.target, live.project).runs[0].verification


@pytest.mark.parametrize("change", UNSEEN)
def test_a_change_that_fires_no_trigger_is_found_by_a_round(live: LiveRun, change: str) -> None:
    table, statement = UNSEEN[change]
    unseen(live, statement)
    live.follow()
    assert live.state == "verified"  # no other check detects the change
    age(live, 100)
    follow(live, 60)
    assert live.state == "migrating"
    assert any(
        "a row that was verified differs now" in line and f"public.{table}" in line for line in live.progress.lines
    )
    assert verification(live)["last_complete_at"] is None
    assert live.verify(repair=True).equal
    live.assert_same(**{table: f"SELECT * FROM {table}"})


def test_an_uncaptured_change_is_found_by_another_verification(live: LiveRun) -> None:
    unseen(live, UNSEEN["changed"][1])
    assert [d.key for d in live.verify().differences] == [{"id": "33"}]


def test_a_cutover_refuses_an_old_verification_and_accepts_a_new_one(live: LiveRun) -> None:
    unseen(live, UNSEEN["changed"][1])
    age(live, 100)
    for act in (
        live.cutover,
        lambda limits: commands.cutover.rehearse(live.where, limits, live.project / "d", live.progress),
    ):
        with pytest.raises(Refused, match="too old") as refused:
            act(Limits(max_verification_age=60))
        assert "began 1 minute and " in refused.value.why
        assert "--max-verification-age is 1 minute" in refused.value.why
        assert refused.value.fix.endswith("--again")
    assert live.verify(repair=True).equal
    live.cutover(Limits(max_verification_age=60))
    live.assert_same(a="SELECT * FROM a")


def test_a_cutover_without_a_maximum_age_compares_only_captured_changes(live: LiveRun) -> None:
    unseen(live, UNSEEN["changed"][1])
    age(live, 100)
    live.cutover()
    assert live.target.value("SELECT n FROM a WHERE id = 33") == 33


def test_a_complete_round_renews_the_age_of_the_verification(live: LiveRun) -> None:
    age(live, 1000)
    before = verification(live)
    assert before["last_complete_seconds"] >= 1000
    follow(live, 60)
    after = verification(live)
    assert after["last_complete_at"] > before["last_complete_at"]
    assert after["last_complete_seconds"] < 900
    live.cutover(Limits(max_verification_age=900))
    assert live.state == "cutover"


def test_a_round_killed_at_a_commit_is_completed_by_the_same_command(live: LiveRun, forks: Forks) -> None:
    age(live, 1000)
    command = [*live.arguments("follow"), "--once", "--verify-every", "60s"]
    for point in ("round.begun.before_commit", "round.part.before_commit:2", "round.ended.before_commit"):
        killed = forks.run(command, live.project, CONFITURE_FAILPOINT=point)
        assert killed.code == -signal.SIGKILL, f"{point}: {killed.code}\n{killed.err}"
        assert verification(live)["last_complete_seconds"] >= 1000
    assert forks.run(command, live.project).code == 0
    assert verification(live)["last_complete_seconds"] < 900


def test_a_round_killed_before_it_has_reopened_the_run_finds_the_row_again(live: LiveRun, forks: Forks) -> None:
    unseen(live, UNSEEN["changed"][1])
    age(live, 100)
    command = [*live.arguments("follow"), "--once", "--verify-every", "60s"]
    killed = forks.run(command, live.project, CONFITURE_FAILPOINT="verify.reopened.before_commit")
    assert (killed.code, live.state) == (-signal.SIGKILL, "verified"), killed.err
    forks.run(command, live.project)
    assert live.state == "migrating"


def test_an_interrupted_round_renews_nothing_and_resumes_at_its_position(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(live, 1000)
    every = compared(monkeypatch, breaks_after=3)
    with pytest.raises(Stopped):
        follow(live, 60)
    first = list(every)
    assert verification(live)["last_complete_seconds"] >= 1000
    live.source.sql("UPDATE a SET n = -n")  # captured, and applied before the round continues
    monkeypatch.undo()
    every = compared(monkeypatch)
    follow(live, 60)
    assert len(first) == 4
    assert every[0] == first[3]  # the interrupted part, and none before it
    assert (
        len({*first, *every}) == len(first) + len(every) - 1 == 4 + 1 + 4
    )  # a and parted have four chunks, b is one part
    assert verification(live)["last_complete_seconds"] < 900
    assert live.state == "verified"


def compared(monkeypatch: pytest.MonkeyPatch, breaks_after: int | None = None) -> list[tuple[str, int]]:
    """The parts that are compared from here on, by table and number.

    The command is stopped in the part after the first ``breaks_after`` ones.
    """
    found: list[tuple[str, int]] = []
    recorded = compared_parts._recorded

    def noting(job: Any, number: int, part: Any) -> Any:
        found.append((str(job.table.target), number))
        if breaks_after is not None and len(found) > breaks_after:
            raise Stopped
        return recorded(job, number, part)

    monkeypatch.setattr(compared_parts, "_recorded", noting)
    return found


def test_no_round_begins_before_it_is_due_or_unless_requested(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    every = compared(monkeypatch)
    follow(live, 1000)
    age(live, 500)
    follow(live, 1000)
    follow(live, 0)
    follow(live, None)
    assert every == []
    age(live, 501)
    follow(live, 1000)
    assert len(every) == 9


def test_the_round_of_a_repeated_verification_starts_from_the_beginning(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(live, 100)
    compared(monkeypatch, breaks_after=3)
    with pytest.raises(Stopped):
        follow(live, 60)
    monkeypatch.undo()
    assert live.verify().equal
    age(live, 100)
    every = compared(monkeypatch)
    follow(live, 60)
    assert len(every) == 9
    assert live.target.rows("SELECT number, verification, ended_at IS NULL FROM confiture.verification_round") == [
        (1, 2, False)
    ]


def test_follow_verifies_in_the_background_while_the_application_writes(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_verification, "EVERY_SECONDS", 60.0)
    age(live, 100)
    unseen(live, UNSEEN["added"][1])
    contexts: list[Context] = []
    checkpoint = Context.checkpoint
    monkeypatch.setattr(Context, "checkpoint", lambda c, **o: (contexts.append(c), checkpoint(c, **o))[1])
    following = threading.Thread(target=_quietly(lambda: commands.follow.execute(live.where, False, live.progress)))
    following.start()
    try:
        written = iter(range(100, 10_000))
        until(
            lambda: live.source.sql(f"UPDATE a SET n = {next(written)} WHERE id < 9") or live.state == "migrating",
            "the round to find the change",
        )
    finally:
        contexts[-1].lost.set()
        following.join()


def _quietly(act: Callable[[], object]) -> Callable[[], None]:
    def done() -> None:
        try:
            act()
        except Exception:  # noqa: BLE001 - the command was ended
            return

    return done


@pytest.mark.parametrize(("text", "wanted"), [("90", 90), ("1.5m", 90), ("24h", 86400), ("2d", 172800), ("0", 0)])
def test_a_duration_has_a_unit_or_is_seconds(text: str, wanted: float) -> None:
    assert options.seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "h", "1w", "-1h", "nan", "inf", "one"])
def test_a_value_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        options.seconds(text)
