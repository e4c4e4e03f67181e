"""What a command came to: the run's state and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confiture.journal.runs import Run
from confiture.naming import Naming
from confiture.states import CUTOVER, FINAL, MIGRATING, SETUP, VERIFIED, writes_served_by

#: Of every JSON document but status: raised when a field goes or changes its meaning.
SCHEMA_VERSION = 1

_NEXT = {SETUP: "migrate", MIGRATING: "verify", VERIFIED: "cutover", CUTOVER: "cleanup"}


def next_commands(run: Run, naming: Naming, step: str | None = None) -> tuple[str, ...]:
    """The command that comes next and those that may come instead, ready to paste; none when the run is over.

    :param step: what comes next where the run's state does not decide it.
    """
    step = step or _NEXT.get(run.state)
    if step is None:
        return ()
    back = [naming.command("rollback")] if run.state == CUTOVER and _can_roll_back(run) else []
    return (naming.command(step), *back)


def _can_roll_back(run: Run) -> bool:
    tables = (run.plan or {}).get("tables", [])
    return bool(run.options.get("capture")) and not any(table.get("rollback_problem") for table in tables)


def as_json(run: Run, following: Sequence[str]) -> dict[str, Any]:
    """The part of every command's JSON that tells the run; ``schemas/run.json`` is the contract.

    :param following: as :func:`next_commands` gives them.
    """
    captured = bool(run.options.get("capture"))
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run.short,
        "state": run.state,
        "source": run.source_name,
        "target": run.target_name,
        "writes_served_by": writes_served_by(run.state, run.cutover_phase, captured=captured),
        "next": following[0] if following else None,
        "alternatives": list(following[1:]),
    }


def text(run: Run, said: str, following: Sequence[str], *more: str) -> str:
    """What was done, lines of its own, and what comes next."""
    over = ["The run is over."] if run.state in FINAL else []
    said_next = [f"{'or: ' if n else 'Next: '}{command}" for n, command in enumerate(following)]
    return "\n".join([said, *more, *(said_next or over)])
