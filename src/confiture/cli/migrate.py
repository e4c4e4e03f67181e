"""``migrate`` and ``run``: copy, and everything up to the cutover in one go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.cli.plan import choices, show
from confiture.cli.throttle import MaxBacklog, MaxRate, MaxReplicaLag
from confiture.cli.verify import Report, finish
from confiture.copy.throttle import Throttle

Restart = Annotated[
    list[str] | None, typer.Option("--restart-table", help="Empty this target table and copy it again; repeatable.")
]


def migrate(
    target: options.Target,
    source: options.Source = None,
    mapping: options.MappingFile = None,
    chunk_rows: options.ChunkRows = None,
    strategy: options.ChosenStrategy = None,
    fdw_threshold: options.FdwThreshold = None,
    restart_table: Restart = None,
    max_rate: MaxRate = None,
    max_replica_lag: MaxReplicaLag = None,
    max_backlog: MaxBacklog = None,
    dry_run: options.DryRun = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Copy every table; stopped or killed, the same command goes on where it was."""
    where = options.where(target, source, project)
    chosen = choices(mapping, chunk_rows, strategy, fdw_threshold, None, restart_table)
    chosen = replace(chosen, throttle=Throttle(max_rate, max_replica_lag, max_backlog))
    if dry_run:
        show(where, chosen, format)
        return
    with terminal.Reporter() as reporter:
        run, copied = commands.migrate.execute(where, chosen, reporter)
    terminal.show(where, run, f"every row is copied ({copied:,} by this command)", format, rows_copied=copied)


def run(
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
    max_rate: MaxRate = None,
    max_replica_lag: MaxReplicaLag = None,
    max_backlog: MaxBacklog = None,
    report: Report = Path("differences.jsonl"),
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Setup, migrate and verify in one go; stops before the cutover."""
    where = options.where(target, source, project)
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
    chosen = replace(chosen, throttle=Throttle(max_rate, max_replica_lag, max_backlog))
    with terminal.Reporter() as reporter:
        commands.setup.execute(where, chosen, {}, reporter)
        commands.migrate.execute(where, chosen, reporter)
        after, result = commands.verify.execute(where, report, False, reporter)
    finish(where, after, result, report, format)
