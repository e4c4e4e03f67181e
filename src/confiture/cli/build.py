"""``build``: a database, or one file, from ordered DDL files; or a comparison of a database with them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.cli.options import Output
from confiture.errors import UsageError
from confiture.render.documents import SCHEMA_VERSION, BuildDocument, CheckDocument
from confiture.types import counted

Environment = Annotated[
    str | None,
    typer.Option(
        "--env",
        help="The environment that selects the files and the database.",
        autocompletion=options.environments,
    ),
]
Apply = Annotated[bool, typer.Option("--apply", help="Build the database, in one transaction.")]
Check = Annotated[bool, typer.Option("--check", help="Compare the database with its DDL, and change nothing in it.")]
ListFiles = Annotated[bool, typer.Option("--list", help="Print the files in the order of execution.")]
OutputFile = Annotated[Path | None, typer.Option("--output", help="The file to write.", show_default="standard output")]
Scratch = Annotated[
    str | None,
    typer.Option(
        "--scratch",
        metavar="NAME",
        help="With --check: build in a new database of this name beside the compared one.",
        show_default="a server of this machine, if it has the same version",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="PATTERN",
        help="With --check: do not compare objects of these names, such as 'event_2*'. May be repeated.",
    ),
]
ColumnOrder = Annotated[bool, typer.Option("--column-order", help="With --check: compare the order of columns too.")]


def build(
    env: Environment = None,
    apply: Apply = False,
    check: Check = False,
    list_files: ListFiles = False,
    output: OutputFile = None,
    scratch: Scratch = None,
    ignore: Ignore = None,
    column_order: ColumnOrder = False,
    project: options.Project = None,
    format: options.Format = Output.text,
) -> None:
    """Concatenate the DDL files, build a database from them, or compare one.

    Without --apply, --check and --list, the command prints or writes one file.
    """
    chosen = [name for name, given in _tasks(apply, check, list_files, output) if given]
    if len(chosen) > 1:
        why = "each of them is another task"
        raise UsageError(f"{chosen[0]} and {chosen[1]} exclude each other", why=why, fix="give one of them")
    if not check and (scratch is not None or ignore or column_order):
        raise UsageError(
            "--scratch, --ignore and --column-order belong to --check",
            why="nothing is compared without it",
            fix="add --check, or omit them",
        )
    where = options.where(env or "", None, project)
    if apply:
        _apply(where.target, where.project, format)
    elif check:
        signal.signal(signal.SIGTERM, _end)
        found = commands.check.check(
            where.target, where.project, scratch=scratch, ignore=ignore or (), column_order=column_order
        )
        _show(found, format)
    else:
        _print(commands.build.ddl(env, where.project), list_files, output, format)


def _tasks(apply: bool, check: bool, list_files: bool, output: Path | None) -> tuple[tuple[str, bool], ...]:
    return ("--apply", apply), ("--check", check), ("--list", list_files), ("--output", output is not None)


def _end(number: int, _: object) -> None:
    """End as after Ctrl-C, which drops the scratch database: the signal itself would end the process at once."""
    raise SystemExit(128 + number)


def _apply(name: str, project: Path, format: Output) -> None:
    database, count = commands.build.build_database(name, project)
    done: BuildDocument = {"schema_version": SCHEMA_VERSION, "database": database.name, "statements": count}
    terminal.emit_either(f"built {database.name}: {counted(count, 'statement')}", done, format)


def _print(ddl: commands.build.Ddl, list_files: bool, output: Path | None, format: Output) -> None:
    count = sum(file.statements for file in ddl.files)
    done: BuildDocument = {"schema_version": SCHEMA_VERSION, "statements": count, "digest": ddl.digest}
    if list_files:
        done["files"] = [{"path": file.path, "statements": file.statements} for file in ddl.files]
        lines = [f"{file.statements:>10,}  {file.path}" for file in ddl.files]
        total = f"{counted(len(lines), 'file')}, {counted(count, 'statement')}"
        terminal.emit_either("\n".join(["STATEMENTS  FILE", *lines, total]), done, format)
    elif output is None:
        terminal.refuse_escapes(ddl.text)
        terminal.emit(ddl.text, as_it_is=True, end="")
    else:
        from confiture.web import file  # --apply writes no file

        file.write(output, ddl.text, private=False)
        terminal.emit_either(f"wrote {output}", {**done, "output": str(output)}, format)


def _show(found: commands.check.Checked, format: Output) -> None:
    """Print a comparison.

    :raises DifferencesFound: when something differs.
    """
    from confiture.render import differences  # with the library of the wrapping, which the other tasks do without

    scratch = found.scratch
    document: CheckDocument = {
        "schema_version": SCHEMA_VERSION,
        "database": found.database,
        "version": found.version,
        "equal": not found.differences,
        "scratch": {
            "database": scratch.database,
            "embedded": scratch.embedded,
            "version": scratch.version,
            "reason": scratch.reason,
        },
        "digest": found.digest,
        "objects": found.objects,
        "differences": differences.documents(found.differences),
    }
    where = "on a server of this machine" if scratch.embedded else f"in scratch database {scratch.database} beside it"
    lines = [f"built the DDL {where} (PostgreSQL {scratch.version}): {counted(found.objects, 'object')}"]
    if scratch.reason is not None:
        lines.append(f"the embedded server was not used: {scratch.reason}")
    lines += differences.text(found.differences) or [f"{found.database} is as its DDL states"]
    terminal.emit_either("\n".join(lines), document, format)
    if found.differences:
        raise commands.check.differences_found(found)
