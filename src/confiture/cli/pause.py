"""``pause``: ask the running command to wait at its next checkpoint."""

from __future__ import annotations

from confiture import commands
from confiture.cli import options, terminal


def pause(
    target: options.Target,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Pause the running command at its next checkpoint."""
    where = options.where(target, None, project)
    run = commands.requests.request(where, "pause")
    terminal.show(
        where,
        run,
        "pause requested: the running command, or the next one, waits at its next checkpoint",
        format,
        step="resume",
    )
