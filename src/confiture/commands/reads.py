"""``cutover --reads-first`` and ``--reads-back``: redirect the application's reads to the target, and back."""

from __future__ import annotations

from collections.abc import Callable

from confiture.commands.endpoints import Endpoints
from confiture.commands.follow import followed
from confiture.commands.holding import hold_run
from confiture.config import Database
from confiture.errors import Refused
from confiture.journal.model import Run
from confiture.postgres.connection import place
from confiture.runner.progress import Progress
from confiture.schema_to_schema import follow, migrate, plan_store, reads
from confiture.schema_to_schema.outcomes import ReadLimits
from confiture.states import CUTOVER

#: Redirects the readers of a run from a database to another.
Redirect = Callable[[Run, Database, Database], None]


def first(
    where: Endpoints, limits: ReadLimits, redirect: Redirect, progress_: Progress, *, keep: bool = True
) -> tuple[Run, Database, str]:
    """Redirect the reads to the target, and keep it up to date until a signal.

    Returns the run, the target and its place.

    After a crash, the same command continues, or :func:`back` redirects the reads back.

    :param redirect: called when the phase is durable; it is called again after a crash.
    :param keep: False to return at once, where another command applies the changes.
    :raises Refused: when the run captures no changes, is not verified, or has switched.
    :raises CutoverAborted: when nothing has changed, because the target is too far behind.
    :raises Drained: after a signal; reads stay on the target.
    """
    with hold_run(where, reads.FIRST, progress_) as (context, run):
        _refuse(run)
        plan = migrate.stored_plan(context)
        plan_store.ensure_views(context, plan)
        source, target = context.facts.source, context.facts.target
        reads.open_target(context, plan, limits, lambda: redirect(run, source, target))
        if keep:
            progress_.say("reads go to the target; applying changes until this command is stopped")
            followed(context, False, lambda until_small: follow.follow(context, plan, once=until_small))
        return context.run(), target, place(context.target.pg)


def back(where: Endpoints, redirect: Redirect, progress_: Progress) -> tuple[Run, Database, str]:
    """Redirect the reads back to the source; return the run, the source and its place.

    :raises Refused: after the cutover, which only a rollback undoes.
    """
    with hold_run(where, reads.BACK, progress_) as (context, run):
        source, target = context.facts.source, context.facts.target
        if not reads.redirect_back(context, lambda: redirect(run, target, source)):
            progress_.say("reads go to the source already")
        return context.run(), source, place(context.source.pg)


def _refuse(run: Run) -> None:
    if not run.options.get("capture"):
        raise Refused(
            "reads cannot be redirected to the target first",
            why="the run was set up with --no-capture, so that no change is applied to the target",
            fix="stop the application and cut over",
        )
    if run.state == CUTOVER:
        raise Refused("the target is serving already", why=f"run {run.short} was cut over", fix="run: confiture status")
