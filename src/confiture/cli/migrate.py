"""``migrate`` and ``run``: copy, and everything up to the cutover in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from confiture import operations
from confiture.cli import options, terminal
from confiture.cli.plan import choices, show
from confiture.cli.verify import Report, finish
from confiture.journal.throttling import Allowed

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
    max_rate: options.MaxRate = None,
    max_replica_lag: options.MaxReplicaLag = None,
    dry_run: options.DryRun = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Copy every table; stopped or killed, the same command goes on where it was."""
    where = options.where(target, source, project)
    chosen = choices(mapping, chunk_rows, strategy, fdw_threshold, None, restart_table)
    if dry_run:
        show(where, chosen, format)
        return
    throttle_first(where, max_rate, max_replica_lag)
    with terminal.Reporter() as reporter:
        run, copied = operations.migrate(where, chosen, reporter)
    terminal.show(run, f"every row is copied ({copied:,} by this command)", format, rows_copied=copied)


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
    max_rate: options.MaxRate = None,
    max_replica_lag: options.MaxReplicaLag = None,
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
    with terminal.Reporter() as reporter:
        operations.setup(where, chosen, {}, reporter)
        throttle_first(where, max_rate, max_replica_lag)
        operations.migrate(where, chosen, reporter)
        after, result = operations.verify(where, report, False, reporter)
    finish(after, result, report, format)


def throttle_first(where: operations.Where, max_rate: int | None, max_replica_lag: float | None) -> None:
    """Limits given to a command that copies hold from its beginning; without any, those that were set before."""
    allowed = Allowed(max_rate, max_replica_lag)
    if allowed.limited:
        operations.throttle(where, allowed)
