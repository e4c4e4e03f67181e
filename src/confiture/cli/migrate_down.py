"""``migrate down``: revert the newest migrations."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, progress, terminal
from confiture.errors import UsageError
from confiture.render import migrations as render


def migrate_down(
    target: options.Target,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="How many migrations to revert.", show_default="1")
    ] = None,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="VERSION", help="The version that stays the newest; 0 reverts every migration."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run everything in a transaction that is rolled back; print the locks.")
    ] = False,
    lock_timeout: options.MigrationLockTimeout = None,
    give_up_after: options.MigrationGiveUpAfter = None,
    in_doubt: options.InDoubt = None,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Revert the newest migrations.

    The newest is reverted first. Nothing is reverted when one of them has no down file. After a signal or a crash, the
    same command continues.
    """
    if steps is not None and to is not None:
        raise UsageError(
            "--steps and --to exclude each other", why="both choose the migrations", fix="give one of them"
        )
    where = options.where(target, None, project, hook)
    chosen = commands.migrations.options_of(
        to, lock_timeout, give_up_after, steps=steps or 1, in_doubt=in_doubt.value if in_doubt else None
    )
    with progress.Reporter() as reporter:
        if dry_run:
            database, tried = commands.migrations_dry_run.execute(where, "down", chosen, reporter)
            terminal.emit_either(render.dry_run_text(tried), render.dry_run_json(tried, database.name), format)
            return
        found = commands.migrations.down(where, chosen, reporter)
    text = render.done_text(found.done, "down", found.target.name)
    terminal.emit_either(text, render.done_json(found.done, found.run, found.target.name), format)
