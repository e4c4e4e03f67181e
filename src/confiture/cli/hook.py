"""The command that ``--hook`` names, run once the other database serves."""

from __future__ import annotations

from confiture.config import redact
from confiture.errors import CutoverUnfinished
from confiture.schema_to_schema.cutover_offline import run_hook


def run_hook_after_switch(arguments: list[str], command: str, environment: dict[str, str], who: str) -> None:
    code = run_hook(arguments, environment)
    if code:
        raise CutoverUnfinished(
            f"{who} serves, but the hook exited with {code}",
            why=redact(command),
            fix="run what it was to do by hand, or run the same command again: it runs the hook again",
        )
