"""What a command came to: the run's state and the next command."""

from __future__ import annotations

import json
from typing import Any

from confiture.journal.runs import Run
from confiture.states import ABORTED, CLEANED, CUTOVER, MIGRATING, SETUP, VERIFIED
from confiture.types import shell_word

_NEXT = {SETUP: "migrate", MIGRATING: "verify", VERIFIED: "cutover", CUTOVER: "cleanup"}


def next_command(run: Run) -> str | None:
    """The command that comes next, ready to paste; None when the run is over."""
    step = _NEXT.get(run.state)
    if step is None:
        return None
    return f"confiture migrate schema-to-schema {step} --target {shell_word(run.target_name)}"


def as_json(run: Run) -> dict[str, Any]:
    """The part of every command's JSON that tells the run."""
    return {
        "run": run.short,
        "state": run.state,
        "source": run.source_name,
        "target": run.target_name,
        "writes_served_by": run.writes_served_by,
        "next": next_command(run),
    }


def show(run: Run, text: str, format: str, **more: object) -> None:
    """Print it."""
    if format == "json":
        print(json.dumps({**as_json(run), **more}, indent=2, ensure_ascii=False))
        return
    print(text)
    following = next_command(run)
    if following is not None:
        print(f"Next: {following}")
    elif run.state in (CLEANED, ABORTED):
        print("The run is over.")
