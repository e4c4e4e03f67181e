"""``migrate up``: apply the pending migrations."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import migrating, options


def migrate_up(
    target: options.Target,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="VERSION", help="The last version to apply.", show_default="the newest"),
    ] = None,
    dry_run: migrating.DryRun = False,
    out_of_order: Annotated[
        bool, typer.Option("--out-of-order", help="Also apply migrations below one that is applied.")
    ] = False,
    lock_timeout: options.MigrationLockTimeout = None,
    give_up_after: options.MigrationGiveUpAfter = None,
    in_doubt: options.InDoubt = None,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Apply the pending migrations.

    Each migration is one transaction, unless its first line is "-- confiture: no-transaction". After a signal or a
    crash, the same command continues.
    """
    where = options.where(target, None, project, hook)
    chosen = commands.migrations.options_of(
        to, lock_timeout, give_up_after, out_of_order=out_of_order, in_doubt=in_doubt.value if in_doubt else None
    )
    migrating.execute(where, "up", chosen, dry_run, format)
