"""The options commands share, named once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from confiture.commands.endpoints import Endpoints
from confiture.config import find_project
from confiture.errors import UsageError


class Output(StrEnum):
    """How a result is printed."""

    text = "text"
    json = "json"


class Strategy(StrEnum):
    """How tables are copied."""

    auto = "auto"
    fdw = "fdw"
    copy = "copy"


Source = Annotated[
    str | None, typer.Option("--source", help="The old database: environment, URI, conninfo or service=NAME.")
]
Target = Annotated[str, typer.Option("--target", help="The new database: environment, URI, conninfo or service=NAME.")]
Project = Annotated[
    Path | None, typer.Option("--project", help="The folder with db/; default: found from here upwards.")
]
MappingFile = Annotated[Path | None, typer.Option("--mapping", help="The mapping file (YAML).")]
Format = Annotated[Output, typer.Option("--format", help="text, or json for programs.")]
ChunkRows = Annotated[int | None, typer.Option("--chunk-rows", min=1, help="Rows per chunk; default fits the width.")]
ChosenStrategy = Annotated[Strategy | None, typer.Option("--strategy", help="fdw, copy, or auto per table.")]
FdwThreshold = Annotated[
    int | None, typer.Option("--fdw-threshold", min=0, help="Rows from which a table goes by COPY (10,000,000).")
]
SeenAs = Annotated[
    str | None,
    typer.Option("--source-seen-from-target", help="The source's host and port as the target's server reaches it."),
]
NoCapture = Annotated[
    bool, typer.Option("--no-capture", help="The application is stopped: nothing it writes is brought over.")
]
RecopyMb = Annotated[
    int | None,
    typer.Option(
        "--recopy-mb", min=0, help="Up to so many MiB, tables without a key are copied again at cutover (64)."
    ),
]
AcceptPublication = Annotated[
    bool, typer.Option("--accept-publication", help="The source may publish the run's own tables (FOR ALL TABLES).")
]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """A duration: seconds, or a number with one of the units s, m, h and d.

    :raises typer.BadParameter: when it is neither.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        found = float(number) * _UNITS[unit]
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise typer.BadParameter("it is seconds, or a number with s, m, h or d, such as 90, 30m or 24h")
    return found


DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before a destructive step.")]


def where(target: str, source: str | None, project: Path | None) -> Endpoints:
    """The databases a command is about."""
    return Endpoints(target, source, project if project is not None else find_project(Path.cwd()), project)


def confirm(name: str, what: str, yes: bool, option: str = "--yes", details: Sequence[str] = ()) -> None:
    """Have ``name`` typed before a destructive step.

    :param option: the one that stands for it.
    :param details: lines that tell more of it.

    :raises UsageError: when it was not, or nobody is there to type.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what} needs a confirmation",
            why="\n".join((*details, "there is no terminal to ask on")),
            fix=f"add {option}",
        )
    print(*(what, *details), f"Type {name} to go on: ", sep="\n", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().rstrip("\n") != name:
        raise UsageError(
            "not confirmed; nothing was done", why=f"it was not {name}", fix=f"type the name, or add {option}"
        )
