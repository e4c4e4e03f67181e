"""``cutover``: switch to the target; ``rollback``: back to the source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.cli.verify import Report
from confiture.commands.endpoints import Endpoints
from confiture.config import redact
from confiture.errors import CutoverUnfinished, UsageError
from confiture.pooler.pgbouncer import Pool
from confiture.render import rehearsal as render
from confiture.schema_to_schema.cutover_offline import hook_arguments, hook_environment, run_hook
from confiture.schema_to_schema.table_lock import Limits

LockTimeout = Annotated[float, typer.Option(min=0.001, help="Seconds to wait for the locks, each try.")]
GiveUpAfter = Annotated[float, typer.Option(min=0, help="Seconds after which no further try is made.")]
MaxWritePause = Annotated[float, typer.Option(min=0.001, help="Seconds to hold the application's writes up, at most.")]
TerminateBlockers = Annotated[
    bool, typer.Option("--terminate-blockers", help="End the sessions that keep the lock from us.")
]
MaxVerificationAge = Annotated[
    float | None,
    typer.Option(
        "--max-verification-age",
        parser=options.seconds,
        metavar="DURATION",
        help="Refuse when the last complete verification began longer ago, such as 24h.",
    ),
]
PgBouncerConsole = Annotated[
    str | None, typer.Option("--pgbouncer", help="The admin console of a PgBouncer the application writes through.")
]
PoolName = Annotated[
    str | None, typer.Option("--pool", help="The pool to pause and to lead to the database that serves then.")
]
PgBouncerConfig = Annotated[
    Path | None, typer.Option("--pgbouncer-config", help="PgBouncer's configuration file, if it cannot name it.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Catch up, compare, measure the write pause, name who is in the way; no switch."),
]
NoRollback = Annotated[
    bool, typer.Option("--no-rollback", help="Cut over without asking where a rollback will not be possible.")
]
RollbackDryRun = Annotated[
    bool, typer.Option("--dry-run", help="Compare, measure the write pause, name blocking sessions; do not switch.")
]
Hook = Annotated[str | None, typer.Option(help="A command to run once the other database serves; no shell.")]


def cutover(
    target: options.Target,
    source: options.Source = None,
    lock_timeout: LockTimeout = 0.5,
    give_up_after: GiveUpAfter = 30.0,
    max_write_pause: MaxWritePause = 5.0,
    terminate_blockers: TerminateBlockers = False,
    max_verification_age: MaxVerificationAge = None,
    hook: Hook = None,
    pgbouncer: PgBouncerConsole = None,
    pool: PoolName = None,
    pgbouncer_config: PgBouncerConfig = None,
    report: Report = Path("differences.jsonl"),
    no_rollback: NoRollback = False,
    dry_run: DryRun = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Lock the source, compare once more under the lock, switch."""
    where = options.where(target, source, project)
    arguments = hook_arguments(hook) if hook is not None else None
    limits = Limits(lock_timeout, give_up_after, max_write_pause, terminate_blockers, max_verification_age)
    through = _pool(pgbouncer, pool, pgbouncer_config)
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
        _hook(arguments, hook or "", hook_environment(run.short, old, new), "the target")
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


def _pool(console: str | None, name: str | None, config: Path | None) -> Pool | None:
    if console is not None and name is not None:
        return Pool(console, name, config)
    if (console, name, config) != (None, None, None):
        fix = "--pgbouncer 'host=... port=6432 dbname=pgbouncer' --pool NAME"
        raise UsageError("--pgbouncer and --pool belong together", why="one of them is missing", fix=fix)
    return None


def _rehearse(where: Endpoints, limits: Limits, report: Path, pool: Pool | None, format: options.Output) -> None:
    with terminal.Reporter() as reporter:
        run, found = commands.cutover.rehearse(where, limits, report, reporter, pool)
    if found is None:
        terminal.show(where, run, "the target serves already", format)
    else:
        said = "nothing refuses a cutover now; none was made"
        told = (*render.text(found), *commands.plan.rollback_told(run))
        terminal.show(where, run, said, format, *told, rehearsal=render.as_json(found))


def rollback(
    target: options.Target,
    source: options.Source = None,
    lock_timeout: LockTimeout = 0.5,
    give_up_after: GiveUpAfter = 30.0,
    max_write_pause: MaxWritePause = 5.0,
    terminate_blockers: TerminateBlockers = False,
    hook: Hook = None,
    pgbouncer: PgBouncerConsole = None,
    pool: PoolName = None,
    pgbouncer_config: PgBouncerConfig = None,
    dry_run: RollbackDryRun = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Roll back to the source without losing writes made since the cutover."""
    where = options.where(target, source, project)
    arguments = hook_arguments(hook) if hook is not None else None
    limits = Limits(lock_timeout, give_up_after, max_write_pause, terminate_blockers)
    if dry_run:
        with terminal.Reporter() as reporter:
            run, found = commands.rollback.rehearse(where, limits, reporter)
        said = "nothing refuses a rollback now; none was made"
        terminal.show(where, run, said, format, *render.text(found), rehearsal=render.as_json(found))
        return
    through = _pool(pgbouncer, pool, pgbouncer_config)
    with terminal.Reporter() as reporter:
        run, old, new = commands.rollback.execute(where, limits, reporter, through)
    if arguments is not None:
        _hook(arguments, hook or "", hook_environment(run.short, new, old), "the source")
    terminal.show(
        where,
        run,
        "the source serves again",
        format,
        f"Point the application at: {old.url}" if through is None else f"Pool {through.name} leads there.",
        "What it writes there is captured: verify and cut over again, or abort.",
        application_url=old.url,
    )


def _hook(arguments: list[str], command: str, environment: dict[str, str], who: str) -> None:
    code = run_hook(arguments, environment)
    if code:
        raise CutoverUnfinished(
            f"{who} serves, but the hook exited with {code}",
            why=redact(command),
            fix="run what it was to do by hand, or run the same command again: it runs the hook again",
        )
