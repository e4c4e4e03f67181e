"""``migrate``: copy every table."""

from __future__ import annotations

from dataclasses import replace

from confiture import commands
from confiture.cli import options, progress, terminal
from confiture.cli.plan import show
from confiture.copy.throttle import Throttle


def migrate(
    target: options.Target,
    source: options.Source = None,
    mapping: options.MappingFile = None,
    chunk_rows: options.ChunkRows = None,
    strategy: options.ChosenStrategy = None,
    restart_table: options.Restart = None,
    jobs: options.Jobs = None,
    executor: options.Executor = None,
    index_jobs: options.IndexJobs = None,
    max_rate: options.MaxRate = None,
    max_replica_lag: options.MaxReplicaLag = None,
    max_backlog: options.MaxBacklog = None,
    dry_run: options.DryRun = False,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Copy every table to the target.

    After a signal or a crash, the same command continues at its last checkpoint.
    """
    where = options.where(target, source, project, hook)
    chosen = options.run_options(mapping, chunk_rows, strategy, None, restart_table)
    throttle = Throttle(max_rate, max_replica_lag, max_backlog)
    chosen = replace(chosen, jobs=jobs, executor=executor, index_jobs=index_jobs, throttle=throttle)
    if dry_run:
        show(where, chosen, format)
        return
    with progress.Reporter() as reporter:
        run, copied = commands.migrate.execute(where, chosen, reporter)
    terminal.show(where, run, f"every row is copied ({copied:,} by this command)", format, rows_copied=copied)
