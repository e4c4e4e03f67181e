"""The operator's commands of ``--hook``: what they get, and how one that takes too long is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from confiture import secret_values
from confiture.config import Database, place, redact

#: Seconds to wait until a hook that was killed has ended.
END_SECONDS = 5.0
#: The exit codes of a shell for a program that cannot be run, and of ``timeout`` for one that took too long.
NOT_STARTED, TIMED_OUT = 126, 124

_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True, slots=True)
class Hook:
    """A command of the operator.

    :ivar command: as it was given, for errors.
    :ivar words: of the command. No shell executes it.
    """

    event: str
    command: str
    words: tuple[str, ...]


def environment_of_hook(run: str, source: Database, target: Database) -> dict[str, str]:
    """The environment of this process without variables that contain a secret, encoded or not, and the new address.

    Of PATH, only the entries that contain a secret are removed, because hooks need the others.
    """
    secrets = {*source.secrets, *target.secrets, *secret_values.used(), os.environ.get("PGPASSWORD", "")}
    kept = {k: v for k, v in os.environ.items() if k != "PGPASSWORD" and redact(v) == v}
    if "PATH" in kept:
        entries = kept["PATH"].split(os.pathsep)
        kept["PATH"] = os.pathsep.join(e for e in entries if not secret_values.contains(e, secrets))
    kept = {k: v for k, v in kept.items() if k == "PATH" or not secret_values.contains(v, secrets)}
    host, port = place(target.conninfo)
    address = {"HOST": host, "PORT": port, "DATABASE": target.dbname}
    parts = {f"CONFITURE_TARGET_{k}": str(v) for k, v in address.items() if v is not None}
    return {
        **kept,
        **parts,
        "CONFITURE_RUN": run,
        "CONFITURE_TARGET": target.public,
        "CONFITURE_TARGET_URL": target.url,
    }


def run_command(words: Sequence[str], environment: dict[str, str], seconds: float) -> int:
    """Run the operator's command; its exit code, or :data:`NOT_STARTED`, or :data:`TIMED_OUT`.

    Its output is written to stderr, because stdout is the result of the command of Confiture.

    :param seconds: after which the command is ended, with every process that it has started in its process group.
    """
    try:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0)
    except OSError:
        return NOT_STARTED
    _running.add(process)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return TIMED_OUT
    finally:
        _running.discard(process)
        _end(process)


def end_running() -> None:
    """End every hook that runs, in any thread."""
    for process in tuple(_running):
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group of a hook that took too long, or was interrupted; nothing to do when it has ended."""
    if process.poll() is None:
        with suppress(OSError):  # processes of another user, after sudo, cannot be ended
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
