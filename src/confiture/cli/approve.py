"""``approve``: approve the cutover of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal


def approve(
    target: options.Target,
    note: Annotated[str | None, typer.Option("--note", help="A text for the history, such as a change number.")] = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Approve the cutover of a verified run.

    The role of the session must not have run the migration. The approval is for the present plan and its verification.
    """
    where = options.where(target, None, project)
    run, given = commands.approve.execute(where, note)
    said = f"approved by role {given.role}: plan {given.plan_hash[:12]}, verification {given.verification}"
    terminal.show(where, run, said, format, step="cutover")
