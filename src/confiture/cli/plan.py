"""``plan``: print what would be done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.errors import UsageError
from confiture.render import plan as render
from confiture.web import file


def plan(
    target: options.Target,
    source: options.Source = None,
    mapping: options.MappingFile = None,
    chunk_rows: options.ChunkRows = None,
    strategy: options.ChosenStrategy = None,
    seen_as: options.SeenAs = None,
    no_capture: options.NoCapture = False,
    recopy_mb: options.RecopyMb = None,
    accept_publication: options.AcceptPublication = False,
    table: Annotated[str | None, typer.Option("--table", help="Print this table of the target in full.")] = None,
    all_tables: Annotated[bool, typer.Option("--all", help="Print every table in full.")] = False,
    no_sample: options.NoSample = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="Also write the plan to this file (JSON), for setup --plan.")
    ] = None,
    target_disk: options.TargetDisk = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Print the plan and change nothing.

    The summary contains what blocks a rollback, what is copied under the lock of the cutover, a forecast of the time
    and the disk space, and the next command. For the forecast, some rows of the large tables are read.
    """
    chosen = options.run_options(
        mapping,
        chunk_rows,
        strategy,
        seen_as,
        no_capture=no_capture,
        recopy_mb=recopy_mb,
        accept_publication=accept_publication,
        no_sample=no_sample,
        target_disk=target_disk,
    )
    if output is not None and table is not None:
        raise UsageError("--output writes the whole plan", why="--table selects one table", fix="omit one of the two")
    place = options.where(target, source, project)
    show(place, chosen, format, table=table, all_tables=all_tables, output=output)


def show(
    where: Endpoints,
    chosen: RunOptions,
    format: options.Output,
    *,
    table: str | None = None,
    all_tables: bool = False,
    accept_fsync_off: bool = True,
    output: Path | None = None,
    setup: Sequence[str] | None = None,
) -> None:
    """Print the plan of a run, with its forecast while the run is not set up.

    :param output: a file to write it to.
    :param setup: for the dry run of a setup, the words of the command that only setup accepts.
    :raises Refused: after the plan is printed, when such a setup would refuse the disk of the target.
    """
    planned = commands.plan.make(where, chosen, accept_fsync_off=accept_fsync_off)
    following = commands.plan.next_command(where, chosen, planned, output, setup or ())
    one = commands.plan.table_named(planned.plan, table) if table is not None else None
    forecast = commands.forecast.of(where, planned, chosen) if one is None else None
    document = render.as_json(planned.plan, planned.blockers, following, one, forecast)
    if output is not None:
        file.write(output, terminal.as_json(document) + "\n", private=False)
    if format is options.Output.json:
        terminal.emit_json(document)
    elif one is not None:
        terminal.emit("\n".join(render.one_table(one)))
    else:
        tables = render.full(planned.plan) if all_tables else render.table_list(planned.plan)
        summary = render.summary(
            planned.plan,
            captured=planned.captured,
            blockers=planned.blockers,
            following=following,
            created=planned.created,
            forecast=forecast,
        )
        written = f"\n\nwrote {output}, plan {planned.plan.hash}" if output is not None else ""
        terminal.emit(f"{tables}\n\n{summary}{written}")
    if setup is not None and forecast is not None:
        commands.forecast.check(forecast, chosen)
