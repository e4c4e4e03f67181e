"""The commands of ``--hook``: how they are read, and how one that takes too long is ended."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from confiture.commands.hooks import hooks_of
from confiture.errors import UsageError
from confiture.runner.hooks import NOT_STARTED, TIMED_OUT, run_command


def test_a_hook_is_an_event_and_the_words_of_a_command() -> None:
    (hook,) = hooks_of(["switch=env A=b sh -c 'echo \"$A\"; exit 3'"])
    assert hook.event == "switch"
    assert hook.words == ("env", "A=b", "sh", "-c", 'echo "$A"; exit 3')
    assert hooks_of(None) == ()


@pytest.mark.parametrize(
    "given", ["true", "=true", "no such event=true", "switch=", "switch=no-such-program", "switch='"]
)
def test_a_hook_that_cannot_be_run_is_refused_before_any_work(given: str) -> None:
    with pytest.raises(UsageError):
        hooks_of([given])


def test_the_exit_code_of_a_hook_is_returned() -> None:
    assert run_command(["sh", "-c", "exit 3"], dict(os.environ), 60) == 3
    assert run_command(["/"], dict(os.environ), 60) == NOT_STARTED


def test_a_hook_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    program = f"sleep 3600 & echo $! > {tmp_path}/child; wait"
    assert run_command(["sh", "-c", program], dict(os.environ), 2) == TIMED_OUT
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    while child.exists() and child.read_text().split()[2] != "Z":
        time.sleep(0.01)
