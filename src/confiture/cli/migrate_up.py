"""``migrate up``: apply the pending migrations."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, progress, terminal
from confiture.render import migrations as render


def migrate_up(
    target: options.Target,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="VERSION", help="The last version to apply.", show_default="the newest"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run everything in a transaction that is rolled back; print the locks.")
    ] = False,
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
    with progress.Reporter() as reporter:
        if dry_run:
            database, tried = commands.migrations_dry_run.execute(where, "up", chosen, reporter)
            terminal.emit_either(render.dry_run_text(tried), render.dry_run_json(tried, database.name), format)
            return
        found = commands.migrations.up(where, chosen, reporter)
    text = render.done_text(found.done, "up", found.target.name)
    terminal.emit_either(text, render.done_json(found.done, found.run, found.target.name), format)
