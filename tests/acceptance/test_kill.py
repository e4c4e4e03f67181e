"""``kill -9`` at every crash point of a run: the same command continues, and every row arrives once.

Each case kills one command repeatedly, at points before and after its commits. A command that does not reach its
crash point fails the test.
"""

from __future__ import annotations

import json
import re
import signal
from itertools import chain
from pathlib import Path

import pytest

import matrix
import small_move
from conftest import ROOT
from forked import Forks
from live import LIVE_POINTS, POINTS_OF_THEIR_OWN
from servers import Databases
from small_move import CHUNK_ROWS, SmallMove

KILLED = -signal.SIGKILL
TAKEOVER = ("takeover.before_source", "takeover.before_target", "takeover.after_target")
REPLAN = ("views.before_commit", "views.after_commit", "store.before_commit", "store.after_commit")
SETUP = (
    "setup.database_made",
    "setup.run.before_commit",
    *TAKEOVER,
    "setup.source_schema.before_commit",
    "setup.outside:1",
    "setup.before_commit:1",
    "setup.after_commit:2",
    "setup.before_commit:1",
    "setup.after_commit:1",
    "setup.outside:1",
    "setup.before_commit:2",
    *REPLAN,
    "views.named.before_commit",
    "release.before_commit",
)
COPY = (
    "state.begin.before_commit",
    "state.begin.after_commit",
    "plan.before_commit",
    "plan.after_commit",
    "claim.before_commit",
    "claim.after_commit",
    "copy.before_commit:2",
    "copy.after_commit:3",
    "takeover.terminated",
    *TAKEOVER,
    "plan.before_commit",
    "copy.before_commit",
)
FINISH = (
    "rebuild.before_commit:1",
    "rebuild.after_commit:1",
    "rebuild.before_commit:3",
    "rebuild.after_commit:4",
    "copied.before_commit",
    "copied.after_commit",
    "release.before_commit",
)
RESTART = (*REPLAN, "views.named.before_commit", "copy.before_commit:4", "rebuild.before_commit:2")
VERIFY = (
    "verify.before_commit:1",
    "verify.after_commit:7",
    "verify.close.before_commit",
    "state.verify.before_commit",
    "state.verify.after_commit",
)
CUTOVER = (
    "cutover.before_commit:2",
    "cutover.after_commit:1",
    "cutover.locked",
    "cutover.sequences.before_commit",
    "verify.before_commit:5",
    "cutover.switch.before_commit",
    "cutover.switch.after_commit",
    "hook.before",
    "hook.after",
)
CLEANUP = (
    "cleanup.before_commit:1",
    "cleanup.after_commit:1",
    "drop_source.before_commit",
    "cleanup.outside",
    "clean.before_commit",
    "clean.after_commit",
)
ABORT = (
    "abort.before_commit:1",
    "abort.before_commit:2",
    "abort.after_commit:1",
    "drop_source.before_commit",
    "abort.outside",
    # These two are around the commit of the state.
    "abort.before_commit:2",
    "abort.after_commit:1",
)
#: The points around every commit, at which the kill matrix kills.
MATRIX_POINTS = {"commit.before", "commit.after"}
ALL_POINTS = (*SETUP, *COPY, *FINISH, *RESTART, *VERIFY, *CUTOVER, *CLEANUP, *ABORT)

STEPS = ("setup", "migrate", "verify", "cutover", "cleanup")


@pytest.fixture
def move(databases: Databases, tmp_path: Path) -> SmallMove:
    """A run of which only the source and the project exist."""
    return small_move.make(databases, tmp_path)


def kill(forks: Forks, move: SmallMove, step: str, points: tuple[str, ...], *options: str) -> None:
    """Run a command, killed at each of the points in turn, until it ends."""
    for point in points:
        died = forks.run(move.arguments(step, *options), move.project, CONFITURE_FAILPOINT=point)
        assert died.code == KILLED, f"{step} did not reach {point}: exit {died.code}\n{died.out}\n{died.err}"
        if step == "migrate":
            move.assert_rows_and_checkpoints_agree()
    ended = forks.run(move.arguments(step, *options), move.project)
    assert ended.code == 0, f"{step}: exit {ended.code}\n{ended.err}"


def options_of_setup(move: SmallMove, strategy: str = "auto") -> tuple[str, ...]:
    return ("--mapping", str(move.mapping), "--chunk-rows", str(CHUNK_ROWS), "--strategy", strategy)


def run_up_to(move: SmallMove, last: str) -> None:
    """Run every command up to ``last`` without a kill."""
    move.run("setup", *options_of_setup(move))
    for step in STEPS[1 : STEPS.index(last) + 1]:
        move.run(step)


def run_after(move: SmallMove, step: str) -> None:
    """Run the commands that follow ``step``."""
    for following in STEPS[STEPS.index(step) + 1 :]:
        move.run(following)


def assert_complete_and_clean(move: SmallMove, databases: Databases) -> None:
    """Check that every row exists once, the design is complete, and nothing of the run is left on either side."""
    assert move.state() == "cleaned"
    move.assert_every_row_arrived_once()
    move.assert_rows_and_checkpoints_agree()
    move.assert_as_designed(databases)
    move.assert_nothing_is_left()
    move.assert_the_source_is_as_it_was(databases)


def test_every_crash_point_of_the_program_has_a_test() -> None:
    """A new crash point in the program must be added to a test."""
    named: set[str] = set()
    for path in (ROOT / "src" / "confiture").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'failpoint\(f?"([^"]+)"\)', text))
        named |= {f"{name}.before_commit" for name in re.findall(r'fenced(?:_source)?\(f?"([^"]+)"', text)}
    live = chain.from_iterable(LIVE_POINTS.values())
    by_number = {f"{name}.before_commit" for name in chain.from_iterable(matrix.BY_NUMBER.values())}
    by_name = {point.partition(":")[0] for point in (*ALL_POINTS, *live, *POINTS_OF_THEIR_OWN)}
    assert by_name.isdisjoint(by_number)
    killed = by_name | by_number | MATRIX_POINTS
    for name in named:
        pattern = re.sub(r"\\\{\w+\\\}", r"\\w+", re.escape(name))
        assert any(re.fullmatch(pattern, point) for point in killed), f"no test kills at {name}"


def test_the_same_command_finishes_a_killed_setup(forks: Forks, move: SmallMove, databases: Databases) -> None:
    kill(forks, move, "setup", SETUP, *options_of_setup(move))
    run_after(move, "setup")
    assert_complete_and_clean(move, databases)


@pytest.mark.parametrize("strategy", ["fdw", "copy"])
def test_a_killed_copy_copies_every_row_once(
    forks: Forks, move: SmallMove, databases: Databases, strategy: str
) -> None:
    move.run("setup", *options_of_setup(move, strategy))
    kill(forks, move, "migrate", COPY)
    run_after(move, "migrate")
    assert_complete_and_clean(move, databases)


def test_indexes_and_keys_are_restored_once(forks: Forks, move: SmallMove, databases: Databases) -> None:
    move.run("setup", *options_of_setup(move))
    kill(forks, move, "migrate", FINISH)
    run_after(move, "migrate")
    assert_complete_and_clean(move, databases)


def test_a_table_restarted_with_another_mapping_has_rows_of_one_mapping(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    """The table is already verified, other tables refer to it, and each kill may leave the plan on only one side."""
    move.mapping.write_text(small_move.MAPPING.replace("cents::int", "cents::int + 1"))
    run_up_to(move, "verify")
    move.mapping.write_text(small_move.MAPPING)
    kill(forks, move, "migrate", RESTART, "--mapping", str(move.mapping), "--restart-table", "post")
    run_after(move, "migrate")
    assert_complete_and_clean(move, databases)


def test_the_same_command_finishes_a_killed_verify(forks: Forks, move: SmallMove, databases: Databases) -> None:
    run_up_to(move, "migrate")
    kill(forks, move, "verify", VERIFY)
    assert move.target.value("SELECT count(*) FROM confiture.verification WHERE verdict IS DISTINCT FROM 'equal'") == 0
    assert move.target.value("SELECT count(*) FROM confiture.event WHERE to_state = 'verified'") == 1
    run_after(move, "verify")
    assert_complete_and_clean(move, databases)


def test_a_verify_killed_before_its_report_reports_differences_again(forks: Forks, move: SmallMove) -> None:
    run_up_to(move, "migrate")
    move.target.sql("DELETE FROM post WHERE ctid = (SELECT max(ctid) FROM post)")
    report = move.project / "differences.jsonl"
    verify = move.arguments("verify", "--differences", str(report))
    for point in ("verify.close.before_commit", "report.written"):
        assert forks.run(verify, move.project, CONFITURE_FAILPOINT=point).code == KILLED
    assert forks.run(verify, move.project).code == 7
    assert [json.loads(line)["kind"] for line in report.read_text().splitlines()] == ["missing in target"]


def test_a_killed_cutover_takes_effect_at_most_once(forks: Forks, move: SmallMove, databases: Databases) -> None:
    run_up_to(move, "verify")
    kill(forks, move, "cutover", CUTOVER, "--hook", "switch=true")
    assert move.target.value("SELECT count(*) FROM confiture.event WHERE to_state = 'cutover'") == 1
    run_after(move, "cutover")
    assert_complete_and_clean(move, databases)


def test_a_killed_cleanup_leaves_nothing(forks: Forks, move: SmallMove, databases: Databases) -> None:
    run_up_to(move, "cutover")
    assert forks.run(move.arguments("cleanup"), move.project, CONFITURE_FAILPOINT="cleanup.outside").code == KILLED
    for step in ("cutover", "rollback"):
        assert "the cleanup of run" in move.run(step, code=4).err
    kill(forks, move, "cleanup", CLEANUP)
    assert_complete_and_clean(move, databases)


def test_a_killed_abort_leaves_only_the_journal_and_allows_a_new_run(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    run_up_to(move, "verify")
    assert forks.run(move.arguments("abort"), move.project, CONFITURE_FAILPOINT=ABORT[0]).code == KILLED
    for step in STEPS[1:4]:
        assert "the abort of run" in move.run(step, code=4).err
    kill(forks, move, "abort", ABORT[1:])
    assert move.state() == "aborted"
    assert move.target.rows(small_move.DESIGN) == []
    move.assert_nothing_is_left()
    move.assert_the_source_is_as_it_was(databases)
    run_up_to(move, "cleanup")
    assert move.target.value("SELECT count(*) FROM confiture.run") == 2
    move.assert_every_row_arrived_once()
    move.assert_as_designed(databases)
    move.assert_nothing_is_left()


def test_kills_in_a_takeover_and_in_its_chunk_are_recovered(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    """A kill in a chunk, one in the takeover, and two more in the same chunk: finally the chunk is halved."""
    move.run("setup", *options_of_setup(move, "copy"))
    dying = ("copy.before_commit:2", "takeover.before_target", "copy.before_commit:1")
    points = (*dying, "chunk.halved.before_commit", "copy.before_commit:1")
    kill(forks, move, "migrate", points)
    assert len(move.chunks("app_user")) > 3
    run_after(move, "migrate")
    assert_complete_and_clean(move, databases)


def test_a_setup_killed_before_it_stores_the_plan_is_run_again(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    setup = move.arguments("setup", *options_of_setup(move))
    assert forks.run(setup, move.project, CONFITURE_FAILPOINT="store.before_commit").code == KILLED
    # Without a plan, migrate would copy rows without the mapping and the options of setup.
    assert "run the same setup command again" in move.run("migrate", code=4).err
    assert forks.run(setup, move.project).code == 0
    assert len(move.chunks("app_user")) == 0
    run_after(move, "setup")
    assert len(move.chunks("app_user")) == 3
    assert_complete_and_clean(move, databases)


def fail(forks: Forks, move: SmallMove, step: str, points: tuple[str, ...]) -> None:
    """Take a step that fails, killed at each of the points in turn; the error is recorded in the end."""
    for point in points:
        died = forks.run(move.arguments(step), move.project, CONFITURE_FAILPOINT=point)
        assert died.code == KILLED, f"{step} did not reach {point}: exit {died.code}\n{died.err}"
        assert move.journal("blocked_reason") is None
    assert forks.run(move.arguments(step), move.project).code > 0
    assert move.journal("blocked_reason") is not None


def test_a_command_killed_before_it_has_recorded_its_error_records_it(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    move.source.sql("UPDATE tb_post SET cents = 'many' WHERE id = 450")
    run_up_to(move, "setup")
    fail(forks, move, "migrate", ("copy.bad_row.before_commit", "blocked.before_commit"))
    move.source.sql("UPDATE tb_post SET cents = '150' WHERE id = 450")
    run_after(move, "setup")
    assert_complete_and_clean(move, databases)


def test_a_command_killed_before_it_has_cleared_an_error_clears_it(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    run_up_to(move, "migrate")
    move.source.sql("CREATE TABLE came_later (id int)")
    fail(forks, move, "verify", ("blocked.before_commit",))
    move.source.sql("DROP TABLE came_later")
    kill(forks, move, "verify", ("unblocked.before_commit",))
    assert move.state() == "verified"
    assert move.journal("blocked_reason") is None
    run_after(move, "verify")
    assert_complete_and_clean(move, databases)


def test_a_killed_abort_restores_the_tables_that_existed_before(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    """Abort does not drop tables that existed before setup. It empties them and restores their deferred objects."""
    databases.make(move.target.name)
    move.target.sql(small_move.TARGET_DDL)
    run_up_to(move, "verify")
    move.assert_every_row_arrived_once()
    kill(forks, move, "abort", ("abort.before_commit:3", "abort.after_commit:1"))
    move.assert_as_designed(databases)
    move.assert_nothing_is_left()
    assert [move.target.value(f"SELECT count(*) FROM {table}") for table in small_move.EXPECTED] == [0] * 5
    run_up_to(move, "cleanup")
    move.assert_every_row_arrived_once()


def test_planning_of_many_batches_continues_after_its_cursor(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    move.run("setup", "--mapping", str(move.mapping), "--chunk-rows", "12")
    # The third hit is in the second batch of table post.
    kill(
        forks,
        move,
        "migrate",
        ("plan.before_commit:3", "plan.before_commit", "plan.after_commit", "copy.after_commit:3"),
    )
    assert [len(move.chunks(table)) for table in ("app_user", "post", "tag")] == [10, 25, 17]
    run_after(move, "migrate")
    assert_complete_and_clean(move, databases)
