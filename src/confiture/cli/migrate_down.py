"""``migrate down``: revert the newest migrations."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import migrating, options
from confiture.errors import UsageError


def migrate_down(
    target: options.Target,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="How many migrations to revert.", show_default="1")
    ] = None,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="VERSION", help="The version that stays the newest; 0 reverts every migration."),
    ] = None,
    dry_run: migrating.DryRun = False,
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
    migrating.execute(where, "down", chosen, dry_run, format)
