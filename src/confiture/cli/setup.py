"""``setup``: create the target database, its schema and the journal."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, progress, terminal
from confiture.cli.plan import show
from confiture.states import MIGRATING
from confiture.types import shell_word


def setup(
    target: options.Target,
    source: options.Source = None,
    mapping: options.MappingFile = None,
    chunk_rows: options.ChunkRows = None,
    strategy: options.ChosenStrategy = None,
    seen_as: options.SeenAs = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of a new target.", show_default="that of the source")
    ] = None,
    locale: Annotated[
        str | None, typer.Option(help="Locale of a new target.", show_default="that of the source")
    ] = None,
    accept_fsync_off: options.AcceptFsyncOff = False,
    no_capture: options.NoCapture = False,
    recopy_mb: options.RecopyMb = None,
    accept_publication: options.AcceptPublication = False,
    no_sample: options.NoSample = False,
    plan: options.GivenPlan = None,
    target_disk: options.TargetDisk = None,
    accept_small_disk: options.AcceptSmallDisk = False,
    require_approval: Annotated[
        bool, typer.Option("--require-approval", help="Refuse the cutover until another role has approved it.")
    ] = False,
    dry_run: options.DryRun = False,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Create the target with its new schema, and begin a run.

    The target database is created if it does not exist.
    """
    where = options.where(target, source, project, hook)
    chosen = options.run_options(
        mapping,
        chunk_rows,
        strategy,
        seen_as,
        no_capture=no_capture,
        recopy_mb=recopy_mb,
        accept_publication=accept_publication,
        plan=plan,
        no_sample=no_sample,
        target_disk=target_disk,
        accept_small_disk=accept_small_disk,
    )
    if dry_run:
        values = {"--encoding": encoding, "--locale": locale}
        flags = {"--accept-fsync-off": accept_fsync_off, "--require-approval": require_approval}
        words = [word for name, value in values.items() if value is not None for word in (name, shell_word(value))]
        words += [name for name, given in flags.items() if given]
        show(where, chosen, format, accept_fsync_off=accept_fsync_off, setup=words)
        return
    with progress.Reporter() as reporter:
        run = commands.setup.execute(
            where,
            chosen,
            reporter,
            encoding=encoding,
            locale=locale,
            accept_fsync_off=accept_fsync_off,
            require_approval=require_approval,
        )
    said = f"setup is done: {run.source_name} -> {run.target_name}, run {run.short}"
    # Of a run in which an earlier migrate was stopped, migrate copies the rest.
    terminal.show(where, run, said, format, step="migrate" if run.state == MIGRATING else None)
