"""``abort``: end a run before the cutover."""

from __future__ import annotations

from confiture import commands
from confiture.cli import options, progress, reads, terminal


def abort(
    target: options.Target,
    source: options.Source = None,
    yes: options.Yes = False,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Abort the run before the cutover.

    The command drops what the run created on both sides, and what setup built in the target.
    """
    where = options.where(target, source, project, hook)
    what = "abort drops every row copied and what setup built in the target"
    with progress.Reporter() as reporter:

        def confirmed() -> None:
            options.confirm(target, what, yes)
            reads.back_by_hooks(where, reporter)

        run = commands.abort.execute(where, confirmed, reporter)
    terminal.show(where, run, "the run is aborted; nothing of it remains on the source", format)
