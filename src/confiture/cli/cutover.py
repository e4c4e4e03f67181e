"""``cutover``: switch to the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, progress, reads, terminal
from confiture.commands.endpoints import Endpoints
from confiture.commands.hooks import SWITCH, environment_of_hook, run_awaited
from confiture.journal.model import Run
from confiture.pooler import Pool
from confiture.schema_to_schema.outcomes import Limits

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Apply changes, compare, measure the write pause and print blocking sessions; do not switch."
    ),
]


def cutover(
    target: options.Target,
    source: options.Source = None,
    lock_timeout: options.LockTimeout = 0.5,
    give_up_after: options.GiveUpAfter = 30.0,
    max_write_pause: options.MaxWritePause = 5.0,
    terminate_blockers: options.TerminateBlockers = False,
    max_verification_age: options.MaxVerificationAge = None,
    hook: options.Hooks = None,
    pgbouncer: options.PgBouncerConsoles = None,
    pool: options.PoolNames = None,
    pgbouncer_config: options.PgBouncerConfigs = None,
    report: options.Report = Path("differences.jsonl"),
    no_rollback: options.NoRollback = False,
    reads_first: options.ReadsFirst = False,
    reads_back: options.ReadsBack = False,
    max_staleness: options.MaxStaleness = None,
    accept_stale: options.AcceptStale = False,
    no_follow: options.NoFollow = False,
    dry_run: DryRun = False,
    ignore_blockers: options.IgnoreBlockers = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Switch the application's writes to the target.

    The command locks the tables of the source and compares the last changes before it switches.
    """
    where = options.where(target, source, project, hook)
    of_reads = reads.wanted(reads_first, reads_back, max_staleness, accept_stale, no_follow, give_up_after)
    if of_reads is not None:
        reads.refuse_others({"--dry-run": dry_run, "--pgbouncer": pgbouncer, "--pool": pool})
        reads.redirect(where, of_reads, format)
        return
    limits = Limits(lock_timeout, give_up_after, max_write_pause, terminate_blockers, max_verification_age)
    through = options.pools(pgbouncer, pool, pgbouncer_config)
    if dry_run:
        _rehearse(where, limits, report, through, format, ignore_blockers)
        return
    problems = commands.plan.rollback_problems(where)
    if problems:
        what = "a cutover after which a rollback is not possible"
        options.confirm(target, what, no_rollback, "--no-rollback", problems)
    with progress.Reporter() as reporter:
        run, old, new, place = commands.cutover.execute(where, limits, report, reporter, through)
    run_awaited(where.hooks, SWITCH, environment_of_hook(run.short, old, new), "the target is serving")
    terminal.show(
        where,
        run,
        "the target is now serving",
        format,
        options.where_to_connect(through, place),
        _of_old_source(run),
        application_url=new.application_url,
    )


def _of_old_source(run: Run) -> str:
    if run.options.get("capture"):
        return f"The source {run.source_name} no longer accepts writes."
    return f"Keep the application away from the source {run.source_name}: writes made there from now on are lost."


def _rehearse(
    where: Endpoints, limits: Limits, report: Path, pools: Sequence[Pool], format: options.Output, ignore_blockers: bool
) -> None:
    with progress.Reporter() as reporter:
        run, found = commands.cutover.rehearse(where, limits, report, reporter, pools, ignore_blockers=ignore_blockers)
    if found is None:
        terminal.show(where, run, "the target is already serving", format)
    else:
        terminal.show_rehearsal(where, run, "cutover", found, format, *commands.plan.rollback_outlook(run))
