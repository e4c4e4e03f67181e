"""The command line: one command a file, which parses, calls and renders. No SQL, no decisions."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import click
import typer

from confiture import __version__
from confiture.cli import build, cutover, demo, ending, migrate, plan, setup, verify
from confiture.errors import ConfitureError, Drained

app = typer.Typer(
    name="confiture",
    help="Move a live PostgreSQL database into a new database with a new schema.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
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
    ending.cleanup,
    plan.plan,
    plan.preview,
    migrate.run,
    ending.pause,
    ending.resume,
    ending.abort,
):
    _schema.command(command.__name__)(command)
app.command("build")(build.build)
app.command("demo")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"confiture {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell errors in full.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    os.environ["CONFITURE_VERBOSE"] = "1" if verbose else os.environ.get("CONFITURE_VERBOSE", "")


def main() -> None:
    """The console script: every error becomes up to three lines and an exit code."""
    try:
        app(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _tell(["interrupted"])
        sys.exit(130)
    except Drained as error:
        _tell(error.lines())
        sys.exit(error.code)
    except ConfitureError as error:
        _tell(error.lines() + ([error.detail] if error.detail and _verbose() else []))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        _tell([f"internal error: {type(error).__name__}", "run it again with --verbose for the whole of it"])
        if _verbose():
            traceback.print_exc()
        sys.exit(1)


def _verbose() -> bool:
    return bool(os.environ.get("CONFITURE_VERBOSE"))


def _tell(lines: list[str]) -> None:
    first, *rest = lines
    print(f"confiture: {first}", file=sys.stderr)
    for line in rest:
        for part in line.splitlines():
            print(f"  {part}", file=sys.stderr)
