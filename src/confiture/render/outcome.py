"""The outcome of a command: the state of the run and the next command."""

from __future__ import annotations

from collections.abc import Sequence

from confiture.journal.model import Run
from confiture.naming import Naming
from confiture.render.documents import SCHEMA_VERSION, RunSummary
from confiture.states import CUTOVER, FINAL, MIGRATING, SETUP, VERIFIED, writes_served_by

_NEXT = {SETUP: "migrate", MIGRATING: "verify", VERIFIED: "cutover", CUTOVER: "cleanup"}


def next_commands(run: Run, naming: Naming, step: str | None = None) -> tuple[str, ...]:
    """The next command and its alternatives, quoted for a shell; empty when the run is over.

    :param step: the next step; None when the run's state determines it.
    """
    natural = _NEXT.get(run.state)
    if step is None and natural is None:
        return ()
    back = [naming.command("rollback")] if run.state == CUTOVER and _can_roll_back(run) else []
    return (naming.command(step or natural or ""), *(back if step in (None, natural) else []))


def _can_roll_back(run: Run) -> bool:
    tables = (run.plan or {}).get("tables", [])
    if run.blocked_reason is not None:
        return False
    return bool(run.options.get("capture")) and not any(table.get("rollback_problem") for table in tables)


def as_json(run: Run, following: Sequence[str]) -> RunSummary:
    """The run, as every command's JSON contains it (``schemas/run.json``).

    :param following: the result of :func:`next_commands`.
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


def text(run: Run, said: str, following: Sequence[str], *more: str, refused: bool = False) -> str:
    """The work that was done, further lines, and the next command.

    :param refused: an error follows, which contains what to do next.
    """
    over = ["The run is over."] if run.state in FINAL else []
    # Only the step that follows a cutover has an alternative.
    first = "Next, when a rollback is no longer wanted" if len(following) > 1 else "Next"
    said_next = [f"{'or' if n else first}: {command}" for n, command in enumerate(following)]
    return "\n".join([said, *more, *([] if refused else said_next or over)])
