"""What a command came to: the run's state and the next command."""

from __future__ import annotations

from typing import Any

from confiture.journal.runs import Run
from confiture.states import CUTOVER, FINAL, MIGRATING, SETUP, VERIFIED
from confiture.types import shell_word

#: Of every JSON document but status: raised when a field goes or changes its meaning.
SCHEMA_VERSION = 1

_NEXT = {SETUP: "migrate", MIGRATING: "verify", VERIFIED: "cutover", CUTOVER: "cleanup"}


def next_command(run: Run) -> str | None:
    """The command that comes next, ready to paste; None when the run is over."""
    step = _NEXT.get(run.state)
    if step is None:
        return None
    return f"confiture migrate schema-to-schema {step} --target {shell_word(run.target_name)}"


def as_json(run: Run) -> dict[str, Any]:
    """The part of every command's JSON that tells the run; ``schemas/run.json`` is the contract."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run.short,
        "state": run.state,
        "source": run.source_name,
        "target": run.target_name,
        "writes_served_by": run.writes_served_by,
        "next": next_command(run),
    }


def text(run: Run, said: str, *more: str) -> str:
    """What was done, lines of its own, and what comes next."""
    following = next_command(run)
    over = ["The run is over."] if run.state in FINAL else []
    return "\n".join([said, *more, *([f"Next: {following}"] if following else over)])
