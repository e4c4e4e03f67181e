"""``cleanup``, ``abort``, ``pause`` and ``resume``: ending a run, and talking to a running one."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal

DropSource = Annotated[str | None, typer.Option("--drop-source", help="Drop the old database too; its exact name.")]


def cleanup(
    target: options.Target,
    source: options.Source = None,
    drop_source: DropSource = None,
    yes: options.Yes = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """After the cutover: drop what the run made on both sides. The journal stays as history."""
    where = options.where(target, source, project)
    what = "cleanup drops the run's schemas and its foreign server"
    if drop_source is not None:
        what += f", and THE DATABASE {drop_source}"
    with terminal.Reporter() as reporter:
        run = commands.cleanup.execute(
            where, drop_source, lambda: options.confirm(drop_source or target, what, yes), reporter
        )
    terminal.show(where, run, "what the run made is dropped; the journal stays", format)


def abort(
    target: options.Target,
    source: options.Source = None,
    yes: options.Yes = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Give the run up before the cutover: drop what it made, and what setup built in the target."""
    where = options.where(target, source, project)
    what = "abort drops every row copied and what setup built in the target"
    with terminal.Reporter() as reporter:
        run = commands.abort.execute(where, lambda: options.confirm(target, what, yes), reporter)
    terminal.show(where, run, "the run is given up; the source is as it was", format)


def follow(
    target: options.Target,
    source: options.Source = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when little is waiting.")] = False,
    verify_every: Annotated[
        float | None,
        typer.Option(
            "--verify-every",
            parser=options.seconds,
            metavar="DURATION",
            help="Compare every row again that often (24h; with --once only if given); 0: never.",
        ),
    ] = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Keep the target fresh while the application writes, until a signal or the cutover."""
    where = options.where(target, source, project)
    with terminal.Reporter() as reporter:
        run, rows = commands.follow.execute(where, once, reporter, verify_every)
    terminal.show(where, run, f"{rows:,} rows brought over; little is waiting", format, rows_brought=rows)


def pause(
    target: options.Target,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Ask the running command to pause at its next checkpoint."""
    where = options.where(target, None, project)
    run = commands.requests.request(where, "pause")
    terminal.show(where, run, "asked to pause", format, step="resume")


def resume(
    target: options.Target,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Ask the paused command to go on."""
    where = options.where(target, None, project)
    run = commands.requests.request(where, "resume")
    terminal.show(where, run, "asked to go on", format)
