"""A migration without a transaction around it: each statement is recorded before and after, or together with itself.

The next command continues behind the last statement that is done. A statement that can run in a transaction runs in
one of its own, which also records that it is done: after a crash it is never in doubt. Any other is recorded before it
begins, in a commit of its own, and looked up in the catalog after a crash (docs/invariants.md, I-18.3).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import psycopg

from confiture import ddl, execution
from confiture.ddl import Statement
from confiture.errors import ConfitureError, Refused
from confiture.failpoints import failpoint
from confiture.incremental.in_doubt import is_setting, waits_for_transactions
from confiture.incremental.model import Direction, Progress, digest
from confiture.journal import ledger
from confiture.migrations import catalog_lookup, sessions
from confiture.migrations.attempts import repeated
from confiture.migrations.transactional import conclude, is_done
from confiture.migrations.work import NOT_IN_TRANSACTIONS, Means, Work
from confiture.postgres.connection import Pg
from confiture.postgres.retry import retry
from confiture.postgres.session import Transaction


def run(means: Means, work: Work) -> None:
    """Run the statements of a file behind the last one that is done.

    Each statement is durable when it has ended; after a crash the same command continues.

    :raises Refused: when a statement that is done has been edited since, or nothing shows whether one is done.
    :raises DataFailure: a statement failed; those before it are durable.
    :raises Held: a lock could not be acquired in time; the statements before it are durable.
    """
    first = continues_at(work, retry(lambda: _begin(means, work)))
    for number in range(first, len(work.statements) + 1):
        means.context.checkpoint()
        sessions.discard(means.session)
        _run_one(means, work, number)
    retry(lambda: _finish(means, work))


def _finish(means: Means, work: Work) -> None:
    # Durable together: the end of the migration in the ledger, and its event.
    with means.context.fenced("migration.finished") as tx:
        if not is_done(tx, work):  # by an attempt of which the answer was lost
            conclude(tx, means, work)


def _begin(means: Means, work: Work) -> tuple[Progress, ...]:
    """Record the begin of the migration, or the run that continues it; its statements that were begun before."""
    run_id = means.context.run_id
    # Durable: that the migration has begun, so that no other begins before it has ended.
    with means.context.fenced("migration.begun") as tx:
        entry = ledger.entry(tx, work.version)
        if entry is not None and not entry.done and entry.direction is work.direction:
            ledger.resume(tx, work.migration, run_id)
            return ledger.progress(tx, work.version)
        ledger.begin(tx, work.migration, work.direction, run_id, out_of_order=work.out_of_order)
        return ()


def continues_at(work: Work, begun: Sequence[Progress]) -> int:
    """The number of the statement to continue with: the one that is in doubt, or the one behind the last that is done.

    :raises Refused: when the file has other statements than those that were begun.
    """
    for progress in begun:
        if progress.number > len(work.statements):
            raise _edited(work, progress.number, None)
        statement = work.statements[progress.number - 1]
        if digest(statement.text) != progress.digest:
            raise _edited(work, progress.number, statement)
    return sum(progress.done for progress in begun) + 1


def _edited(work: Work, number: int, statement: Statement | None) -> Refused:
    place = f"{work.script.path}: statement {number} is missing" if statement is None else ""
    if statement is not None:
        place = f"{work.script.path}:{statement.line}:{statement.column}: statement {number} was edited"
    return Refused(
        f"{work.migration.label} is unfinished, and its file was edited",
        why=f"{place}; it was begun or is done already",
        fix="restore this statement; those behind it may be edited",
    )


def _settings(work: Work, number: int) -> Iterator[Statement]:
    """The statements before a statement that set parameters, which each new session needs."""
    return (statement for statement in work.statements[: number - 1] if is_setting(statement))


def _around(work: Work, transaction: str) -> execution.Surrounding:
    doing = "applying a migration" if work.direction is Direction.UP else "reverting a migration"
    fix = "correct the statement and run the same command again: the statements before it are done and do not run again"
    return execution.Surrounding(doing, transaction, fix)


def _execute(means: Means, work: Work, number: int, pg: Pg, transaction: str) -> float:
    """Execute a statement behind the settings that precede it; the seconds that it took."""
    statement, path = work.statements[number - 1], work.script.path
    within = _around(work, transaction)
    with pg.cursor() as cursor:
        for setting in _settings(work, number):
            execution.execute(cursor, path, setting, within)
        began = time.monotonic()
        stopping = means.context.stop
        name = work.place(statement)
        with means.observer.watching(pg.info.backend_pid, name, lambda: stopping.signal_number is not None):
            execution.execute(cursor, path, statement, within)
        return time.monotonic() - began


def _run_one(means: Means, work: Work, number: int) -> None:
    alone = ddl.runs_alone(work.statements[number - 1]) is not None
    name = f"{work.migration.label}, statement {number}"

    def attempt() -> None:
        nonlocal alone
        if _is_in_doubt(means, work, number) and _resolved(means, work, number):
            return
        if not alone:
            try:
                _in_transaction(means, work, number)
                return
            except ConfitureError as error:
                if not _needs_no_transaction(error):
                    raise
                alone = True
        _alone(means, work, number)

    repeated(attempt, name, means.observer, means.patience, means.context.progress.say, means.interrupted)


def _is_in_doubt(means: Means, work: Work, number: int) -> bool:
    """Whether the statement was begun outside a transaction, by an earlier process or attempt, and may be done."""
    with means.context.target.transaction(read_only=True) as tx:
        begun = ledger.progress(tx, work.version)
    return any(progress.number == number and not progress.done for progress in begun)


def _needs_no_transaction(error: ConfitureError) -> bool:
    return isinstance(error.__cause__, psycopg.Error) and error.__cause__.sqlstate in NOT_IN_TRANSACTIONS


def _in_transaction(means: Means, work: Work, number: int) -> None:
    # Durable together: the statement, and that it is done.
    with means.context.fenced("statement", session=means.session) as tx:
        if not _is_done(tx, work, number):
            sessions.as_the_user(tx.pg, means.patience.lock_timeout)
            seconds = _execute(means, work, number, tx.pg, "the statement's own transaction")
            sessions.as_confiture(tx.pg)
            _record(tx, work, number, seconds)


def _is_done(tx: Transaction, work: Work, number: int) -> bool:
    """Whether an attempt of which the answer was lost has committed."""
    return any(progress.number == number and progress.done for progress in ledger.progress(tx, work.version))


def _record(tx: Transaction, work: Work, number: int, seconds: float | None, how: str | None = None) -> None:
    text = work.statements[number - 1].text
    ledger.statement_done(tx, work.version, number, digest(text), seconds, how)


def _alone(means: Means, work: Work, number: int) -> None:
    """Run a statement outside a transaction, recorded before and after."""
    context, statement = means.context, work.statements[number - 1]
    context.join(means.session, "target", means.session.backend)
    pg = sessions.outside_transactions(means.session, _patience(means, statement))
    # Durable before the statement begins: that it may be done.
    with context.fenced("statement.begun") as tx:
        if _is_done(tx, work, number):
            return
        ledger.statement_begun(tx, work.version, number, digest(statement.text))
    try:
        # On this connection and no other: a takeover ends it, so that a runner that was taken over runs nothing.
        seconds = _execute(means, work, number, pg, "")
        failpoint("statement.ran")
        catalog_lookup.complete(means, pg, statement)
    except (psycopg.Error, ConfitureError) as error:
        if not pg.closed:
            _after_failure(means, work, number, pg, error)
        raise
    # Durable: that the statement is done.
    with context.fenced("statement.done") as tx:
        _record(tx, work, number, seconds)


def _patience(means: Means, statement: Statement) -> float:
    """Seconds for which a statement outside a transaction waits for each lock; 0 for no limit."""
    return 0.0 if waits_for_transactions(statement) else means.patience.lock_timeout


def _after_failure(means: Means, work: Work, number: int, pg: Pg, error: Exception) -> None:
    """Remove what a failed statement has left, and then its record: it is certainly not done."""
    if isinstance(error.__cause__, psycopg.Error) and error.__cause__.sqlstate is None:
        return  # the connection broke: only the catalog shows
    if catalog_lookup.remove_leftovers(means, pg, work.statements[number - 1]):
        # Durable: that the statement has left nothing, so that an edited one may follow.
        with means.context.fenced("statement.failed") as tx:
            ledger.statement_failed(tx, work.version, number)


def _resolved(means: Means, work: Work, number: int) -> bool:
    """Find out whether the statement in doubt is done, and record it then; if not, what it has left is removed."""
    statement = work.statements[number - 1]
    means.context.join(means.session, "target", means.session.backend)
    pg = sessions.outside_transactions(means.session, _patience(means, statement))
    with pg.cursor() as cursor:
        for setting in _settings(work, number):
            execution.execute(cursor, work.script.path, setting, _around(work, ""))
    how = catalog_lookup.resolve(means, pg, work, number)
    place = f"{work.migration.label}, statement {number} ({execution.shown(statement)[:60]})"
    means.context.progress.say(f"{place}: {how.text}")
    if not how.done:
        return False
    # Durable: that the statement is done, and how that was found out.
    with means.context.fenced("statement.resolved") as tx:
        _record(tx, work, number, None, how.text)
    return True
