"""``rollback``: switch back to the source."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, progress, reads, terminal
from confiture.commands.hooks import SWITCH, environment_of_hook, run_awaited
from confiture.schema_to_schema.outcomes import Limits

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Compare, measure the write pause and print blocking sessions; do not switch.")
]


def rollback(
    target: options.Target,
    source: options.Source = None,
    lock_timeout: options.LockTimeout = 0.5,
    give_up_after: options.GiveUpAfter = 30.0,
    max_write_pause: options.MaxWritePause = 5.0,
    terminate_blockers: options.TerminateBlockers = False,
    hook: options.Hooks = None,
    pgbouncer: options.PgBouncerConsoles = None,
    pool: options.PoolNames = None,
    pgbouncer_config: options.PgBouncerConfigs = None,
    dry_run: DryRun = False,
    ignore_blockers: options.IgnoreBlockers = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Switch back to the source without losing a write.

    Writes made on the target since the cutover are applied to the source first.
    """
    where = options.where(target, source, project, hook)
    limits = Limits(lock_timeout, give_up_after, max_write_pause, terminate_blockers)
    through = options.pools(pgbouncer, pool, pgbouncer_config)
    if dry_run:
        with progress.Reporter() as reporter:
            run, found = commands.rollback.rehearse(where, limits, reporter, through, ignore_blockers=ignore_blockers)
        terminal.show_rehearsal(where, run, "rollback", found, format)
        return
    with progress.Reporter() as reporter:
        run, old, new, place = commands.rollback.execute(where, limits, reporter, through)
    run_awaited(where.hooks, SWITCH, environment_of_hook(run.short, new, old), "the source is serving")
    of_reads = reads.after_rollback(where, run)
    terminal.show(
        where,
        run,
        "the source is serving again",
        format,
        options.where_to_connect(through, place),
        "Its writes there are captured. Next, verify and cut over again, or abort.",
        *of_reads,
        application_url=old.application_url,
    )
