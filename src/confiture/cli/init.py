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
    """Create the first files of a project: the source's environment and the folder of the new schema.

    Existing files stay as they are.
    """
    folder = project if project is not None else Path.cwd()
    file = commands.init.init(folder, name, url)
    steps = ["write the new schema as .sql files in " + os.path.relpath(folder / "db/schema") + "/"]
    if url is None:
        steps.insert(0, f"export {commands.init.variable(name)}=postgresql://USER@HOST:5432/DATABASE")
    there = f" --project {shlex.quote(str(project))}" if project is not None else ""
    steps.append(f"confiture migrate schema-to-schema plan --source {name} --target {name}_new{there}")
    lines = [f"wrote {os.path.relpath(file)}", "Next", *(f"  {n}. {step}" for n, step in enumerate(steps, 1))]
    terminal.emit("\n".join(lines))
