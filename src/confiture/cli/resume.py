"""``resume``: ask a paused command to continue."""

from __future__ import annotations

from confiture import commands
from confiture.cli import options, terminal


def resume(
    target: options.Target,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Resume the paused command."""
    where = options.where(target, None, project)
    run = commands.requests.request(where, "resume")
    terminal.show(where, run, "resume requested: the paused command continues", format, step="status")
