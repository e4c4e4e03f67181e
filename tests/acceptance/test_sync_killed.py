"""``kill -9`` at any commit of a sync: the same command continues, and the result is that of an undisturbed sync."""

from __future__ import annotations

import random
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import synced
from forked import Forks, Running, until
from servers import Databases
from synced import Synced

#: A command is killed up to twenty times, and a machine with other work takes minutes for it.
pytestmark = pytest.mark.timeout(600)

KILLED = -signal.SIGKILL
#: The points of the sync itself, in the order in which a command passes them.
POINTS = (
    "begin.before_commit",
    "begin.after_commit",
    "setup.before_commit:1",
    "setup.outside",
    "setup.before_commit:1",
    "setup.after_commit:1",
    "state.begin.before_commit",
    "state.begin.after_commit",
    "sync.begun.before_commit",
    "copy.before_commit:2",
    "copy.after_commit:2",
    "copy.table_done.before_commit",
    "rebuild.before_commit:2",
    "rebuild.after_commit:1",
    "references.done.before_commit",
    "references.done.after_commit",
    "proof.done.before_commit",
    "proof.done.after_commit",
    "finish.sequences.before_commit",
    "finish.before_commit:2",
    "finish.after_commit:3",
    "state.verify.before_commit",
    "state.verify.after_commit",
    "state.complete.before_commit",
)
#: Kills of one sync, each at a commit that is chosen at random.
KILLS = 20
#: Commits of a command within which it is killed.
COMMITS = 30


@pytest.fixture
def sync(databases: Databases, tmp_path: Path) -> Synced:
    """A project whose target is empty."""
    return synced.make(databases, tmp_path)


def undisturbed(databases: Databases, folder: Path, *options: str) -> Synced:
    """A sync of the same rows that nothing kills."""
    other = synced.make(databases, folder)
    other.run(*options)
    return other


def rows(sync: Synced) -> list[list[tuple[object, ...]]]:
    """Every row of every table of the target."""
    tables = ("country", "customer", "account", "orders", "log", "spent")
    return [sync.target.rows(f"SELECT * FROM {name} t ORDER BY t::text") for name in tables]


def test_the_same_command_continues_a_sync_killed_at_each_point(
    sync: Synced, databases: Databases, forks: Forks, tmp_path: Path
) -> None:
    for point in POINTS:
        died = sync.killed(forks, point)
        assert died.code == KILLED, f"{point}: exit {died.code}\n{died.err}"
    sync.run()
    sync.assert_complete()
    other = undisturbed(databases, tmp_path / "other")
    assert rows(sync) == rows(other)
    assert synced.design(sync.target) == synced.design(other.target)


@pytest.mark.parametrize(
    "options", [(), ("--consistent",), ("--sample", "20"), ("--tables", "orders", "--where", "orders=amount < 300")]
)
def test_a_sync_killed_at_twenty_random_commits_has_the_same_result(
    sync: Synced, databases: Databases, forks: Forks, tmp_path: Path, options: tuple[str, ...]
) -> None:
    chosen = random.Random(14)
    kills = 0
    for _ in range(KILLS):
        point = f"commit.{chosen.choice(('before', 'after'))}:{chosen.randint(1, COMMITS)}"
        kills += sync.killed(forks, point, *options).code == KILLED
        if sync.target.value("SELECT to_regclass('confiture.run') IS NOT NULL") and sync.target.rows(
            "SELECT 1 FROM confiture.run WHERE state = 'cleaned'"
        ):
            break
    assert kills
    if sync.state != "cleaned":
        sync.run(*options)
    other = undisturbed(databases, tmp_path / "other", *options)
    assert rows(sync) == rows(other)
    assert synced.design(sync.target) == synced.design(other.target)


def test_replaced_rows_stay_until_the_plan_is_stored(sync: Synced, forks: Forks) -> None:
    sync.run()
    before = rows(sync)
    assert sync.killed(forks, "setup.before_commit:2", "--replace", "--yes").code == KILLED
    assert rows(sync) == before
    sync.run("--replace", "--yes")
    assert rows(sync) == before


def test_a_kill_before_clear_values_are_removed_is_continued(sync: Synced, forks: Forks) -> None:
    clear = synced.MASK.replace("full_name: name", 'full_name: {sql: "full_name"}')
    sync.write("db/sync/mask.yaml", clear)
    assert sync.killed(forks, "proof.emptied.before_commit").code == KILLED
    sync.run(check=7)
    assert sync.target.value("SELECT count(*) FROM customer") == 0
    sync.write("db/sync/mask.yaml", synced.MASK)
    sync.run("--restart")
    sync.assert_complete()


def test_a_kill_while_tables_are_emptied_once_more_is_continued(sync: Synced, forks: Forks) -> None:
    for point in ("references.done.before_commit", "sync.again.before_commit", "sync.again.after_commit"):
        assert sync.killed(forks, point, "--consistent").code == KILLED
    sync.run("--consistent")
    sync.assert_complete()


def test_an_abort_that_is_killed_is_continued(sync: Synced, forks: Forks) -> None:
    assert sync.killed(forks, "copy.after_commit:3").code == KILLED
    arguments = ["sync", "--to", "local", "--abort"]
    for point in ("sync.abort.before_commit", "sync.abort.after_commit"):
        assert forks.run(arguments, sync.folder, **sync.env, CONFITURE_FAILPOINT=point).code == KILLED
    assert sync.state == "aborted"
    sync.run()
    sync.assert_complete()


TALL = """
CREATE TABLE tall (id int PRIMARY KEY, email text NOT NULL UNIQUE, n int);
INSERT INTO tall SELECT i, 'user' || i || '@firm.ch', i % 7 FROM generate_series(1, 900000) i;
ANALYZE tall;
"""


def test_a_sync_with_workers_killed_after_each_chunk_has_every_row_once(
    databases: Databases, forks: Forks, tmp_path: Path
) -> None:
    sync = replace(synced.make(databases, tmp_path), source=databases.make(), target=databases.make())
    sync.write("db/environments/production.yaml", f"database_url: {sync.source.conninfo}\n")
    sync.write("db/environments/local.yaml", f"database_url: {sync.target.conninfo}\n")
    sync.write("db/schema/10_tables.sql", TALL.split(";")[0] + ";")
    sync.write("db/schema/20_triggers.sql", "SELECT 1;")
    sync.write("db/sync/mask.yaml", "tall:\n  email: email\n")
    sync.source.sql(TALL)
    done, kills = 0, 0
    while kills < 3:
        running = forks.start([*sync.arguments, "--jobs", "2"], sync.folder, heartbeat=1, **sync.env)
        more = partial(_has_ended_or_copied, running, sync, done)
        until(more, "another chunk to be copied")
        if not running.alive:
            break
        running.signal(signal.SIGKILL)
        kills += running.wait().code == KILLED
        done = chunks_done(sync)
    assert kills
    assert forks.run([*sync.arguments, "--jobs", "2"], sync.folder, **sync.env).code == 0
    facts = "SELECT count(*), count(DISTINCT email), sum(id::bigint), sum(n) FROM tall"
    assert sync.target.rows(facts) == sync.source.rows(facts)
    assert sync.target.value("SELECT count(*) FROM tall WHERE email LIKE '%@firm.ch'") == 0


def _has_ended_or_copied(running: Running, sync: Synced, before: int) -> bool:
    return not running.alive or chunks_done(sync) > before


def chunks_done(sync: Synced) -> int:
    """The chunks that are copied; 0 before there is a journal."""
    if not sync.target.value("SELECT to_regclass('confiture.chunk') IS NOT NULL"):
        return 0
    return int(sync.target.value("SELECT count(*) FROM confiture.chunk WHERE status = 'done'"))
