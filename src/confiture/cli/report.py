"""``report``: what was agreed, done, measured and compared in a run, for a change request."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from confiture.cli import options, terminal
from confiture.config import find_project
from confiture.status.sign_off import SignOff
from confiture.status.sign_off_reader import sign_off
from confiture.web import file


class Form(StrEnum):
    """How the report is written."""

    html = "html"
    json = "json"


def report(
    target: options.Target,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Write the report to this file.", show_default="standard output"),
    ] = None,
    format: Annotated[
        Form | None,
        typer.Option(
            "--format", help="A page for people, or JSON.", show_default="json for a file named *.json, else html"
        ),
    ] = None,
    show_values: options.ShowValues = False,
    project: options.Project = None,
) -> None:
    """Write the report about a run for a change request.

    It has the plan, the mapping, each event with its user, each rehearsal and write pause, the verification of each
    table, and the SQL that compares the rows once more.
    """
    where = project if project is not None else find_project(Path.cwd())
    chosen = format or (Form.json if output is not None and output.suffix.lower() == ".json" else Form.html)
    found = sign_off(target, where, given_project=project, show_values=show_values)
    text = _text(found, chosen)
    if output is None:
        terminal.emit(text, as_it_is=True)
        return
    file.write(output, text, private=show_values)
    terminal.emit(f"the report about run {found.run} is in {output}")


def _text(found: SignOff, form: Form) -> str:
    if form is Form.json:
        return json.dumps(found.as_json(), indent=2, ensure_ascii=False) + "\n"
    from confiture.web import sign_off as page  # with the library of the templates, which JSON does without

    return page.html(found)
