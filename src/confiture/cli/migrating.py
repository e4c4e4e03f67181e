"""The part that ``migrate up`` and ``migrate down`` share: the run or its rehearsal, and the output."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from confiture import commands
from confiture.cli import options, progress, terminal
from confiture.commands.endpoints import Endpoints
from confiture.commands.migrations import Options
from confiture.render import migrations as render

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Run everything in a transaction that is rolled back; print the locks.")
]


def execute(
    where: Endpoints, way: Literal["up", "down"], chosen: Options, dry_run: bool, format: options.Output
) -> None:
    """Apply or revert migrations, or rehearse that, and print the outcome."""
    with progress.Reporter() as reporter:
        if dry_run:
            database, tried = commands.migrations_dry_run.execute(where, way, chosen, reporter)
            terminal.emit_either(render.dry_run_text(tried), render.dry_run_json(tried, database.name), format)
            return
        run = commands.migrations.up if way == "up" else commands.migrations.down
        found = run(where, chosen, reporter)
    text = render.done_text(found.done, way, found.target.name)
    terminal.emit_either(text, render.done_json(found.done, found.run, found.target.name), format)
