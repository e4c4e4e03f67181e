"""``cutover``: switch to the target."""

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


def cutover(
    target: options.Target,
    source: options.Source = None,
    lock_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds to wait for the source's locks, each try.")
    ] = 0.5,
    give_up_after: Annotated[float, typer.Option(min=0, help="Seconds after which no further try is made.")] = 30.0,
    max_write_pause: Annotated[
        float, typer.Option(min=0.001, help="Seconds to hold the application's writes up, with --capture.")
    ] = 5.0,
    hook: Annotated[str | None, typer.Option(help="A command to run once the target serves; no shell.")] = None,
    report: Report = Path("differences.jsonl"),
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Lock the source, compare once more under the lock, switch."""
    where = options.where(target, source, project)
    arguments = hook_arguments(hook) if hook is not None else None
    with terminal.Reporter() as reporter:
        run, old, new = operations.cutover(
            where, Limits(lock_timeout, give_up_after, max_write_pause), report, reporter
        )
    if arguments is not None:
        code = run_hook(arguments, hook_environment(run.short, old, new))
        if code:
            raise CutoverHalfway(
                f"the target serves, but the hook exited with {code}",
                why=redact(hook or ""),
                fix="run what it was to do by hand, or run the same command again: it runs the hook again",
            )
    terminal.show(
        run,
        "the target serves from here on",
        format,
        f"Point the application at: {new.url}",
        f"Keep it away from the old database {run.source_name}: what it writes there now is not moved.",
        application_url=new.url,
    )
