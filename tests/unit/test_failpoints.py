"""Named crash points: they kill the process where they are armed, and have no effect otherwise."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import confiture

PASS = "from confiture.failpoints import failpoint\nfor name in {names!r}: failpoint(name)\nprint('alive')"


def pass_points(*names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a process that passes the points in this order."""
    return subprocess.run(
        [sys.executable, "-c", PASS.format(names=names)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_fenced_transaction_states_what_it_makes_durable() -> None:
    silent = []
    for path in Path(confiture.__file__).parent.rglob("*.py"):
        lines = path.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            if re.search(r"\bwith .*\bfenced(_source)?\(", line):
                above = itertools.takewhile(lambda text: text.strip().startswith("#"), reversed(lines[:number]))
                if "durable" not in " ".join(above).lower():
                    silent.append(f"{path.name}:{number + 1}: {line.strip()}")
    assert silent == []


def test_a_point_that_is_not_armed_does_nothing(tmp_path: Path) -> None:
    done = pass_points("copy.before_commit", CONFITURE_FAILPOINT="another:1")
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_an_armed_point_kills_at_its_hit_and_not_before() -> None:
    assert pass_points("a", "a", CONFITURE_FAILPOINT="a:3").returncode == 0
    assert pass_points("a", "b", "a", "a", CONFITURE_FAILPOINT="a:3").returncode == -signal.SIGKILL


def test_a_point_without_a_hit_kills_the_first_time() -> None:
    assert pass_points("a", CONFITURE_FAILPOINT="a").returncode == -signal.SIGKILL


def test_several_points_can_be_armed() -> None:
    armed = "a:2,b:1"
    assert pass_points("a", CONFITURE_FAILPOINT=armed).returncode == 0
    assert pass_points("a", "b", CONFITURE_FAILPOINT=armed).returncode == -signal.SIGKILL


def test_the_points_that_are_passed_are_logged(tmp_path: Path) -> None:
    log = tmp_path / "points"
    pass_points("a", "b", "a", CONFITURE_FAILPOINT_LOG=str(log))
    assert log.read_text().split() == ["a", "b", "a"]


def test_a_kill_is_also_logged(tmp_path: Path) -> None:
    log = tmp_path / "points"
    pass_points("a", "b", "c", CONFITURE_FAILPOINT_LOG=str(log), CONFITURE_FAILPOINT="b:1")
    assert log.read_text().split() == ["a", "b"]
