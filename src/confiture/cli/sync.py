"""``sync``: copy rows of one database into another one, chosen and masked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, progress, terminal
from confiture.commands.endpoints import Endpoints
from confiture.copy.throttle import Throttle
from confiture.errors import UsageError
from confiture.render import sync as render
from confiture.types import NAMES_SHOWN, counted, some

To = Annotated[
    str,
    typer.Option(
        "--to",
        help="The database that is written to: environment, URI, conninfo or service=NAME.",
        autocompletion=options.environments,
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="The database that is read, which may be a standby.",
        show_default="that of the sync to continue",
        autocompletion=options.environments,
    ),
]
Tables = Annotated[
    list[str] | None,
    typer.Option("--tables", metavar="TABLE", help="Copy only this table and what its rows refer to; may be repeated."),
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="TABLE=CONDITION", help="Copy only these rows of the table; may be repeated."),
]
Sample = Annotated[
    float | None,
    typer.Option("--sample", metavar="PERCENT", help="Share of the rows of each table without --where."),
]
Mask = Annotated[
    Path | None,
    typer.Option("--mask", help="The mask file (YAML).", show_default="db/sync/mask.yaml, if it exists"),
]
AllowUnmasked = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-unmasked",
        metavar="TABLE.COLUMN",
        help="Copy it as it is though it looks personal; may be repeated.",
    ),
]
Consistent = Annotated[bool, typer.Option("--consistent", help="Read every row in one snapshot, which delays VACUUM.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Empty the tables of the sync first; asks for the database's name.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Confirm --replace without a question.")]
Restart = Annotated[bool, typer.Option("--restart", help="Abandon a sync that is not completed, and begin again.")]
Abort = Annotated[bool, typer.Option("--abort", help="End a sync that is not completed, and empty its tables.")]


def sync(
    to: To,
    from_: From = None,
    tables: Tables = None,
    where: Where = None,
    sample: Sample = None,
    mask: Mask = None,
    allow_unmasked: AllowUnmasked = None,
    consistent: Consistent = False,
    jobs: options.Jobs = None,
    max_rate: options.MaxRate = None,
    max_replica_lag: options.MaxReplicaLag = None,
    replace: Replace = False,
    yes: Yes = False,
    restart: Restart = False,
    abort: Abort = False,
    dry_run: options.DryRun = False,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Copy rows of one database into another one, chosen and masked.

    After a signal or a crash, the same command continues.
    """
    databases = options.where(to, from_, project, hook)
    if abort:
        _abort(databases, format)
        return
    request = commands.sync.request(
        databases.project, tables or (), where or (), sample, mask, allow_unmasked or (), consistent=consistent
    )
    chosen = commands.sync.SyncOptions(
        replace=replace, restart=restart, jobs=jobs, throttle=Throttle(max_rate, max_replica_lag)
    )
    if dry_run:
        found = commands.sync.look(databases, request, chosen)
        terminal.emit_either(render.planned_text(found), render.planned_json(found), format)
        return

    def confirm(database: str, emptied: Sequence[str]) -> None:
        names = some(list(emptied), NAMES_SHOWN) or "no table that has rows"
        said = f"the sync empties {counted(len(emptied), 'table')} of {database}: {names}"
        options.confirm(database, "sync --replace", yes, details=[said])

    with progress.Reporter() as reporter:
        made = commands.sync.execute(databases, request, chosen, confirm, reporter)
    terminal.emit_either(render.text(made), render.as_json(made), format)


def _abort(databases: Endpoints, format: options.Output) -> None:
    if databases.source is not None:
        raise UsageError(
            "--abort takes no source", why="the journal has recorded the source of the sync", fix="leave out --from"
        )
    with progress.Reporter() as reporter:
        run = commands.sync.abort(databases, reporter)
    terminal.show(databases, run, f"sync {run.short} is aborted; its tables are empty", format)
