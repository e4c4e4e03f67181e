"""``migrate lint``: the statements of migrations that would block the application."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.render import lint as render


def migrate_lint(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files to judge, or folders of files.", show_default="the project's migrations"),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="Weigh the findings by the tables of this database: environment, URI, conninfo or service=NAME.",
            autocompletion=options.environments,
        ),
    ] = None,
    large_table: Annotated[
        int | None,
        typer.Option(
            "--large-table",
            parser=options.size,
            metavar="SIZE",
            help="With --target: recommend a move instead of a rewrite from this size of a table.",
            show_default="10GB",
        ),
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules and their levels.")] = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Find statements that would block the application.

    Each finding has the lock that the statement takes, the reason, and the statements to write instead.
    """
    if rules:
        listed = commands.lint.rules()
        terminal.emit_either(render.rules_text(listed), render.rules_as_json(listed), format)
        return
    where = options.where(target or "", None, project)
    judged = commands.lint.judge(where.project, files or (), target, large_table)
    document = render.as_json(judged.files, judged.findings, judged.database)
    text = render.text(judged.files, judged.statements, judged.findings, judged.database)
    terminal.emit_either(text, document, format)
    error = commands.lint.errors_found(judged)
    if error is not None:
        raise error
