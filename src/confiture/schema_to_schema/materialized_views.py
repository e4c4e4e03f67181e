"""Materialized views of the target after the cutover: stale until they are refreshed (I-11.3).

Each refresh is a resumable step of its own, outside the write pause. A refresh that fails does not fail the cutover:
the command and ``status`` report the view as stale, with the statement that refreshes it.
"""

from __future__ import annotations

from functools import partial

import psycopg
from psycopg import sql

from confiture.errors import Held
from confiture.journal import runs, steps
from confiture.plan.model import Plan
from confiture.postgres.failure import failure, relies_on_search_path
from confiture.postgres.retry import retryable
from confiture.postgres.session import Transaction, brief_lock
from confiture.runner.context import Context
from confiture.schema_to_schema.blockers import wait_for_locks
from confiture.sql import load
from confiture.types import TableRef

#: The phase of these steps in the journal; ``status`` reads it as well.
PHASE = "refresh"
#: Faults of a view's own query for the rows that it reads. Others (a lock, a full disk) stop the command.
OF_THE_VIEW = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
    psycopg.InternalError,
    psycopg.errors.ObjectNotInPrerequisiteState,
)


def refresh_or_report(view: TableRef, context: Context, tx: Transaction) -> None:
    """Refresh a view after the copy. If its query fails for the rows, report that: no row is at fault."""
    try:
        with tx.pg.transaction():
            tx.pg.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(view.identifier))
    except OF_THE_VIEW as error:
        if retryable(error):
            raise
        _report(context, tx, view, _why(error, view))


def refresh(context: Context, plan: Plan) -> None:
    """Refresh the views that were not refreshed since the target opened, in the order of their dependencies."""
    with context.target.transaction(read_only=True) as tx:
        left = [v for v in plan.materialized_views if not steps.is_done(tx, context.run_id, PHASE, _step(v))]
    if left:
        context.progress.say(f"materialized views are stale until refreshed: {', '.join(map(str, left))}")
    for view in left:
        context.checkpoint(pausable=False)
        try:
            wait_for_locks(context, "target", [view], partial(_refresh, context, view))
            context.progress.say(f"materialized view {view} is refreshed")
        except Held as error:
            _stale(context, view, f"{error.what}: {error.why}")
        except psycopg.Error as error:
            _stale(context, view, _why(error, view))


def refresh_for_readers(context: Context, plan: Plan) -> None:
    """Refresh every view before the cutover. They become stale again as changes are applied; the cutover repeats it."""
    for view in plan.materialized_views:
        context.checkpoint(pausable=False)
        try:
            wait_for_locks(context, "target", [view], partial(_refresh, context, view, final=False))
        except Held as error:
            _stale(context, view, f"{error.what}: {error.why}")
        except psycopg.Error as error:
            _stale(context, view, _why(error, view))


def _refresh(context: Context, view: TableRef, *, final: bool = True) -> None:
    # Durable together: the refresh and its mark, unless the cutover repeats it.
    with context.fenced("view.refreshed") as tx:
        brief_lock(tx)
        row = tx.pg.execute(load("views.sql")["refresh_concurrently"], (view.schema, view.name)).fetchone()
        if row is not None:  # else the application has dropped it
            how = sql.SQL("CONCURRENTLY " if row[0] else "")
            name = view.identifier
            tx.pg.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}{}").format(how, name))
        if final:
            steps.mark(tx, context.run_id, PHASE, _step(view), done=True)


def _step(view: TableRef) -> str:
    """The step's name, unquoted, as ``status`` builds it in SQL."""
    return f"{view.schema}.{view.name}"


def _why(error: psycopg.Error, view: TableRef) -> str:
    found = failure(error, f"refreshing {view}")
    return found.why if relies_on_search_path(error) is None else f"{found.why}; {found.fix}"


def _stale(context: Context, view: TableRef, why: str) -> None:
    # Durable: the note that the view is stale.
    with context.fenced("view.stale") as tx:
        _report(context, tx, view, why)


def _report(context: Context, tx: Transaction, view: TableRef, why: str) -> None:
    context.progress.say(f"materialized view {view} is stale: {why}; run: REFRESH MATERIALIZED VIEW {view}")
    runs.note(tx, context.run_id, context.epoch, "stale view", {"view": str(view), "reason": why})
