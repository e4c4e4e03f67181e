"""``setup``: the target database, its schema, the journal."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.cli.plan import show


def setup(
    target: options.Target,
    source: options.Source = None,
    mapping: options.MappingFile = None,
    chunk_rows: options.ChunkRows = None,
    strategy: options.ChosenStrategy = None,
    fdw_threshold: options.FdwThreshold = None,
    seen_as: options.SeenAs = None,
    encoding: Annotated[str | None, typer.Option(help="Of a new target; default: the source's.")] = None,
    locale: Annotated[str | None, typer.Option(help="Of a new target; default: the source's.")] = None,
    accept_fsync_off: Annotated[
        bool, typer.Option("--accept-fsync-off", help="Run on servers that may forget.")
    ] = False,
    no_capture: options.NoCapture = False,
    recopy_mb: options.RecopyMb = None,
    accept_publication: options.AcceptPublication = False,
    dry_run: options.DryRun = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Make the target database, build the new schema into it, begin the run."""
    where = options.where(target, source, project)
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
    if dry_run:
        show(where, chosen, format, accept_fsync_off=accept_fsync_off)
        return
    wanted = {"encoding": encoding, "locale": locale, "accept_fsync_off": accept_fsync_off}
    with terminal.Reporter() as reporter:
        run = commands.setup.execute(where, chosen, wanted, reporter)
    terminal.show(where, run, f"setup is done: {run.source_name} -> {run.target_name}, run {run.short}", format)
