"""``build``: medium 1, a database from ordered DDL files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from confiture import operations
from confiture.cli import options, terminal


def build(
    env: Annotated[
        str | None, typer.Option("--env", help="The environment whose include/exclude and database hold.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Build the database, in one transaction.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="The file to write; default: standard output.")
    ] = None,
    project: options.Project = None,
) -> None:
    """Put the ordered DDL files together, or build a database from them."""
    where = options.where(env or "", None, project)
    if apply:
        database, count = operations.build_database(where.target, where.project)
        terminal.emit(f"built {database.name}: {count} statements")
        return
    text = operations.ddl(env, where.project)
    if output is None:
        terminal.emit(text)
    else:
        output.write_text(text, encoding="utf-8")
        terminal.emit(f"wrote {output}")
