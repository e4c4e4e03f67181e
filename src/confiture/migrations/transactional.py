"""A migration as one transaction: its statements and its rows of the ledger commit together, or nothing does."""

from __future__ import annotations

import time

import psycopg

from confiture import execution
from confiture.errors import DataFailure
from confiture.failpoints import failpoint
from confiture.incremental.files import FIRST_LINE
from confiture.incremental.model import Direction, digest
from confiture.journal import ledger, runs
from confiture.migrations import sessions
from confiture.migrations.attempts import repeated
from confiture.migrations.work import NOT_IN_TRANSACTIONS, Means, Work
from confiture.postgres.failure import failure
from confiture.postgres.retry import retryable
from confiture.postgres.session import Transaction

#: The kinds of the events of the history, by direction.
DONE_EVENTS = {Direction.UP: "migration applied", Direction.DOWN: "migration reverted"}
_FIRST_LINE = f"make the first line of the file: {FIRST_LINE}"
_FIXES = {
    **dict.fromkeys(NOT_IN_TRANSACTIONS, _FIRST_LINE),
    "55P04": f"use the value in a migration of its own; or {_FIRST_LINE}",
}


def run(means: Means, work: Work) -> None:
    """Run the file of a migration in one transaction, which is repeated while other sessions block it.

    After a crash either all of it is durable, with its rows of the ledger, or nothing is.

    :raises DataFailure: a statement failed; nothing of the migration is applied.
    :raises Held: a lock could not be acquired in time; nothing of the migration is applied.
    """
    repeated(
        lambda: _attempt(means, work),
        work.migration.label,
        means.observer,
        means.patience,
        means.context.progress.say,
        means.interrupted,
    )


def _attempt(means: Means, work: Work) -> None:
    try:
        # Durable together: the migration, and its rows of the ledger.
        with means.context.fenced("migration", session=means.session) as tx:
            if not is_done(tx, work):
                _run_all(tx, means, work)
    except psycopg.Error as error:
        if retryable(error):
            raise
        known = failure(error, "committing a migration")
        raise DataFailure(
            f"{work.script.path}: the transaction of the file cannot be committed",
            why=known.why,
            fix="correct the file and run the same command again: the transaction was rolled back",
            detail=known.detail,
        ) from error


def is_done(tx: Transaction, work: Work) -> bool:
    """Whether an attempt of which the answer was lost has committed."""
    entry = ledger.entry(tx, work.version)
    return entry is not None and entry.direction is work.direction and entry.done


def _run_all(tx: Transaction, means: Means, work: Work) -> None:
    context = means.context
    ledger.begin(tx, work.migration, work.direction, context.run_id, out_of_order=work.out_of_order)
    sessions.as_the_user(tx.pg, means.patience.lock_timeout)
    took = []
    with tx.pg.cursor() as cursor:
        for statement in work.statements:
            began = time.monotonic()
            with means.observer.watching(tx.pg.info.backend_pid, work.place(statement), lambda: _stopping(means)):
                execution.execute(cursor, work.script.path, statement, around(work))
            took.append(time.monotonic() - began)
            failpoint("migration.statement")
    check_constraints(tx, work)
    sessions.as_confiture(tx.pg)
    for number, (statement, seconds) in enumerate(zip(work.statements, took, strict=True), 1):
        ledger.statement_done(tx, work.version, number, digest(statement.text), seconds)
    conclude(tx, means, work)


def _stopping(means: Means) -> bool:
    return means.context.stop.signal_number is not None


def around(work: Work) -> execution.Surrounding:
    """The transaction of a file, for the errors of its statements."""
    doing = "applying a migration" if work.direction is Direction.UP else "reverting a migration"
    fix = "correct the file and run the same command again: its transaction was rolled back"
    return execution.Surrounding(doing, "the migration's transaction", fix, _FIXES)


def check_constraints(tx: Transaction, work: Work) -> None:
    """Check deferred constraints before the ledger is written, where the error still has a place."""
    try:
        tx.pg.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as error:
        if retryable(error):
            raise
        known = failure(error, "checking deferred constraints")
        raise DataFailure(
            f"{work.script.path}: a deferred constraint is violated at the end of the file",
            why=known.why,
            fix=around(work).fix,
            detail=known.detail,
        ) from error


def conclude(tx: Transaction, means: Means, work: Work) -> None:
    """Record the end of a migration in the ledger and in the history."""
    ledger.finish(tx, work.version)
    detail = {"version": work.version, "name": work.migration.name, "statements": len(work.statements)}
    runs.note(tx, means.context.run_id, means.context.epoch, DONE_EVENTS[work.direction], detail)
