"""``grants``: the privileges of the source's objects, and those of people who watch or steer a run."""

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
    viewer: Annotated[
        list[str] | None,
        typer.Option("--viewer", help="A role that may watch the run and sees no value of a row. May be repeated."),
    ] = None,
    operator: Annotated[
        list[str] | None,
        typer.Option("--operator", help="A viewer that may also pause, resume, throttle and approve. May be repeated."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="With --viewer or --operator: execute the statements too.")
    ] = False,
    source: options.Source = None,
    project: options.Project = None,
) -> None:
    """Print the statements for the owners, privileges, comments and security labels that the target lacks.

    The names are those of the mapping. Default privileges are included. Nothing is changed. With --viewer and
    --operator, print the statements that let these roles watch the run or steer it.
    """
    people = bool(viewer or operator)
    if from_source and people:
        raise UsageError("two kinds of grants", why="--from-source has no --viewer or --operator", fix="run it twice")
    if not from_source and not people:
        raise UsageError("nothing to grant", why="no option says what", fix="add --from-source, --viewer or --operator")
    if from_source and apply:
        raise UsageError("--apply needs --viewer or --operator", why="read the others first", fix="run them with psql")
    where = options.where(target, source, project)
    if people:
        text = commands.grants.for_roles(where, viewer or (), operator or (), apply=apply)
    else:
        text = commands.grants.from_source(where)
    terminal.refuse_escapes(text)
    terminal.emit(text, as_it_is=True)
