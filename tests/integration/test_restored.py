"""A server restored to an earlier state: no lost row is served, and each refusal names a command that continues."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from confiture.errors import Blocked, CutoverAborted, Refused
from forked import Forks, until
from live import LiveRun
from servers import Databases, back_up, restore, restored_after
from stateful import EXPIRE_LEASE

OLD = """
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 100) n;
CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
INSERT INTO u SELECT n, n FROM generate_series(1, 20) n;
"""
NEW = """
CREATE TABLE t (id bigint PRIMARY KEY, v text);
CREATE TABLE u (id bigint PRIMARY KEY, t bigint REFERENCES t ON DELETE CASCADE);
"""
WRITE = "UPDATE t SET v = 'later' WHERE id < 10"
SAME = {"t": "SELECT id, v FROM t", "u": "SELECT id, t FROM u"}
PROBE = "UPDATE t SET v = v WHERE id = 1"


@pytest.fixture
def live(apart: tuple[Databases, Databases], tmp_path: Path) -> LiveRun:
    """A run whose target is on a server of its own."""
    here, there = apart
    return LiveRun(here, tmp_path, OLD, NEW, apart=there, strategy="copy", chunk_rows=20)


def kill_cutover(live: LiveRun, forks: Forks, command: str = "cutover") -> None:
    """Kill a command between the commit that closes one side and the commit that opens the other."""
    killed = forks.run(live.arguments(command), live.project, CONFITURE_FAILPOINT="switch.after_point_of_no_return:1")
    assert killed.code == -signal.SIGKILL, killed.err
    assert live.open_sides(PROBE) == set()


# The epoch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["target", "source"])
def test_a_server_restored_to_before_several_commands_delays_no_command(live: LiveRun, side: str) -> None:
    live.setup()

    def happens() -> None:
        for _ in range(3):
            live.migrate()

    restored_after(getattr(live, side).server, happens)
    live.migrate()
    assert live.verify().equal
    live.cutover()
    live.assert_same(**SAME)


def test_a_frozen_runner_of_the_lost_time_has_a_distinct_epoch(live: LiveRun, forks: Forks) -> None:
    live.setup()
    copy = back_up(live.target.server)
    live.migrate()
    live.source.sql("INSERT INTO t SELECT n, 'more' FROM generate_series(101, 300) n")
    frozen = forks.start(live.arguments("follow"), live.project)
    frozen.until_passed("catchup.after_source_commit")
    frozen.signal(signal.SIGSTOP)
    lost = live.source.value(f"SELECT epoch FROM {live.source.run_schema}.fence")
    restore(live.target.server, copy)
    with pytest.raises(Blocked, match="the target has lost changes"):
        live.migrate()
    now = live.source.value(f"SELECT epoch FROM {live.source.run_schema}.fence")
    assert now == live.target.value("SELECT epoch FROM confiture.run")
    assert now > lost
    frozen.signal(signal.SIGCONT)
    assert frozen.wait().code in (3, 6)
    assert live.source.value(f"SELECT epoch FROM {live.source.run_schema}.fence") == now


def test_takeover_between_reading_both_epochs_is_not_taken_for_a_restore(live: LiveRun) -> None:
    live.setup()
    live.migrate()
    live.target.sql(EXPIRE_LEASE)
    live.migrate()
    epochs = live.source.value(f"SELECT epoch FROM {live.source.run_schema}.fence")
    assert epochs == live.target.value("SELECT epoch FROM confiture.run")
    assert not [line for line in live.progress.lines if "restored" in line]


# The objects of the run on the source ---------------------------------------------------------------


def before_an_abort(live: LiveRun, forks: Forks) -> None:
    live.up_to_cutover()
    restored_after(live.target.server, live.abort)


def before_the_setup(live: LiveRun, forks: Forks) -> None:
    live.source.sql("SELECT 1")
    restored_after(live.source.server, live.up_to_cutover)


def before_the_end_of_the_setup(live: LiveRun, forks: Forks) -> None:
    """The schema exists, and no table is captured yet."""
    point = "capture.before_commit:1"
    assert forks.run(live.arguments("setup"), live.project, CONFITURE_FAILPOINT=point).code == -signal.SIGKILL
    restored_after(live.source.server, live.up_to_cutover)


@pytest.mark.parametrize("lose", [before_an_abort, before_the_setup, before_the_end_of_the_setup])
def test_a_source_without_the_objects_of_the_run_blocks_it_until_its_abort(
    live: LiveRun, forks: Forks, lose: Callable[[LiveRun, Forks], None]
) -> None:
    lose(live, forks)
    live.source.sql(WRITE)
    for command in (live.follow, live.verify):
        with pytest.raises(Blocked, match=r"no longer has the schema|is not captured") as blocked:
            command()
        assert blocked.value.fix is not None
        assert " abort " in blocked.value.fix
    with pytest.raises(Refused):
        live.cutover()
    live.abort()
    live.through()
    live.assert_same(**SAME)


def test_a_target_restored_to_before_a_cleanup_can_be_cleaned_up_again(live: LiveRun) -> None:
    live.through()
    restored_after(live.target.server, live.cleanup)
    live.target.sql(WRITE)
    for command in (live.follow, live.rollback):
        with pytest.raises(Blocked, match="no longer has the schema") as blocked:
            command()
        assert blocked.value.fix is not None
        assert " cleanup " in blocked.value.fix
    live.cleanup()
    assert live.state == "cleaned"
    assert live.open_sides(PROBE) == {"target"}


# Between closing and opening -----------------------------------------------------------------------


def lose_a_pass(live: LiveRun, forks: Forks) -> None:
    def happens() -> None:
        assert live.verify().equal
        live.source.sql(WRITE)
        kill_cutover(live, forks)

    restored_after(live.target.server, happens)


def lose_the_cutover_only(live: LiveRun, forks: Forks) -> None:
    def happens() -> None:
        assert live.verify().equal
        kill_cutover(live, forks)

    restored_after(live.target.server, happens)


def lose_the_last_commit(live: LiveRun, forks: Forks) -> None:
    """As a failover to a standby that lacks the last commit would."""
    kill_cutover(live, forks)
    live.target.sql("SET session_replication_role = replica; UPDATE confiture.catchup SET pass = pass - 1")


@pytest.mark.parametrize("lose", [lose_a_pass, lose_the_cutover_only, lose_the_last_commit])
def test_target_that_lost_changes_stays_closed_and_abort_opens_the_source(
    live: LiveRun, forks: Forks, lose: Callable[[LiveRun, Forks], None]
) -> None:
    live.up_to_cutover()
    live.source.sql("UPDATE t SET v = 'before' WHERE id = 50")
    lose(live, forks)
    with pytest.raises(Blocked, match="the target has lost changes") as blocked:
        live.cutover()
    assert blocked.value.fix is not None
    assert " abort " in blocked.value.fix
    assert live.open_sides(PROBE) == set()
    for point in ("abort.open.before_commit", "abort.open.after_commit"):
        killed = forks.run(live.arguments("abort"), live.project, CONFITURE_FAILPOINT=point)
        assert killed.code == -signal.SIGKILL, killed.err
    live.abort()
    live.source.sql("INSERT INTO t VALUES (500, 'new'); DELETE FROM t WHERE id = 2")
    assert live.source.value("SELECT count(*) FROM u") == 19
    assert live.state == "aborted"
    live.through()
    live.assert_same(**SAME)


def test_the_status_of_a_target_that_lost_changes_names_the_abort(live: LiveRun, forks: Forks) -> None:
    live.up_to_cutover()
    lose_the_cutover_only(live, forks)
    with pytest.raises(Blocked):
        live.cutover()
    status = forks.run(["status", "--target", live.target.conninfo], live.project)
    assert status.out.startswith("CRITICAL")
    assert "the target has lost changes" in status.out
    assert "migrate schema-to-schema abort" in status.out
    assert "schema-to-schema cutover" not in status.out


def test_a_target_that_lost_nothing_is_opened_after_its_restart(live: LiveRun, forks: Forks) -> None:
    live.up_to_cutover()
    live.source.sql(WRITE)
    kill_cutover(live, forks)
    live.target.server.stop()
    live.target.server.start()
    live.cutover()
    assert live.open_sides(PROBE) == {"target"}
    live.assert_same(**SAME)


def lose_a_reverse_pass(live: LiveRun, forks: Forks) -> None:
    def happens() -> None:
        live.target.sql(WRITE)
        kill_cutover(live, forks, "rollback")

    restored_after(live.source.server, happens)


def lose_the_rollback_only(live: LiveRun, forks: Forks) -> None:
    restored_after(live.source.server, lambda: kill_cutover(live, forks, "rollback"))


def lose_the_last_commit_of_the_source(live: LiveRun, forks: Forks) -> None:
    kill_cutover(live, forks, "rollback")
    live.source.sql(f"UPDATE {live.source.run_schema}.passes SET reverse = reverse - 1")


@pytest.mark.parametrize("lose", [lose_a_reverse_pass, lose_the_rollback_only, lose_the_last_commit_of_the_source])
def test_source_that_lost_changes_stays_closed_and_cutover_opens_target(
    live: LiveRun, forks: Forks, lose: Callable[[LiveRun, Forks], None]
) -> None:
    live.through()
    lose(live, forks)
    with pytest.raises(Blocked, match="the source has lost changes") as blocked:
        live.rollback()
    assert blocked.value.fix is not None
    assert " cutover " in blocked.value.fix
    assert live.open_sides(PROBE) == set()
    point = "rollback.reopen.before_commit"
    assert forks.run(live.arguments("cutover"), live.project, CONFITURE_FAILPOINT=point).code == -signal.SIGKILL
    assert live.open_sides(PROBE) == set()
    live.cutover()
    assert live.open_sides(PROBE) == {"target"}
    status = forks.run(["status", "--target", live.target.conninfo], live.project)
    assert "a rollback is no longer possible" in status.out
    assert "schema-to-schema rollback" not in status.out
    live.target.sql("INSERT INTO t VALUES (500, 'new')")
    with pytest.raises((Blocked, CutoverAborted)):
        live.rollback()
    assert live.open_sides(PROBE) == {"target"}
    live.cleanup()
    assert live.target.value("SELECT count(*) FROM t") == 101


def test_a_rollback_whose_servers_lost_nothing_opens_the_source(live: LiveRun, forks: Forks) -> None:
    live.through()
    live.target.sql(WRITE)
    kill_cutover(live, forks, "rollback")
    for server in (live.source.server, live.target.server):
        server.stop()
        server.start()
    live.rollback()
    assert live.open_sides(PROBE) == {"source"}
    live.assert_same(**SAME)
    until(lambda: live.state == "migrating", "the state after the rollback")
