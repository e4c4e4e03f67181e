"""The command of ``--hook``, which runs after the switch."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

from confiture import secret_values
from confiture.config import Database, redact
from confiture.errors import CutoverUnfinished, UsageError
from confiture.failpoints import failpoint


def words_of_hook(command: str) -> list[str]:
    """The words of a hook, split by the rules of a shell. No shell executes it.

    :raises UsageError: when it cannot be split, or the program does not exist; raised before the cutover.
    """
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
    return words


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


def _run(arguments: list[str], environment: dict[str, str]) -> int:
    """Run the operator's command; its exit code, or 126 when it could not be started.

    Its output is written to stderr, because stdout is the result of the cutover.
    """
    failpoint("hook.before")
    try:
        code = subprocess.run(arguments, env=environment, stdout=sys.stderr, check=False).returncode
    except OSError:
        code = 126
    failpoint("hook.after")
    return code


def run_after_switch(arguments: list[str], command: str, variables: dict[str, str], serving: str) -> None:
    """Run the hook of a finished cutover or rollback.

    :param command: the hook as it was given, for the error.
    :param serving: the database that is serving: ``the source`` or ``the target``.
    :raises CutoverUnfinished: when the hook fails. The switch stays.
    """
    code = _run(arguments, variables)
    if code:
        raise CutoverUnfinished(
            f"{serving} is serving, but the hook exited with code {code}",
            why=redact(command),
            fix="do the hook's work by hand, or rerun the same command, which runs the hook again",
        )
