"""Commands in processes of their own, forked from one that has imported the tool, which saves a second each time.

They can be killed, stopped and signalled, and have an exit code, like any other process.
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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Reads one request per line: to start a command, which is answered with its process ID, or to wait for one, which is
#: answered with its exit code or with the negative number of the signal that ended it.
_PARENT = """
import gc, importlib, json, os, pkgutil, signal, sys
import confiture
for module in pkgutil.walk_packages(confiture.__path__, "confiture."):
    if module.name != "confiture.__main__":
        importlib.import_module(module.name)  # else each command would import most of them
from confiture import failpoints
from confiture.journal import leases
gc.freeze()  # a collection in a command would copy the memory that it shares with this process
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
    if "confiture.runner.notifier" in sys.modules:
        sys.modules["confiture.runner.notifier"].wait_for_ended()  # as at the exit of a process
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""

#: Longer than any command takes, shorter than the time limit of a test.
PATIENCE_SECONDS = 90


@dataclass(frozen=True)
class Ended:
    """The exit code and the output of a command that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Running:
    """A command that is running."""

    forks: Forks
    pid: int
    out: Path
    err: Path
    points: Path

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command."""
        os.kill(self.pid, number)

    def interrupt_twice(self) -> None:
        """Send SIGINT, and once more when the command has received it."""
        self.signal(signal.SIGINT)
        self.until_passed("signal.heard")
        self.signal(signal.SIGINT)

    def wait(self) -> Ended:
        """Wait for the end of the command."""
        return Ended(self.forks.wait(self.pid), self.out.read_text(), self.err.read_text())

    @property
    def alive(self) -> bool:
        """Whether the command is still running."""
        return is_alive(self.pid)

    @property
    def passed(self) -> int:
        """The number of failpoints that the command has passed."""
        return len(self.points.read_text().split()) if self.points.exists() else 0

    def until_said(self, text: str) -> None:
        """Wait until the command has written ``text`` to stderr."""
        try:
            until(lambda: text in self.err.read_text(), f"{text!r} on stderr")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.err.read_text()}") from None

    def until_passed(self, point: str) -> None:
        """Wait until the command has passed a failpoint."""
        until(lambda: self.points.exists() and point in self.points.read_text().split(), f"the command to pass {point}")


def is_alive(pid: int) -> bool:
    """Whether a process is still running. One that has ended stays until its parent has read its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(met: Callable[[], object], what: str) -> None:
    """Wait until a condition is true, which another process or thread fulfils."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not met():
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.02)


class Forks:
    """Starts commands."""

    def __init__(self) -> None:
        self._parent = self._begin()
        self._folder = tempfile.TemporaryDirectory()
        self._started = 0
        self._left: set[int] = set()

    def _begin(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: object) -> int:
        """Send a request. Returns its answer."""
        if self._parent.poll() is not None:
            self._parent = self._begin()
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        try:
            self._parent.stdin.write(json.dumps(request) + "\n")
            self._parent.stdin.flush()
            return int(self._parent.stdout.readline())
        except BaseException:  # such as the time limit of the test
            # The next request would read the answer to this one.
            self._parent.kill()
            self._parent.wait()
            self._parent.stdout.close()
            with suppress(BrokenPipeError):
                self._parent.stdin.close()
            raise

    def start(
        self, arguments: list[str], folder: Path, *, heartbeat: float | None = None, **environment: str
    ) -> Running:
        """Start ``confiture ARGUMENTS`` in ``folder``; ``heartbeat`` is in seconds, None for the default."""
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
        """Wait for the end of a command. Returns its exit code."""
        code = self.ask(wait=pid)
        self._left.discard(pid)
        return code

    def run(self, arguments: list[str], folder: Path, **environment: str) -> Ended:
        """Run ``confiture ARGUMENTS`` in ``folder`` to its end."""
        return self.start(arguments, folder, **environment).wait()

    def close(self) -> None:
        """End the process that forks, and the commands that a failed test has left running."""
        for pid in self._left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._parent.communicate()
        self._folder.cleanup()


@functools.cache
def forks() -> Forks:
    """The object that starts commands for all tests of this process."""
    return Forks()
