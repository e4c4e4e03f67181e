"""``preview``: rows of a target table before and after."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.commands.options import RunOptions
from confiture.render import plan as render


def preview(
    table: Annotated[str, typer.Option("--table", help="A table of the target.")],
    target: options.Target,
    source: options.Source = None,
    mapping: options.MappingFile = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Number of rows.")] = 3,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Show rows of a table before and after the mapping."""
    where = options.where(target, source, project)
    found = commands.plan.preview(where, RunOptions(mapping=mapping), table, rows)
    if format is options.Output.json:
        terminal.emit_json(render.preview_json(table, found))
    else:
        terminal.emit(render.preview(table, found))
