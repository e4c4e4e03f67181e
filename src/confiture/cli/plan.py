"""``plan`` and ``preview``: what would happen, and tomorrow's rows today."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands, config
from confiture.cli import options, terminal
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.render import plan as render


def choices(
    mapping: options.MappingFile,
    chunk_rows: options.ChunkRows,
    strategy: options.ChosenStrategy,
    fdw_threshold: options.FdwThreshold,
    seen_as: options.SeenAs,
    restart: list[str] | None = None,
    *,
    no_capture: bool = False,
    recopy_mb: int | None = None,
    accept_publication: bool = False,
) -> RunOptions:
    """The choices of a command line."""
    chosen = strategy.value if strategy is not None else None
    elsewhere = config.address(seen_as) if seen_as is not None else None
    capture = False if no_capture else None

    return RunOptions(
        mapping,
        chunk_rows,
        chosen,
        fdw_threshold,
        elsewhere,
        tuple(restart or ()),
        capture,
        recopy_mb,
        accept_publication,
    )


def plan(
    target: options.Target,
    source: options.Source = None,
    mapping: options.MappingFile = None,
    chunk_rows: options.ChunkRows = None,
    strategy: options.ChosenStrategy = None,
    fdw_threshold: options.FdwThreshold = None,
    seen_as: options.SeenAs = None,
    no_capture: options.NoCapture = False,
    recopy_mb: options.RecopyMb = None,
    accept_publication: options.AcceptPublication = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Print the plan; change nothing."""
    chosen = choices(
        mapping,
        chunk_rows,
        strategy,
        fdw_threshold,
        seen_as,
        no_capture=no_capture,
        recopy_mb=recopy_mb,
        accept_publication=accept_publication,
    )
    show(options.where(target, source, project), chosen, format)


def show(where: Endpoints, chosen: RunOptions, format: options.Output, *, accept_fsync_off: bool = True) -> None:
    """Make a plan and print it."""
    planned = commands.plan.make(where, chosen, accept_fsync_off=accept_fsync_off)
    if format is options.Output.json:
        terminal.emit_json(render.as_json(planned.plan))
    else:
        terminal.emit(render.text(planned.plan))


def preview(
    table: Annotated[str, typer.Option("--table", help="A table of the target.")],
    target: options.Target,
    source: options.Source = None,
    mapping: options.MappingFile = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows.")] = 3,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Show rows of a table before and after."""
    where = options.where(target, source, project)
    found = commands.plan.preview(where, RunOptions(mapping=mapping), table, rows)
    if format is options.Output.json:
        terminal.emit_json(render.preview_json(table, found))
    else:
        terminal.emit(render.preview(table, found))
