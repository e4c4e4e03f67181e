"""The options commands share, named once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from confiture import config
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.config import find_project
from confiture.errors import UsageError
from confiture.pooler.pgbouncer import Pool


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
LockTimeout = Annotated[float, typer.Option(min=0.001, help="Seconds to wait for the locks, each try.")]
GiveUpAfter = Annotated[float, typer.Option(min=0, help="Seconds after which no further try is made.")]
MaxWritePause = Annotated[float, typer.Option(min=0.001, help="Seconds to hold the application's writes up, at most.")]
TerminateBlockers = Annotated[
    bool, typer.Option("--terminate-blockers", help="End the sessions that keep the lock from us.")
]
MaxVerificationAge = Annotated[
    float | None,
    typer.Option(
        "--max-verification-age",
        parser=seconds,
        metavar="DURATION",
        help="Refuse when the last complete verification began longer ago, such as 24h.",
    ),
]
PgBouncerConsole = Annotated[
    str | None, typer.Option("--pgbouncer", help="The admin console of a PgBouncer the application writes through.")
]
PoolName = Annotated[
    str | None, typer.Option("--pool", help="The pool to pause and to lead to the database that serves then.")
]
PgBouncerConfig = Annotated[
    Path | None, typer.Option("--pgbouncer-config", help="PgBouncer's configuration file, if it cannot name it.")
]
NoRollback = Annotated[
    bool, typer.Option("--no-rollback", help="Cut over without asking where a rollback will not be possible.")
]
Hook = Annotated[str | None, typer.Option(help="A command to run once the other database serves; no shell.")]
Report = Annotated[Path, typer.Option("--differences", help="Where differences are written, one JSON object a line.")]
MaxRate = Annotated[int | None, typer.Option("--max-rate", min=1, help="Rows per second the copy makes at most.")]
MaxReplicaLag = Annotated[
    float | None,
    typer.Option("--max-replica-lag", min=0.001, help="Seconds a standby of either server may be behind."),
]
MaxBacklog = Annotated[
    int | None, typer.Option("--max-backlog", min=1, help="Log rows that may wait while tables are copied.")
]
Restart = Annotated[
    list[str] | None, typer.Option("--restart-table", help="Empty this target table and copy it again; repeatable.")
]
DropSource = Annotated[str | None, typer.Option("--drop-source", help="Drop the old database too; its exact name.")]


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


def choices(
    mapping: MappingFile,
    chunk_rows: ChunkRows,
    strategy: ChosenStrategy,
    fdw_threshold: FdwThreshold,
    seen_as: SeenAs,
    restart: list[str] | None = None,
    *,
    no_capture: bool = False,
    recopy_mb: int | None = None,
    accept_publication: bool = False,
) -> RunOptions:
    """The choices of a command line."""
    chosen = strategy.value if strategy is not None else None
    elsewhere = config.address(seen_as) if seen_as is not None else None
    capture = False if no_capture else None

    return RunOptions(
        mapping,
        chunk_rows,
        chosen,
        fdw_threshold,
        elsewhere,
        tuple(restart or ()),
        capture,
        recopy_mb,
        accept_publication,
    )


def pool(console: str | None, name: str | None, config: Path | None) -> Pool | None:
    if console is not None and name is not None:
        return Pool(console, name, config)
    if (console, name, config) != (None, None, None):
        fix = "--pgbouncer 'host=... port=6432 dbname=pgbouncer' --pool NAME"
        raise UsageError("--pgbouncer and --pool belong together", why="one of them is missing", fix=fix)
    return None
