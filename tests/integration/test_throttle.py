"""The copy gives way: to a rate, and to standbys that are behind; who looks sees why."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

import small_move
from confiture import embedded
from confiture.config import resolve
from confiture.db import Session
from confiture.embedded import Server
from confiture.runner import Context
from confiture.steps.throttle import Throttle
from forked import Forks, Running, until
from live import Quiet
from servers import Databases
from small_move import SmallMove


@pytest.fixture
def move(databases: Databases, tmp_path: Path) -> SmallMove:
    """Set up with its mapping; nothing is copied."""
    made = small_move.make(databases, tmp_path)
    made.setup()
    return made


def start(forks: Forks, move: SmallMove, *options: str) -> Running:
    return forks.start(move.arguments("migrate", *options), move.project)


def throttle_of(forks: Forks, move: SmallMove) -> dict[str, Any]:
    """What status says of it."""
    shown = forks.run(["status", "--target", move.target.name, "--format", "json"], move.project)
    return cast(dict[str, Any], json.loads(shown.out)["runs"][0]["throttle"])


def test_a_rate_limit_holds_the_copy_until_it_is_lifted(forks: Forks, move: SmallMove) -> None:
    move.run("throttle", "--max-rate", "1")
    running = start(forks, move)
    running.until_said("throttled: rate limit 1 rows/s")
    until(lambda: throttle_of(forks, move)["active"], "status to tell it")
    assert throttle_of(forks, move)["reason"] == "rate limit 1 rows/s"
    assert [status for table in ("post", "account") for status, _ in move.chunks(table)].count("done") <= 1
    move.run("throttle", "--off")
    ended = running.wait()
    assert ended.code == 0, ended.err
    assert "no longer throttled" in ended.err
    assert throttle_of(forks, move) == {"active": False, "reason": None, "since": None}


def test_a_killed_copy_is_throttled_again(forks: Forks, move: SmallMove) -> None:
    killed = start(forks, move, "--max-rate", "1")
    killed.until_said("throttled: rate limit 1 rows/s")
    killed.signal(signal.SIGKILL)
    killed.wait()
    again = start(forks, move)
    again.until_said("throttled: rate limit 1 rows/s")
    move.run("throttle", "--off")
    assert again.wait().code == 0


def test_a_throttled_copy_hears_signals_and_pauses(forks: Forks, move: SmallMove) -> None:
    running = start(forks, move, "--max-rate", "1")
    running.until_said("throttled: rate limit 1 rows/s")
    move.run("pause")
    running.until_said("paused on request")
    running.signal(signal.SIGTERM)
    assert running.wait().code == 143


def test_what_is_to_be_limited_has_to_be_said(move: SmallMove) -> None:
    move.run("throttle", code=2)
    move.run("throttle", "--off", "--max-rate", "5", code=2)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """A server and its streaming standby."""
    with Server(embedded.scratch()) as primary:
        if not (primary.bindir / "pg_basebackup").exists():
            pytest.skip(f"no pg_basebackup beside the server's binaries in {primary.bindir}")
        standby = Server(embedded.scratch(), settings={"wal_receiver_status_interval": "1s"})
        shutil.copystat(primary.root, standby.root)
        shutil.chown(standby.root, primary.root.owner())
        primary.run(
            "pg_basebackup", "-D", str(standby.data), "-d", primary.conninfo(), "-R", "-X", "stream", "-c", "fast"
        )
        with standby:
            yield primary, standby


def test_a_standby_that_is_behind_holds_the_copy_until_it_has_caught_up(
    forks: Forks, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    primary, standby = pair
    databases = Databases(primary)
    move = small_move.make(databases, tmp_path)
    move.setup()
    with psycopg.connect(standby.conninfo("postgres"), autocommit=True) as replaying:
        replaying.execute("SELECT pg_wal_replay_pause()")
        running = start(forks, move, "--max-replica-lag", "0.5")
        running.until_said("throttled: replica lag of the source")
        until(lambda: throttle_of(forks, move)["active"], "status to tell it")
        assert "s > 0.5 s" in throttle_of(forks, move)["reason"]
        replaying.execute("SELECT pg_wal_replay_resume()")
    ended = running.wait()
    assert ended.code == 0, ended.err
    databases.drop_all()


def test_without_the_right_to_see_standbys_it_is_said_once(pair: tuple[Server, Server]) -> None:
    primary, _ = pair
    with psycopg.connect(primary.conninfo(), autocommit=True) as admin:
        admin.execute("CREATE ROLE blind LOGIN PASSWORD 'x'")
    progress = Quiet()
    throttle = Throttle(cast(Context, SimpleNamespace(progress=progress)))
    database = resolve(primary.conninfo("postgres", user="blind", password="x"), Path("/"))
    with Session(database, "test") as session:
        assert throttle.lag("source", session) == throttle.lag("source", session) == 0
    assert progress.lines == [
        "the lag of the source's standbys cannot be seen: GRANT pg_monitor TO its role; going on without"
    ]
