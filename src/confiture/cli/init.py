"""``init``: create the first files of a project."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal


def init(
    name: Annotated[str, typer.Argument(help="The name of the source's environment.")] = "prod",
    url: Annotated[
        str | None,
        typer.Option("--url", help="The source's address without a password.", show_default="the variable NAME_URL"),
    ] = None,
    project: options.Project = None,
) -> None:
    """Create the first files of a project, with examples.

    These are the source's environment, the folders of the schema and of migrations, a mapping and a mask file. Existing
    files stay as they are.
    """
    folder = project if project is not None else Path.cwd()
    made = commands.init.init(folder, name, url)
    there = f" --project {shlex.quote(str(project))}" if project is not None else ""
    steps = [
        f"write the new schema as .sql files in {os.path.relpath(folder / 'db/schema')}/",
        f"confiture migrate schema-to-schema plan --source {name} --target {name}_new{there}",
    ]
    if url is None and made.written and made.written[0].stem == name:
        steps.insert(0, f"export {commands.init.variable(name)}=postgresql://USER@HOST:5432/DATABASE")
    lines = [f"wrote {os.path.relpath(file)}" for file in made.written]
    lines += [f"kept {os.path.relpath(file)}, which exists" for file in made.kept]
    lines += ["Next", *(f"  {n}. {step}" for n, step in enumerate(steps, 1))]
    terminal.emit("\n".join(lines))
