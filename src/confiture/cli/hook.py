"""The command of ``--hook``, which runs after the switch."""

from __future__ import annotations

from confiture.config import redact
from confiture.errors import CutoverUnfinished
from confiture.schema_to_schema.cutover_offline import run_hook


def run_hook_after_switch(arguments: list[str], command: str, environment: dict[str, str], serving: str) -> None:
    """Run the hook of a finished cutover or rollback.

    :param command: the hook as it was given, for the error.
    :param serving: the database that is serving: ``the source`` or ``the target``.
    :raises CutoverUnfinished: when the hook fails. The switch stays.
    """
    code = run_hook(arguments, environment)
    if code:
        raise CutoverUnfinished(
            f"{serving} is serving, but the hook exited with code {code}",
            why=redact(command),
            fix="do the hook's work by hand, or rerun the same command, which runs the hook again",
        )
