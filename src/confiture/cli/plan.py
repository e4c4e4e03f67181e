"""``plan``: print what would be done."""

from __future__ import annotations

from confiture import commands
from confiture.cli import options, terminal
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.render import plan as render


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
    """Print the plan and change nothing."""
    chosen = options.choices(
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
    """Print the plan of a run."""
    planned = commands.plan.make(where, chosen, accept_fsync_off=accept_fsync_off)
    if format is options.Output.json:
        terminal.emit_json(render.as_json(planned.plan))
    else:
        terminal.emit(render.text(planned.plan))
