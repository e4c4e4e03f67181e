"""``migrate status``: where each migration stands."""

from __future__ import annotations

import typer

from confiture import commands
from confiture.cli import exit_codes, monitoring, options, terminal
from confiture.errors import ConfitureError
from confiture.render import migrations as render
from confiture.status.facts import Severity

#: The class of the command.
Command = monitoring.Command


def migrate_status(
    target: options.Target,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Report which migrations are applied, pending, edited or missing.

    Nothing is written, and no ledger is needed. The exit code is 0 for OK, 1 for WARNING, 2 for CRITICAL and 3 for
    UNKNOWN.
    """
    where = options.where(target, None, project)
    try:
        report = commands.migrations_status.report(where)
    except ConfitureError as error:
        terminal.print_error(error)
        raise typer.Exit(exit_codes.of_status(Severity.UNKNOWN)) from None
    text, value = render.status_text(report, where.naming), render.status_json(report, where.naming)
    terminal.emit_either(text, value, format)
    raise typer.Exit(exit_codes.of_status(Severity[report.severity]))
