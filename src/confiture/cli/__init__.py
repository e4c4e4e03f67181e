"""The command line: one command a file, which parses, calls and renders. No SQL, no decisions."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import psycopg
import typer

from confiture import __version__
from confiture.cli import build, cutover, demo, ending, migrate, plan, setup, status, throttle, verify
from confiture.errors import ConfitureError, Drained
from confiture.log import configure
from confiture.postgres.failure import failure
from confiture.types import visible

_VERBOSE = "--verbose"

app = typer.Typer(
    name="confiture",
    help="Move a live PostgreSQL database into a new database with a new schema.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_migrate = typer.Typer(help="Move data between schemas.", no_args_is_help=True)
_schema = typer.Typer(help="Into a new database with a new schema, in five steps.", no_args_is_help=True)
app.add_typer(_migrate, name="migrate")
_migrate.add_typer(_schema, name="schema-to-schema")

for command in (
    setup.setup,
    migrate.migrate,
    verify.verify,
    cutover.cutover,
    cutover.rollback,
    ending.cleanup,
    plan.plan,
    plan.preview,
    migrate.run,
    ending.follow,
    ending.pause,
    ending.resume,
    throttle.throttle,
    ending.abort,
):
    _schema.command(command.__name__)(command)
app.command("build")(build.build)
app.command("demo")(demo.demo)
app.command("status", cls=status.Command)(status.status)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"confiture {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    verbose: Annotated[bool, typer.Option(_VERBOSE, help="Tell errors in full; may stand anywhere.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Options that hold for every command; ``main`` has read ``--verbose`` by now."""


def main() -> None:
    """The console script: every error becomes up to three lines and an exit code."""
    given = sys.argv[1:]
    arguments = [argument for argument in given if argument != _VERBOSE]
    verbose = arguments != given
    configure(verbose=verbose)
    try:
        app(arguments, prog_name="confiture")
    except Drained as error:
        _tell(error, verbose)
        sys.exit(error.code)
    except ConfitureError as error:
        _tell(error, verbose)
        sys.exit(error.exit_code)
    except psycopg.Error as error:
        told = failure(error, "running the command")
        _tell(told, verbose)
        sys.exit(told.exit_code)
    except KeyboardInterrupt:
        _tell(ConfitureError("interrupted"), verbose)
        sys.exit(130)
    except Exception as error:
        _tell(_internal(error), verbose)
        if verbose:
            traceback.print_exc()
        sys.exit(1)


def _internal(error: Exception) -> ConfitureError:
    return ConfitureError(
        f"internal error: {type(error).__name__}",
        why="this is a defect of confiture; what is done stays done",
        fix=f"run it again with {_VERBOSE} and report the whole of it",
    )


def _tell(error: ConfitureError, verbose: bool) -> None:
    first, *rest = error.lines() + ([error.detail] if error.detail and verbose else [])
    print(f"confiture: {visible(first)}", file=sys.stderr)
    for line in rest:
        for part in line.splitlines():
            print(f"  {visible(part)}", file=sys.stderr)
