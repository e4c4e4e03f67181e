"""``history``: who did what when."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.render import history as render


def history(
    target: options.Target,
    every: Annotated[bool, typer.Option("--all", help="Include the earlier runs of the target.")] = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Print who did what and when in a run.

    Each event has the user, the host and the process of the command, and the role of its session in the target.
    """
    found = commands.history.read(options.where(target, None, project), every=every)
    terminal.emit_either(render.text(found), render.as_json(found), format)
