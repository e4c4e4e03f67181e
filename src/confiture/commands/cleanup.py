"""``cleanup``: drop what the run created, and the source database on request."""

from __future__ import annotations

from collections.abc import Callable

from confiture.commands.databases import find_run, source_of, target_of
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.commands.holding import hold_run
from confiture.journal.model import Run
from confiture.runner.progress import Progress
from confiture.schema_to_schema import cleanup
from confiture.states import CLEANED, CUTOVER


def execute(where: Endpoints, drop_source: str | None, confirm: Callable[[], None], progress_: Progress) -> Run:
    """Drop what the run created on both sides. The journal is kept as history.

    A killed cleanup is continued by the same command.

    :param drop_source: the exact name of the source database, to drop it too; None keeps it.
    :param confirm: called when nothing refuses the cleanup, before anything is dropped; raises to stop.
    :raises Refused: before the cutover, or when the source has tables that the run does not know.
    """
    target = target_of(where)
    run = find_run(target)
    cleanup.refuse_before_cutover(run)
    source = source_of(run, where)
    if drop_source is not None:
        cleanup.refuse_other_name(run, drop_source)
    if run.state == CLEANED and (drop_source is None or not cleanup.source_is_there(source, run)):
        progress_.say("cleaned up already")
        return run
    if drop_source is not None:
        with translated("cleanup"):
            cleanup.refuse_unknown_tables(source, run)
    confirm()
    if run.state == CUTOVER:
        with hold_run(where, "cleanup", progress_) as (context, _):
            cleanup.cleanup(context)
            run = context.run()
    if drop_source is not None:
        with translated("cleanup"):
            cleanup.refuse_unknown_tables(source, run)
            cleanup.drop_source_database(source, drop_source)
        progress_.say(f"dropped the database {drop_source}")
    return run
