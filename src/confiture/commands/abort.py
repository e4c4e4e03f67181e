"""``abort``: end a run before the cutover."""

from __future__ import annotations

from collections.abc import Callable

from confiture.commands.databases import find_run, target_of
from confiture.commands.endpoints import Endpoints
from confiture.commands.holding import hold_run
from confiture.journal.model import Run
from confiture.runner.progress import Progress
from confiture.schema_to_schema import cleanup
from confiture.states import ABORTED


def execute(where: Endpoints, confirm: Callable[[], None], progress_: Progress) -> Run:
    """Abort the run. Nothing of it remains on the source, and only the journal in the target.

    A killed abort is continued by the same command.

    :param confirm: called when nothing refuses the abort, before anything is dropped; raises to stop.
    :raises Refused: after the cutover.
    """
    target = target_of(where)
    run = find_run(target)
    if run.state == ABORTED:
        progress_.say(f"nothing to abort: run {run.short} is {run.state}")
        return run
    cleanup.refuse_after_cutover(run)
    confirm()
    with hold_run(where, "abort", progress_) as (context, _):
        cleanup.abort(context)
        return context.run()
