"""``cutover``: switch to the target; ``rollback``: back to the source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from confiture import operations
from confiture.cli import options, terminal
from confiture.cli.verify import Report
from confiture.config import redact
from confiture.errors import CutoverHalfway
from confiture.steps.cutover import Limits, hook_arguments, hook_environment, run_hook

LockTimeout = Annotated[float, typer.Option(min=0.001, help="Seconds to wait for the locks, each try.")]
GiveUpAfter = Annotated[float, typer.Option(min=0, help="Seconds after which no further try is made.")]
MaxWritePause = Annotated[float, typer.Option(min=0.001, help="Seconds to hold the application's writes up, at most.")]
TerminateBlockers = Annotated[
    bool, typer.Option("--terminate-blockers", help="End the sessions that keep the lock from us.")
]
Hook = Annotated[str | None, typer.Option(help="A command to run once the other database serves; no shell.")]


def cutover(
    target: options.Target,
    source: options.Source = None,
    lock_timeout: LockTimeout = 0.5,
    give_up_after: GiveUpAfter = 30.0,
    max_write_pause: MaxWritePause = 5.0,
    terminate_blockers: TerminateBlockers = False,
    hook: Hook = None,
    report: Report = Path("differences.jsonl"),
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Lock the source, compare once more under the lock, switch."""
    where = options.where(target, source, project)
    arguments = hook_arguments(hook) if hook is not None else None
    with terminal.Reporter() as reporter:
        run, old, new = operations.cutover(
            where, Limits(lock_timeout, give_up_after, max_write_pause, terminate_blockers), report, reporter
        )
    if arguments is not None:
        _hook(arguments, hook or "", hook_environment(run.short, old, new), "the target")
    old_stays = (
        f"The old database {run.source_name} takes no more writes."
        if run.options.get("capture")
        else f"Keep it away from the old database {run.source_name}: what it writes there now is not moved."
    )
    terminal.show(
        run,
        "the target serves from here on",
        format,
        f"Point the application at: {new.url}",
        old_stays,
        application_url=new.url,
    )


def rollback(
    target: options.Target,
    source: options.Source = None,
    lock_timeout: LockTimeout = 0.5,
    give_up_after: GiveUpAfter = 30.0,
    max_write_pause: MaxWritePause = 5.0,
    terminate_blockers: TerminateBlockers = False,
    hook: Hook = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """After the cutover: back to the old database, with all that was written since."""
    where = options.where(target, source, project)
    arguments = hook_arguments(hook) if hook is not None else None
    with terminal.Reporter() as reporter:
        limits = Limits(lock_timeout, give_up_after, max_write_pause, terminate_blockers)
        run, old, new = operations.rollback(where, limits, reporter)
    if arguments is not None:
        _hook(arguments, hook or "", hook_environment(run.short, new, old), "the source")
    terminal.show(
        run,
        "the source serves again",
        format,
        f"Point the application at: {old.url}",
        "What it writes there is captured: verify and cut over again, or abort.",
        application_url=old.url,
    )


def _hook(arguments: list[str], command: str, environment: dict[str, str], who: str) -> None:
    code = run_hook(arguments, environment)
    if code:
        raise CutoverHalfway(
            f"{who} serves, but the hook exited with {code}",
            why=redact(command),
            fix="run what it was to do by hand, or run the same command again: it runs the hook again",
        )
