"""The commands of ``--hook EVENT=COMMAND``: how they are read, and those that are a step of a command: ``switch``."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable

from confiture.config import redact
from confiture.errors import CutoverUnfinished, UsageError
from confiture.failpoints import failpoint
from confiture.notices import EVENTS
from confiture.runner.hooks import TIMED_OUT, Hook, environment_of_hook, run_command
from confiture.types import did_you_mean

__all__ = ["AWAITED", "SWITCH", "Hook", "announced", "environment_of_hook", "hooks_of", "run_awaited"]

#: The event after which the application is led to the database that is serving now.
SWITCH = "switch"
#: The event at which the application's reads are redirected, before its writes or after a rollback.
READS = "reads"
#: The events whose hooks are a step of a command: it waits for them, and fails with them.
AWAITED = (SWITCH, READS)
#: Seconds after which such a hook is ended. Only a command that redirects reads holds the run while it waits for one.
AWAITED_SECONDS = 600.0


def hooks_of(given: Iterable[str] | None) -> tuple[Hook, ...]:
    """The hooks of a command line, each ``EVENT=COMMAND``.

    :raises UsageError: when one cannot be read, or its program does not exist; raised before any work.
    """
    return tuple(_hook(text) for text in given or ())


def _hook(given: str) -> Hook:
    event, equals, command = given.partition("=")
    known = tuple(dict.fromkeys((*AWAITED, *EVENTS)))
    if not equals or event not in known:
        hint = did_you_mean(event, known) if equals else ""
        raise UsageError(
            "the hook names no event" if not equals else f"there is no event {redact(event)!r} for a hook",
            why=f"the events are {', '.join(known)}",
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


def announced(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """The hooks that run beside the work, and that no command waits for."""
    return tuple(hook for hook in hooks if hook.event not in AWAITED)


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
