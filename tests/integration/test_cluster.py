"""A migrate whose workers are those of a Dask cluster: a scheduler and two worker processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import small_move
from confiture.errors import CannotConnect, Refused, UsageError
from forked import Forks, until
from servers import Databases
from small_move import SmallMove

pytest.importorskip("distributed", reason="the package distributed is not installed")

ROOT = Path(__file__).parents[2]


class Cluster:
    """A scheduler, and workers that a test starts and ends."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start("dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file))
        until(lambda: self.file.exists() and self.file.read_text(), "the scheduler")

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker with one thread, which no process watches."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder))
        return self._start("dask_worker", self.address, *options, **environment)

    def _start(self, program: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *options]
        path = {"PYTHONPATH": str(ROOT / "src"), **environment}
        process = subprocess.Popen(
            command, env={**os.environ, **path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End every process."""
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


@pytest.fixture
def move(databases: Databases, tmp_path: Path) -> SmallMove:
    """A run that is set up. No row is copied."""
    made = small_move.make(databases, tmp_path)
    made.run("setup", "--mapping", str(made.mapping), "--chunk-rows", "10", "--strategy", "copy")
    return made


def hosts(move: SmallMove) -> set[int]:
    """The process IDs of all workers that have worked for the last command."""
    names = move.target.rows(
        "SELECT DISTINCT b ->> 2 FROM (SELECT * FROM confiture.runner ORDER BY epoch DESC LIMIT 1) r,"
        " jsonb_array_elements(target_backends || source_backends) b WHERE b ->> 2 <> ''"
    )
    return {int(name.split()[1]) for (name,) in names}


def assert_finishes(move: SmallMove, databases: Databases) -> None:
    move.run("migrate")
    move.finish()
    move.assert_every_row_arrived_once()
    move.assert_rows_and_checkpoints_agree()
    move.assert_nothing_is_left()


def test_the_workers_of_a_cluster_copy_every_row_once(cluster: Cluster, move: SmallMove, databases: Databases) -> None:
    pids = {cluster.worker().pid, cluster.worker().pid}
    until_workers(cluster, 2)
    move.run("migrate", "--executor", f"dask={cluster.address}")
    assert hosts(move) <= pids
    assert hosts(move)
    assert_finishes(move, databases)


def test_a_killed_worker_of_a_cluster_costs_only_its_chunks(
    cluster: Cluster, move: SmallMove, databases: Databases
) -> None:
    # One of the two workers kills itself within its third chunk.
    cluster.worker(CONFITURE_FAILPOINT="copy.before_commit:3")
    healthy = cluster.worker()
    until_workers(cluster, 2)
    move.run("migrate", "--executor", f"dask={cluster.address}")
    assert healthy.pid in hosts(move)
    assert_finishes(move, databases)


def test_a_killed_command_is_continued_with_the_same_cluster(
    cluster: Cluster, move: SmallMove, databases: Databases, forks: Forks
) -> None:
    cluster.worker()
    until_workers(cluster, 1)
    command = move.arguments("migrate", "--executor", f"dask={cluster.address}")
    running = forks.start(command, move.project, CONFITURE_FAILPOINT="claim.after_commit:6")
    assert running.wait().code == -signal.SIGKILL
    again = forks.run(command, move.project)
    assert again.code == 0, again.err
    assert_finishes(move, databases)


@pytest.mark.parametrize("executor", ["dask", "dask=", "ray=tcp://127.0.0.1:1", "tcp://127.0.0.1:8786"])
def test_an_unknown_executor_is_refused(move: SmallMove, executor: str) -> None:
    ended = move.run("migrate", "--executor", executor, code=UsageError.exit_code)
    assert "an executor is dask=ADDRESS" in ended.err
    assert move.chunks("post") == []


def test_a_scheduler_that_cannot_be_reached_is_named(move: SmallMove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("confiture.runner.cluster.ANSWER_SECONDS", 1)
    ended = move.run("migrate", "--executor", "dask=tcp://127.0.0.1:1", code=CannotConnect.exit_code)
    assert "cannot reach the Dask scheduler at tcp://127.0.0.1:1" in ended.err
    assert move.chunks("post") == []


def test_a_cluster_without_workers_is_refused(cluster: Cluster, move: SmallMove) -> None:
    ended = move.run("migrate", "--executor", f"dask={cluster.address}", code=Refused.exit_code)
    assert "has no workers" in ended.err
    assert move.chunks("post") == []


def test_a_worker_that_cannot_reach_a_database_is_named(cluster: Cluster, move: SmallMove) -> None:
    cluster.worker(PGSSLMODE="require")
    until_workers(cluster, 1)
    ended = move.run("migrate", "--executor", f"dask={cluster.address}", code=CannotConnect.exit_code)
    assert "cannot connect to a database" in ended.err
    assert move.chunks("post") == []


def test_a_worker_with_another_version_is_refused(cluster: Cluster, move: SmallMove, tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    (tmp_path / "older/sitecustomize.py").write_text("import confiture; confiture.__version__ = '0.0.1'")
    cluster.worker(PYTHONPATH=f"{tmp_path / 'older'}:{ROOT / 'src'}")
    until_workers(cluster, 1)
    ended = move.run("migrate", "--executor", f"dask={cluster.address}", code=Refused.exit_code)
    assert "has confiture 0.0.1, and this command" in ended.err
    assert move.chunks("post") == []


def test_a_worker_without_confiture_is_refused(cluster: Cluster, move: SmallMove, tmp_path: Path) -> None:
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking/sitecustomize.py").write_text("import sys; sys.modules['confiture'] = None")
    cluster.worker(PYTHONPATH=str(tmp_path / "lacking"))
    until_workers(cluster, 1)
    ended = move.run("migrate", "--executor", f"dask={cluster.address}", code=Refused.exit_code)
    assert "cannot run Confiture" in ended.err
    assert "install confiture" in ended.err


def until_workers(cluster: Cluster, number: int) -> None:
    """Wait until the scheduler knows so many workers."""
    from distributed import Client

    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(number, timeout=60)
