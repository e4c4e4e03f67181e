"""The command line: one command per file, which parses its options, calls ``confiture.commands`` and prints the result.

No file contains SQL. Exit codes are chosen in ``exit_codes``.
"""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from typing import Annotated

import psycopg
import typer

from confiture import __version__
from confiture.cli import (
    abort,
    build,
    cleanup,
    cutover,
    demo,
    exit_codes,
    follow,
    grants,
    init,
    migrate,
    pause,
    plan,
    preview,
    resume,
    rollback,
    run,
    schema,
    setup,
    status,
    streams,
    terminal,
    throttle,
    verify,
)
from confiture.cli.command import Command, Group
from confiture.errors import ConfitureError
from confiture.log import configure
from confiture.postgres.failure import failure

_VERBOSE = "--verbose"

app = typer.Typer(
    name="confiture",
    help="Move a live PostgreSQL database into a new database with a new schema.",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_migrate = typer.Typer(help="Move data between databases.", cls=Group)
_schema = typer.Typer(help="Move a database into a new database with a new schema.", cls=Group)
app.add_typer(_migrate, name="migrate")
_migrate.add_typer(_schema, name="schema-to-schema")

for command in (
    setup.setup,
    migrate.migrate,
    verify.verify,
    cutover.cutover,
    rollback.rollback,
    cleanup.cleanup,
    plan.plan,
    preview.preview,
    run.run,
    follow.follow,
    pause.pause,
    resume.resume,
    throttle.throttle,
    abort.abort,
):
    _schema.command(command.__name__, cls=Command)(command)
app.command("build", cls=Command)(build.build)
app.command("demo", cls=Command)(demo.demo)
app.command("grants", cls=Command)(grants.grants)
app.command("init", cls=Command)(init.init)
app.command("schema", cls=Command)(schema.schema)
app.command("status", cls=status.Command)(status.status)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"confiture {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    verbose: Annotated[
        bool, typer.Option(_VERBOSE, help="Show full error details. Accepted anywhere on the command line.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of every command. ``main`` has already removed ``--verbose``."""


def main() -> None:
    """The console script: print an error in up to three lines, and exit with its code."""
    given = sys.argv[1:]
    arguments = [argument for argument in given if argument != _VERBOSE]
    verbose = arguments != given
    configure(verbose=verbose)
    logging.captureWarnings(True)
    streams.prepare()
    try:
        app(arguments, prog_name="confiture")
    except (Exception, KeyboardInterrupt) as raised:
        # Help and usage are written by typer; everything else goes through ``terminal.emit``.
        lost = isinstance(raised, OSError) and raised.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)
        error = streams.unwritten(raised) if lost and isinstance(raised, OSError) else raised
        terminal.print_error(_described(error), verbose=verbose)
        code = exit_codes.of_error(error)
        if verbose and code == exit_codes.INTERNAL_ERROR and not isinstance(error, ConfitureError):
            traceback.print_exc()
        sys.exit(code)


def _described(error: BaseException) -> ConfitureError:
    """The error with an explanation for the operator."""
    if isinstance(error, ConfitureError):
        return error
    if isinstance(error, psycopg.Error):
        return failure(error, "running the command")
    if isinstance(error, KeyboardInterrupt):
        return ConfitureError("interrupted")
    return ConfitureError(
        f"internal error: {type(error).__name__}",
        why="this is a defect of Confiture; completed work is kept",
        fix=f"rerun the command with {_VERBOSE} and report its complete output",
    )
