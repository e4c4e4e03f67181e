"""``verify``: compare every row and print what agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, progress, terminal
from confiture.commands.endpoints import Endpoints
from confiture.journal.model import Run
from confiture.render import outcome
from confiture.render import verification as render
from confiture.schema_to_schema.outcomes import Result


def verify(
    target: options.Target,
    source: options.Source = None,
    report: options.Report = Path("differences.jsonl"),
    again: Annotated[bool, typer.Option("--again", help="Repeat a verification that has already passed.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Copy the rows that differ again, then compare again.")
    ] = False,
    jobs: options.Jobs = None,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Compare source and target.

    The command compares every row, and checks foreign keys, constraints, indexes and sequences.
    """
    where = options.where(target, source, project, hook)
    with progress.Reporter() as reporter:
        after, result = commands.verify.execute(where, report, again, reporter, repair=repair, jobs=jobs)
    finish(where, after, result, report, format)


def finish(where: Endpoints, run: Run, result: Result, report: Path, format: options.Output) -> None:
    """Print the outcome of a verification.

    :raises DifferencesFound: when something differs.
    """
    if format is options.Output.json:
        following = terminal.next_commands(where, run)
        terminal.emit_json({**outcome.as_json(run, following), "verification": render.as_json(result)})
    else:
        terminal.emit(render.text(result))
    if not result.equal:
        raise commands.verify.differences_found(run, result, report, where)
    if format is options.Output.text:
        terminal.show(where, run, "source and target agree", format, *commands.plan.rollback_outlook(run))
