"""``cutover``: switch to the target."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from confiture import operations
from confiture.cli import options, terminal
from confiture.config import resolve
from confiture.errors import CutoverHalfway
from confiture.render import outcome
from confiture.steps.cutover import Limits, run_hook


def cutover(
    target: options.Target,
    source: options.Source = None,
    lock_timeout: Annotated[float, typer.Option(help="Seconds to wait for the source's locks, each try.")] = 0.5,
    give_up_after: Annotated[float, typer.Option(help="Seconds after which no further try is made.")] = 30.0,
    hook: Annotated[str | None, typer.Option(help="A command to run once the target serves; no shell.")] = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Lock the source, verify once more under the lock, switch. The application is stopped meanwhile."""
    where = options.where(target, source, project)
    with terminal.Reporter() as reporter:
        run = operations.cutover(where, Limits(lock_timeout, give_up_after), reporter)
    database = resolve(target, where.project)
    if hook is not None:
        # The hook gets no secret of ours: the new database's address without its password.
        known = {**os.environ, "CONFITURE_RUN": run.short, "CONFITURE_TARGET": database.public}
        code = run_hook(hook, known)
        if code:
            raise CutoverHalfway(
                f"the target serves, but the hook exited with {code}",
                why=hook,
                fix="run what it was to do by hand, or run the same command again",
            )
    outcome.show(run, "the target serves from here on", format.value)
    if format is options.Output.text:
        terminal.emit(
            f"Point the application at: {database.public}\n"
            f"Keep it away from the old database {run.source_name}: what it writes there now is not moved."
        )
