"""The commands of ``--hook EVENT=COMMAND``: those that a command of the run waits for, such as ``switch``."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from confiture import secret_values
from confiture.config import Database, redact
from confiture.errors import CutoverUnfinished, UsageError
from confiture.failpoints import failpoint
from confiture.types import did_you_mean

#: The event after which the application is led to the database that is serving now.
SWITCH = "switch"
#: The event at which the application's reads are redirected, before its writes or after a rollback.
READS = "reads"
#: The events whose hooks are a step of a command: it waits for them, and fails with them.
AWAITED = (SWITCH, READS)
#: Seconds after which such a hook is ended. Only a command that redirects reads holds the run while it waits for one.
AWAITED_SECONDS = 600.0
#: Seconds to wait until a hook that was killed has ended.
END_SECONDS = 5.0
#: The exit codes of a shell for a program that cannot be run, and of ``timeout`` for one that took too long.
NOT_STARTED, TIMED_OUT = 126, 124


@dataclass(frozen=True, slots=True)
class Hook:
    """A command of the operator.

    :ivar command: as it was given, for errors.
    :ivar words: of the command. No shell executes it.
    """

    event: str
    command: str
    words: tuple[str, ...]


def hooks_of(given: Iterable[str] | None) -> tuple[Hook, ...]:
    """The hooks of a command line, each ``EVENT=COMMAND``.

    :raises UsageError: when one cannot be read, or its program does not exist; raised before any work.
    """
    return tuple(_hook(text) for text in given or ())


def _hook(given: str) -> Hook:
    event, equals, command = given.partition("=")
    if not equals or event not in AWAITED:
        hint = did_you_mean(event, AWAITED) if equals else ""
        raise UsageError(
            "the hook names no event" if not equals else f"there is no event {redact(event)!r} for a hook",
            why=f"the events are {', '.join(AWAITED)}",
            fix=hint or "write --hook EVENT='COMMAND', for example --hook switch='./switch.sh'",
        )
    return Hook(event, command, _words(command))


def _words(command: str) -> tuple[str, ...]:
    """The words of a command, split by the rules of a shell."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError("the hook cannot be read", why=f"{error}", fix="quote it as for a shell") from None
    if not words or shutil.which(words[0]) is None:
        raise UsageError(
            "the hook cannot be run",
            why=f"there is no program {words[0] if words else ''!r}",
            fix="name a program in PATH, or give its path; for shell syntax use: sh -c '...'",
        )
    return tuple(words)


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
    return {**kept, "CONFITURE_RUN": run, "CONFITURE_TARGET": target.public, "CONFITURE_TARGET_URL": target.url}


def run_command(words: Sequence[str], environment: dict[str, str], seconds: float) -> int:
    """Run the operator's command; its exit code, or :data:`NOT_STARTED`, or :data:`TIMED_OUT`.

    Its output is written to stderr, because stdout is the result of the command of Confiture.

    :param seconds: after which the command is ended, with every process that it has started in its process group.
    """
    try:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0)
    except OSError:
        return NOT_STARTED
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return TIMED_OUT
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group of a hook that took too long, or was interrupted; nothing to do when it has ended."""
    if process.poll() is None:
        with suppress(OSError):  # processes of another user, after sudo, cannot be ended
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)


def run_awaited(hooks: Iterable[Hook], event: str, variables: dict[str, str], done: str) -> None:
    """Run the hooks of a cutover or rollback, or those that redirect reads, in the order in which they were given.

    :param done: what is done when the hooks run, for the error: ``the target is serving``.
    :raises CutoverUnfinished: when a hook fails. What is done stays.
    """
    for hook in hooks:
        if hook.event != event:
            continue
        failpoint("hook.before")
        code = run_command(hook.words, {**variables, "CONFITURE_EVENT": event}, AWAITED_SECONDS)
        failpoint("hook.after")
        if code:
            raise CutoverUnfinished(
                f"{done}, but the hook {_ending(code)}",
                why=redact(hook.command),
                fix="do the hook's work by hand, or rerun the same command, which runs the hook again",
            )


def _ending(code: int) -> str:
    return f"was ended after {AWAITED_SECONDS:.0f} s" if code == TIMED_OUT else f"exited with code {code}"
