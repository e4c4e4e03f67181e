"""``run``: setup, migrate and verify in one command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from confiture import commands
from confiture.cli import options, progress
from confiture.cli.verify import finish
from confiture.copy.throttle import Throttle


def run(
    target: options.Target,
    source: options.Source = None,
    mapping: options.MappingFile = None,
    chunk_rows: options.ChunkRows = None,
    strategy: options.ChosenStrategy = None,
    seen_as: options.SeenAs = None,
    no_capture: options.NoCapture = False,
    recopy_mb: options.RecopyMb = None,
    accept_publication: options.AcceptPublication = False,
    no_sample: options.NoSample = False,
    target_disk: options.TargetDisk = None,
    accept_small_disk: options.AcceptSmallDisk = False,
    jobs: options.Jobs = None,
    executor: options.Executor = None,
    index_jobs: options.IndexJobs = None,
    max_rate: options.MaxRate = None,
    max_replica_lag: options.MaxReplicaLag = None,
    max_backlog: options.MaxBacklog = None,
    report: options.Report = Path("differences.jsonl"),
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Run setup, migrate and verify; stop before the cutover."""
    where = options.where(target, source, project, hook)
    chosen = options.run_options(
        mapping,
        chunk_rows,
        strategy,
        seen_as,
        no_capture=no_capture,
        recopy_mb=recopy_mb,
        accept_publication=accept_publication,
        no_sample=no_sample,
        target_disk=target_disk,
        accept_small_disk=accept_small_disk,
    )
    throttle = Throttle(max_rate, max_replica_lag, max_backlog)
    chosen = replace(chosen, jobs=jobs, executor=executor, index_jobs=index_jobs, throttle=throttle)
    with progress.Reporter() as reporter:
        commands.setup.execute(where, chosen, reporter)
        commands.migrate.execute(where, chosen, reporter)
        after, result = commands.verify.execute(where, report, False, reporter, jobs=jobs)
    finish(where, after, result, report, format)
