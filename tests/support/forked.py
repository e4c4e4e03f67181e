"""The command line in processes of their own, forked off one that has imported it: a second saved each time.

They are killed, stopped, signalled and judged by their exit code like any other process.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Reads a request a line: to start a command (answered with its process id), or to wait for one
#: (answered with its exit code; negative: the signal that ended it).
_PARENT = """
import importlib, json, os, signal, sys
import confiture.cli
from confiture import failpoints
from confiture.journal import leases
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, commands would ignore it
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    os.environ.clear()
    os.environ.update(asked["environment"])
    importlib.reload(failpoints)  # what is armed is read when it is loaded
    leases.HEARTBEAT_SECONDS = asked["heartbeat"] or leases.HEARTBEAT_SECONDS
    os.chdir(asked["folder"])
    for number, path in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    sys.argv = ["confiture", *asked["arguments"]]
    try:
        confiture.cli.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""

#: Longer than anything here takes, shorter than a test's own limit.
PATIENCE_SECONDS = 90


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Running:
    """A command under way."""

    forks: Forks
    pid: int
    out: Path
    err: Path
    points: Path

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Wait for its end."""
        return Ended(self.forks.wait(self.pid), self.out.read_text(), self.err.read_text())

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

    @property
    def passed(self) -> int:
        """How many failpoints it has passed."""
        return len(self.points.read_text().split()) if self.points.exists() else 0

    def until_said(self, text: str) -> None:
        """Wait until it has written ``text`` to stderr."""
        try:
            until(lambda: text in self.err.read_text(), f"{text!r} on stderr")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.err.read_text()}") from None

    def until_passed(self, point: str) -> None:
        """Wait until it has passed a failpoint."""
        until(lambda: self.points.exists() and point in self.points.read_text().split(), f"passing {point}")


def until(met: Callable[[], object], what: str) -> None:
    """Wait for a condition that a process brings about."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not met():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


class Forks:
    """Starts commands."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._folder = tempfile.TemporaryDirectory()
        self._started = 0
        self._left: set[int] = set()

    def ask(self, **request: object) -> int:
        """Send a request; its answer."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(request) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def start(
        self, arguments: list[str], folder: Path, *, heartbeat: float | None = None, **environment: str
    ) -> Running:
        """Start ``confiture ARGUMENTS`` in ``folder``; ``heartbeat`` in seconds, None for its own."""
        self._started += 1
        out, err, points = (Path(self._folder.name, f"{self._started}.{name}") for name in ("out", "err", "points"))
        environment = {**os.environ, "CONFITURE_FAILPOINT_LOG": str(points), **environment}
        out.touch()
        err.touch()
        pid = self.ask(
            arguments=arguments, folder=str(folder), environment=environment,
            heartbeat=heartbeat, out=str(out), err=str(err),
        )  # fmt: skip
        self._left.add(pid)
        return Running(self, pid, out, err, points)

    def wait(self, pid: int) -> int:
        """Wait for the end of a command; its exit code."""
        code = self.ask(wait=pid)
        self._left.discard(pid)
        return code

    def run(self, arguments: list[str], folder: Path, **environment: str) -> Ended:
        """Run ``confiture ARGUMENTS`` in ``folder`` to its end."""
        return self.start(arguments, folder, **environment).wait()

    def close(self) -> None:
        """End the process that forks, and what a failed test has left."""
        for pid in self._left:
            os.kill(pid, signal.SIGKILL)
        self._parent.communicate()
        self._folder.cleanup()


@functools.cache
def forks() -> Forks:
    """The one that starts commands for all tests of this process."""
    return Forks()
