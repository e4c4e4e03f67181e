"""The command line: one command per file, which parses its options, calls ``confiture.commands`` and prints the result.

No file contains SQL. Exit codes are chosen in ``exit_codes``. A command's file is imported when the command is called.
"""

from __future__ import annotations

import gc
import logging
import sys
from typing import Annotated

import typer

from confiture import __version__
from confiture.cli import streams
from confiture.cli.command import Group, Later, LaterOfMigrate
from confiture.cli.help_texts import MIGRATE, SUMMARIES, TOP
from confiture.log import configure

_VERBOSE = "--verbose"

app = typer.Typer(
    name="confiture",
    help="Move a live PostgreSQL database into a new database with a new schema.",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_migrate = typer.Typer(help="Change a database in place, or move it into a new one.", cls=Group)
_schema = typer.Typer(help="Move a database into a new database with a new schema.", cls=Group)
app.add_typer(_migrate, name=MIGRATE)
_migrate.add_typer(_schema, name="schema-to-schema")


def _later() -> None:
    """Stands for a command until its file is imported."""


for name, summary in SUMMARIES.items():
    if name.startswith(f"{MIGRATE} "):
        _migrate.command(name.removeprefix(f"{MIGRATE} "), cls=LaterOfMigrate, help=summary)(_later)
    else:
        (app if name in TOP else _schema).command(name, cls=Later, help=summary)(_later)


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
    """The console script: print an error in up to three lines, and exit with its code.

    Modules are no garbage, but there are so many objects in them that looking for garbage would take a third of the
    time of a short command. So the collector starts when they are imported, and the process ends without it.
    https://docs.python.org/3/library/gc.html#gc.freeze
    """
    gc.disable()
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
        from confiture.cli.failed import report  # needs the driver, which help and completion do without

        sys.exit(report(raised, verbose=verbose))
    finally:
        gc.freeze()
