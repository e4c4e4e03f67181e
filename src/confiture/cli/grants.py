"""``grants``: print owners, privileges, comments and security labels that the target lacks."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.errors import UsageError


def grants(
    target: options.Target,
    from_source: Annotated[
        bool, typer.Option("--from-source", help="Compare the objects of the target with those of the source.")
    ] = False,
    source: options.Source = None,
    project: options.Project = None,
) -> None:
    """Print the statements for the owners, privileges, comments and security labels that the target lacks.

    The names are those of the mapping. Default privileges are included. Nothing is changed.
    """
    if not from_source:
        raise UsageError("nothing to compare with", why="privileges are taken from the source", fix="add --from-source")
    text = commands.grants.from_source(options.where(target, source, project))
    terminal.refuse_escapes(text)
    terminal.emit(text, as_it_is=True)
