"""``schema``: print the JSON schema of a document that the commands print."""

from __future__ import annotations

from importlib import resources
from typing import Annotated

import typer

from confiture.cli import terminal
from confiture.errors import UsageError
from confiture.types import did_you_mean


def schema(
    name: Annotated[str | None, typer.Argument(help="The document.", show_default="list the names")] = None,
) -> None:
    """Print the JSON schema of a document, or the names of all."""
    folder = resources.files("confiture") / "schemas"
    names = sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))
    if name is None:
        terminal.emit("\n".join(names))
        return
    if name not in names:
        fix = did_you_mean(name, names) or "name one of these"
        raise UsageError(f"There is no schema {name!r}", why=f"the schemas are: {', '.join(names)}", fix=fix)
    terminal.emit((folder / f"{name}.json").read_text(encoding="utf-8"), as_it_is=True)
