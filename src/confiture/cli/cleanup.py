"""``cleanup``: drop what the run created."""

from __future__ import annotations

from confiture import commands
from confiture.cli import options, progress, terminal


def cleanup(
    target: options.Target,
    source: options.Source = None,
    drop_source: options.DropSource = None,
    yes: options.Yes = False,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Drop what the run created, after the cutover.

    The journal is kept as history.
    """
    where = options.where(target, source, project, hook)
    what = "cleanup drops the run's schemas and its foreign server"
    if drop_source is not None:
        what += f", and THE DATABASE {drop_source}"
    with progress.Reporter() as reporter:
        run = commands.cleanup.execute(
            where, drop_source, lambda: options.confirm(drop_source or target, what, yes), reporter
        )
    terminal.show(where, run, "everything the run created is dropped; the journal is kept", format)
