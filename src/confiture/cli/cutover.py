"""``cutover``: switch to the target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.cli.hook import run_hook_after_switch
from confiture.commands.endpoints import Endpoints
from confiture.pooler.pgbouncer import Pool
from confiture.render import rehearsal as render
from confiture.schema_to_schema.cutover_offline import hook_arguments, hook_environment
from confiture.schema_to_schema.table_lock import Limits

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Catch up, compare, measure the write pause, name who is in the way; no switch."),
]


def cutover(
    target: options.Target,
    source: options.Source = None,
    lock_timeout: options.LockTimeout = 0.5,
    give_up_after: options.GiveUpAfter = 30.0,
    max_write_pause: options.MaxWritePause = 5.0,
    terminate_blockers: options.TerminateBlockers = False,
    max_verification_age: options.MaxVerificationAge = None,
    hook: options.Hook = None,
    pgbouncer: options.PgBouncerConsole = None,
    pool: options.PoolName = None,
    pgbouncer_config: options.PgBouncerConfig = None,
    report: options.Report = Path("differences.jsonl"),
    no_rollback: options.NoRollback = False,
    dry_run: DryRun = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Lock the source, compare once more under the lock, switch."""
    where = options.where(target, source, project)
    arguments = hook_arguments(hook) if hook is not None else None
    limits = Limits(lock_timeout, give_up_after, max_write_pause, terminate_blockers, max_verification_age)
    through = options.pool(pgbouncer, pool, pgbouncer_config)
    if dry_run:
        _rehearse(where, limits, report, through, format)
        return
    problems = commands.plan.rollback_problems(where)
    if problems:
        what = "a cutover after which a rollback is not possible"
        options.confirm(target, what, no_rollback, "--no-rollback", problems)
    with terminal.Reporter() as reporter:
        run, old, new = commands.cutover.execute(where, limits, report, reporter, through)
    if arguments is not None:
        run_hook_after_switch(arguments, hook or "", hook_environment(run.short, old, new), "the target")
    old_stays = (
        f"The old database {run.source_name} takes no more writes."
        if run.options.get("capture")
        else f"Keep it away from the old database {run.source_name}: what it writes there now is not moved."
    )
    terminal.show(
        where,
        run,
        "the target serves from here on",
        format,
        f"Point the application at: {new.url}" if through is None else f"Pool {through.name} leads there.",
        old_stays,
        application_url=new.url,
    )


def _rehearse(where: Endpoints, limits: Limits, report: Path, pool: Pool | None, format: options.Output) -> None:
    with terminal.Reporter() as reporter:
        run, found = commands.cutover.rehearse(where, limits, report, reporter, pool)
    if found is None:
        terminal.show(where, run, "the target serves already", format)
    else:
        said = "nothing refuses a cutover now; none was made"
        told = (*render.text(found), *commands.plan.rollback_told(run))
        terminal.show(where, run, said, format, *told, rehearsal=render.as_json(found))
