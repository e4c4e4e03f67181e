"""``follow``: apply what the application changes."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal


def follow(
    target: options.Target,
    source: options.Source = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when little is waiting.")] = False,
    verify_every: Annotated[
        float | None,
        typer.Option(
            "--verify-every",
            parser=options.seconds,
            metavar="DURATION",
            help="Compare every row again that often (24h; with --once only if given); 0: never.",
        ),
    ] = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Keep the target fresh while the application writes, until a signal or the cutover."""
    where = options.where(target, source, project)
    with terminal.Reporter() as reporter:
        run, rows = commands.follow.execute(where, once, reporter, verify_every)
    terminal.show(where, run, f"{rows:,} rows brought over; little is waiting", format, rows_brought=rows)
