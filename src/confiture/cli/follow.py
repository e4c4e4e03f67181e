"""``follow``: apply captured changes."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, progress, terminal


def follow(
    target: options.Target,
    source: options.Source = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when the backlog is small.")] = False,
    verify_every: Annotated[
        float | None,
        typer.Option(
            "--verify-every",
            parser=options.seconds,
            metavar="DURATION",
            help="Interval between complete verifications; 0 for none.",
            show_default="24h; with --once: none",
        ),
    ] = None,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Apply the application's changes to the target until stopped.

    After the cutover, the command applies the changes made on the target to the source.
    """
    where = options.where(target, source, project, hook)
    with progress.Reporter() as reporter:
        run, rows = commands.follow.execute(where, once, reporter, verify_every)
    terminal.show(where, run, f"{rows:,} rows applied; the backlog is small", format, rows_applied=rows)
