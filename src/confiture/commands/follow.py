"""``follow``: keep the target up to date before the cutover, and the source after it."""

from __future__ import annotations

from collections.abc import Callable

from confiture.commands.cutover import is_unfinished
from confiture.commands.endpoints import Endpoints, next_command
from confiture.commands.holding import hold_run, unblock
from confiture.errors import Refused
from confiture.journal.model import Run
from confiture.runner.context import Context
from confiture.runner.progress import Progress
from confiture.schema_to_schema import follow, migrate, plan_store, reverse, verify
from confiture.states import CUTOVER, MIGRATING, SETUP, VERIFIED


def execute(where: Endpoints, once: bool, progress_: Progress, verify_every: float | None = None) -> tuple[Run, int]:
    """Apply captured changes in the direction that the state allows (I-7.5), until a signal; return the rows applied.

    :param once: stop when the backlog is small.
    :param verify_every: seconds from one complete verification to the next; None for the default, 0 for none.
    :raises Refused: when the run does not capture writes, or its state has nothing to follow.
    """
    with hold_run(where, "follow", progress_) as (context, run):
        if not run.options.get("capture"):
            raise Refused(
                "this run does not capture writes", why="it was set up with --no-capture", fix="stop the application"
            )
        if run.state == CUTOVER and not is_unfinished(run):
            stored = migrate.stored_plan(context)
            return followed(context, once, lambda until_small: reverse.follow(context, stored, once=until_small))
        if run.state not in (MIGRATING, VERIFIED):
            raise Refused(
                "there is nothing to follow",
                why=f"run {run.short} is in state {run.state}",
                fix=next_command("migrate" if run.state == SETUP else "cleanup", where),
            )
        plan = migrate.stored_plan(context)
        plan_store.ensure_views(context, plan)
        verify.refuse_unfinished(context)
        return followed(
            context,
            once,
            lambda until_small: follow.follow(
                context, plan, once=until_small, verify_every=verify_every if until_small == once else None
            ),
        )


def followed(context: Context, once: bool, follow: Callable[[bool], int]) -> tuple[Run, int]:
    """Follow until the backlog is small, which clears what blocked the run; then continue unless ``once``.

    :param follow: applies changes, until the backlog is small or without end; the number of rows.
    """
    rows = follow(True)
    unblock(context, "follow")
    if not once:
        rows += follow(False)
    return context.run(), rows
