"""``build``: a database, or one file, from ordered DDL files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.errors import UsageError
from confiture.render.documents import SCHEMA_VERSION, BuildDocument
from confiture.types import counted


def build(
    env: Annotated[
        str | None, typer.Option("--env", help="The environment that selects the files and the database.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Build the database, in one transaction.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="The file to write.", show_default="standard output")
    ] = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Concatenate the DDL files, or build a database from them."""
    where = options.where(env or "", None, project)
    if apply:
        database, count = commands.build.build_database(where.target, where.project)
        done: BuildDocument = {"schema_version": SCHEMA_VERSION, "database": database.name, "statements": count}
        terminal.emit_either(f"built {database.name}: {counted(count, 'statement')}", done, format)
        return
    text = commands.build.ddl(env, where.project)
    if output is None:
        terminal.refuse_escapes(text)
        terminal.emit(text, as_it_is=True)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{output} cannot be written", why=error.strerror or "", fix="name another file") from None
        wrote: BuildDocument = {"schema_version": SCHEMA_VERSION, "output": str(output)}
        terminal.emit_either(f"wrote {output}", wrote, format)
