"""The options that several commands share, each declared once, and what they are converted to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import typer

from confiture import commands, config
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.config import find_project
from confiture.errors import UsageError
from confiture.pooler import Pool
from confiture.types import LONGEST_SECONDS, parsed_size


class Output(StrEnum):
    """How a result is printed."""

    text = "text"
    json = "json"


class Strategy(StrEnum):
    """How tables are copied."""

    auto = "auto"
    fdw = "fdw"
    copy = "copy"


class Doubt(StrEnum):
    """The decision about a statement that was interrupted."""

    again = "again"
    done = "done"


def environments(ctx: typer.Context, incomplete: str) -> list[str]:
    """The environments of the project whose names begin with ``incomplete``, for the completion of a shell."""
    project = ctx.params.get("project")
    names = config.environments(Path(project) if project else find_project(Path.cwd()))
    return [name for name in names if name.startswith(incomplete)]


Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="The source database: environment, URI, conninfo or service=NAME.",
        autocompletion=environments,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        help="The target database: environment, URI, conninfo or service=NAME.",
        autocompletion=environments,
    ),
]
Project = Annotated[
    Path | None,
    typer.Option("--project", help="The folder that contains db/.", show_default="the nearest, from here upwards"),
]
MappingFile = Annotated[Path | None, typer.Option("--mapping", help="The mapping file (YAML).")]
Format = Annotated[Output, typer.Option("--format", help="Output for people (text) or for programs (json).")]
ChunkRows = Annotated[
    int | None,
    typer.Option("--chunk-rows", min=1, help="Maximum rows per chunk.", show_default="those of about two seconds"),
]
ChosenStrategy = Annotated[
    Strategy | None,
    typer.Option(
        "--strategy",
        help="How to copy: through postgres_fdw, with COPY, or chosen for each table.",
        show_default="auto",
    ),
]
SeenAs = Annotated[
    str | None,
    typer.Option("--source-seen-from-target", help="HOST:PORT at which the target's server reaches the source."),
]
NoCapture = Annotated[
    bool, typer.Option("--no-capture", help="Do not capture writes. The application must be stopped.")
]
RecopyMb = Annotated[
    int | None,
    typer.Option(
        "--recopy-mb",
        min=0,
        help="Copy tables without a key again at the cutover, up to this many MiB.",
        show_default="64",
    ),
]
AcceptPublication = Annotated[
    bool,
    typer.Option(
        "--accept-publication", help="Accept a publication FOR ALL TABLES, which also publishes the run's tables."
    ),
]
AcceptFsyncOff = Annotated[
    bool,
    typer.Option("--accept-fsync-off", help="Accept servers with fsync=off, which can lose committed data in a crash."),
]
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """A duration: seconds, or a number with one of the units ms, s, m, h and d.

    :raises typer.BadParameter: when it is neither, or more than :data:`LONGEST_SECONDS`.
    """
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    number = text.removesuffix(unit)
    try:
        found = float(number) * _UNITS[unit or "s"]
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise typer.BadParameter("expected seconds, or a number with a unit (ms, s, m, h or d), such as 90 or 500ms")
    if found > LONGEST_SECONDS:
        raise typer.BadParameter(f"expected at most {LONGEST_SECONDS} seconds")
    return found


def size(text: str) -> int:
    """A size in bytes.

    :raises typer.BadParameter: when it is none.
    """
    try:
        return parsed_size(text)
    except ValueError:
        raise typer.BadParameter("expected a size, such as 500GB, 466GiB or a number of bytes") from None


Version = Annotated[int, typer.Argument(help="The digits with which the file begins.")]
MigrationLockTimeout = Annotated[
    float | None,
    typer.Option(
        "--lock-timeout",
        parser=seconds,
        metavar="DURATION",
        help="How long each statement waits for a lock. The application may queue behind it as long.",
        show_default="2s",
    ),
]
MigrationGiveUpAfter = Annotated[
    float | None,
    typer.Option(
        "--give-up-after",
        parser=seconds,
        metavar="DURATION",
        help="After which no further attempt at a lock starts.",
        show_default="5m",
    ),
]
InDoubt = Annotated[
    Doubt | None,
    typer.Option("--in-doubt", help="A statement was interrupted, and nothing shows whether it is done: decide."),
]


NoSample = Annotated[
    bool, typer.Option("--no-sample", help="Read no rows of the source for the forecast, which is then less accurate.")
]
GivenPlan = Annotated[
    Path | None,
    typer.Option("--plan", help="The only plan to carry out: a file that plan --output wrote. Another one is refused."),
]
TargetDisk = Annotated[
    int | None,
    typer.Option(
        "--target-disk",
        parser=size,
        metavar="SIZE",
        help="Free disk space of the target's server, such as 500GB.",
        show_default="what disk_free or this machine states",
    ),
]
AcceptSmallDisk = Annotated[
    bool,
    typer.Option("--accept-small-disk", help="Set up although the forecast needs more disk space than is free."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
LockTimeout = Annotated[
    float,
    typer.Option(min=0.001, max=LONGEST_SECONDS, help="Seconds to wait for the table locks in each attempt."),
]
GiveUpAfter = Annotated[
    float, typer.Option(min=0, max=LONGEST_SECONDS, help="Seconds after which no further attempt starts.")
]
MaxWritePause = Annotated[
    float,
    typer.Option(min=0.001, max=LONGEST_SECONDS, help="Maximum seconds for which the application's writes wait."),
]
TerminateBlockers = Annotated[
    bool, typer.Option("--terminate-blockers", help="Terminate the sessions that block the table locks.")
]
IgnoreBlockers = Annotated[
    bool,
    typer.Option("--ignore-blockers", help="With --dry-run: succeed although sessions block the table locks now."),
]
MaxVerificationAge = Annotated[
    float | None,
    typer.Option(
        "--max-verification-age",
        parser=seconds,
        metavar="DURATION",
        help="Refuse if the last complete verification began longer ago than this, such as 24h.",
    ),
]
PgBouncerConsoles = Annotated[
    list[str] | None,
    typer.Option(
        "--pgbouncer",
        help="Conninfo of the admin console of a PgBouncer that the application connects through. May be repeated.",
    ),
]
PoolNames = Annotated[
    list[str] | None,
    typer.Option(
        "--pool",
        help="The pool to pause, and to redirect to the database that serves afterwards: one for all, or one per"
        " --pgbouncer.",
    ),
]
PgBouncerConfigs = Annotated[
    list[Path] | None,
    typer.Option(
        "--pgbouncer-config",
        help="PgBouncer's configuration file, one per --pgbouncer.",
        show_default="the file that PgBouncer reports",
    ),
]
ReadsFirst = Annotated[
    bool, typer.Option("--reads-first", help="Redirect reads to the target and keep it up to date; writes stay.")
]
ReadsBack = Annotated[bool, typer.Option("--reads-back", help="Redirect reads back to the source before the cutover.")]
MaxStaleness = Annotated[
    float | None,
    typer.Option(
        "--max-staleness",
        parser=seconds,
        metavar="DURATION",
        help="With --reads-first: how far the target may be behind for its readers.",
        show_default="30s",
    ),
]
AcceptStale = Annotated[
    bool,
    typer.Option(
        "--accept-stale", help="With --reads-first: accept tables that no pass keeps up to date until the cutover."
    ),
]
NoFollow = Annotated[
    bool,
    typer.Option("--no-follow", help="With --reads-first: return at once; another command applies the changes."),
]
NoRollback = Annotated[
    bool, typer.Option("--no-rollback", help="Do not ask for confirmation if a rollback will not be possible.")
]
Hooks = Annotated[
    list[str] | None,
    typer.Option(
        "--hook",
        metavar="EVENT=COMMAND",
        help="A command to run at an event, such as switch or failed, without a shell. May be repeated.",
    ),
]
Report = Annotated[
    Path, typer.Option("--differences", help="The file to write differences to, one JSON object per line.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        max=256,
        help="Chunks to copy, or parts of tables to compare, at the same time.",
        show_default="one per core; to copy, fewer beside a server or for little data",
    ),
]
Executor = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="dask=ADDRESS",
        help="Copy with the workers of a Dask cluster; ADDRESS is that of its scheduler.",
        show_default="processes of this machine",
    ),
]
IndexJobs = Annotated[
    int | None,
    typer.Option(
        "--index-jobs",
        min=1,
        max=256,
        help="Indexes that are built at the same time after the copy.",
        show_default="2, fewer if the target has too few connections",
    ),
]
#: Rows. A larger limit is none.
_LARGEST_LIMIT = 10**12
MaxRate = Annotated[
    int | None,
    typer.Option("--max-rate", min=1, max=_LARGEST_LIMIT, help="Maximum rows per second for the copy."),
]
MaxReplicaLag = Annotated[
    float | None,
    typer.Option(
        "--max-replica-lag",
        min=0.001,
        max=LONGEST_SECONDS,
        help="Pause the copy while a standby of either server lags by more than this.",
    ),
]
MaxBacklog = Annotated[
    int | None,
    typer.Option(
        "--max-backlog",
        min=1,
        max=_LARGEST_LIMIT,
        help="Pause the copy while more captured changes than this are waiting.",
    ),
]
Restart = Annotated[
    list[str] | None,
    typer.Option("--restart-table", help="Empty this target table and copy it again; may be repeated."),
]
ShowValues = Annotated[
    bool, typer.Option("--show-values", help="Show the values of rows that differ; they are hidden otherwise.")
]
DropSource = Annotated[
    str | None, typer.Option("--drop-source", help="Also drop the source database; give its exact name.")
]


def where(target: str, source: str | None, project: Path | None, hooks: list[str] | None = None) -> Endpoints:
    """The databases that a command names, and its hooks.

    :raises UsageError: when a hook cannot be read or run.
    """
    folder = project if project is not None else find_project(Path.cwd())
    if not hooks:
        return Endpoints(target, source, folder, project)
    from confiture.commands.hooks import hooks_of  # not in a command that has none

    return Endpoints(target, source, folder, project, hooks_of(hooks))


def confirm(name: str, what: str, yes: bool, option: str = "--yes", details: Sequence[str] = ()) -> None:
    """Ask the operator to type ``name`` before a destructive step.

    :param what: the step, for the question and the error.
    :param yes: whether ``option`` was given, which confirms without a question.
    :param details: further lines to print before the question.
    :raises UsageError: when another text was typed, or standard input is not a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what} needs a confirmation",
            why="\n".join((*details, "standard input is not a terminal")),
            fix=f"add {option}",
        )
    print(*(what, *details), f"Type {name} to continue: ", sep="\n", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().rstrip("\n") != name:
        raise UsageError(
            "not confirmed; nothing has changed",
            why=f"the text typed was not {name}",
            fix=f"type the name, or add {option}",
        )


def run_options(
    mapping: MappingFile,
    chunk_rows: ChunkRows,
    strategy: ChosenStrategy,
    seen_as: SeenAs,
    restart: list[str] | None = None,
    *,
    no_capture: bool = False,
    recopy_mb: int | None = None,
    accept_publication: bool = False,
    plan: Path | None = None,
    no_sample: bool = False,
    target_disk: int | None = None,
    accept_small_disk: bool = False,
) -> RunOptions:
    """The options of a run, as the command line gives them."""
    chosen = strategy.value if strategy is not None else None
    elsewhere = config.address(seen_as) if seen_as is not None else None
    capture = False if no_capture else None
    return RunOptions(
        mapping,
        chunk_rows,
        chosen,
        elsewhere,
        tuple(restart or ()),
        capture,
        recopy_mb,
        accept_publication,
        agreed=commands.plan_file.read(plan) if plan is not None else None,
        agreed_file=plan,
        sample=not no_sample,
        target_disk=target_disk,
        accept_small_disk=accept_small_disk,
    )


def pools(consoles: list[str] | None, names: list[str] | None, configs: list[Path] | None) -> tuple[Pool, ...]:
    """The pools that the application connects through; empty when no option names one.

    :raises UsageError: when the numbers of the options do not fit.
    """
    of, named, files = consoles or [], names or [], configs or []
    if not (of or named or files):
        return ()
    if not of or not named:
        fix = "--pgbouncer 'host=... port=6432 dbname=pgbouncer' --pool NAME"
        raise UsageError("--pgbouncer and --pool belong together", why="one of them is missing", fix=fix)
    if len(named) not in (1, len(of)) or len(files) not in (0, len(of)):
        counts = (f"{len(of)} --pgbouncer", f"{len(named)} --pool", f"{len(files)} --pgbouncer-config")
        raise UsageError(
            "the options of PgBouncer do not fit together",
            why=f"there are {', '.join(counts)}",
            fix="give one --pool for all or one for each --pgbouncer, and no file or one for each, in the same order",
        )
    each = named * len(of) if len(named) == 1 else named
    return tuple(Pool(*given) for given in zip_longest(of, each, files))


def where_to_connect(pools: Sequence[Pool], place: str) -> str:
    """How the application reaches the database that is serving now."""
    if not pools:
        return f"Point the application at: {place}"
    if len(pools) == 1:
        return f"Pool {pools[0].name} now connects there."
    return f"The pools of {len(pools)} PgBouncers now connect there."
