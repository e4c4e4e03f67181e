"""Migrations in a transaction that is rolled back: which locks each statement takes, on which table, and how long.

The locks are those that the server reports for the session (``pg_locks``), not those that its documentation announces.
The application waits for them as it would for the real ones, and each is awaited for the lock timeout at most.
https://www.postgresql.org/docs/current/view-pg-locks.html
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from confiture import ddl, execution
from confiture.ddl import Statement
from confiture.errors import ConfitureError, Held
from confiture.incremental.in_doubt import is_setting
from confiture.migrations import sessions
from confiture.migrations.blocking import Observer
from confiture.migrations.outcomes import Lock, Rehearsed, Tried
from confiture.migrations.transactional import around, check_constraints
from confiture.migrations.work import NOT_IN_TRANSACTIONS, Work
from confiture.postgres.connection import Pg
from confiture.postgres.session import Session
from confiture.sql import load

_SQL = load("dry_run.sql")
#: The kinds of relations, as PostgreSQL names them.
_KINDS = {
    "r": "table", "p": "partitioned table", "i": "index", "I": "partitioned index", "S": "sequence", "v": "view",
    "m": "materialized view", "f": "foreign table", "t": "TOAST table", "c": "type",
}  # fmt: skip
#: The modes of locks on an index that every statement on its table takes.
_EVERYDAY = ("AccessShareLock", "RowShareLock", "RowExclusiveLock")
_ADD_VALUE = re.compile(r"alter type .*\badd value\b")
#: A value of an enum is used in the transaction that has added it. A message of the server quotes the value.
_UNCOMMITTED_VALUE = "55P04"


@dataclass
class _Locks:
    """The locks that the transaction has so far."""

    known: dict[int, tuple[str, str, int, float]]
    held: set[tuple[int, str]] = field(default_factory=set)

    def taken(self, pg: Pg) -> tuple[Lock, ...]:
        """The locks since the last call, on relations that existed before."""
        found = []
        for oid, mode, size in pg.execute(_SQL["locks"]).fetchall():
            if (oid, mode) in self.held or oid not in self.known:
                continue
            self.held.add((oid, mode))
            relation, kind, estimate, rows = self.known[oid]
            if kind not in ("i", "I") or mode not in _EVERYDAY:
                estimated = int(rows) if rows >= 0 else None
                found.append(Lock(relation, _KINDS.get(kind, kind), _mode(mode), max(size, estimate), estimated))
        return tuple(found)


@dataclass
class _SoFar:
    """The statements that precede one.

    :ivar skipped: whether one of them did not run.
    :ivar values: the values of enums that they add, and of which a real run would have committed the addition.
    """

    skipped: bool = False
    values: set[str] = field(default_factory=set)

    def committed(self, statements: Sequence[Statement]) -> None:
        """Note that a real run would have committed these statements."""
        for statement in statements:
            if _ADD_VALUE.match(ddl.outline(statement)):
                literals = [statement.text[t.start : t.end] for t in ddl.tokens(statement.text) if not t.word]
                self.values.update(one[1:-1].replace("''", "'") for one in literals if one.startswith("'"))


def _mode(name: str) -> str:
    """The mode of a lock as SQL has it: ``AccessExclusiveLock`` is ACCESS EXCLUSIVE."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Lock")).upper()


def rehearse(
    session: Session, observer: Observer, works: Sequence[Work], done: dict[int, int], lock_timeout: float
) -> list[Rehearsed]:
    """Run migrations in one transaction and roll it back. Nothing is changed, except that sequences keep their values.

    :param session: runs the statements, and is closed afterwards.
    :param done: for an unfinished migration, by its version, the number of its statements that are done.
    :param lock_timeout: seconds.
    :raises DataFailure: a statement fails as it would in a real run.
    :raises Held: a lock was not free within the timeout; names the sessions that hold it.
    """
    found = []
    with session.rehearsal() as tx:
        rows = tx.pg.execute(_SQL["relations"]).fetchall()
        locks = _Locks({oid: (name, kind, size, tuples) for oid, name, kind, size, tuples in rows})
        locks.taken(tx.pg)
        so_far = _SoFar()
        for work in works:
            sessions.in_one_transaction(session, tx.pg, lock_timeout)
            tried = []
            for number, statement in enumerate(work.statements, 1):
                over = number <= done.get(work.version, 0) and not is_setting(statement)
                one = _passed(statement) if over else _try(tx.pg, observer, work, statement, locks, so_far)
                so_far.skipped |= not one.ran and not over
                tried.append(one)
                if not work.script.transactional:
                    so_far.committed([statement])
            so_far.committed(work.statements)
            if work.script.transactional and not so_far.skipped:
                check_constraints(tx, work)
            migration = work.migration
            found.append(
                Rehearsed(migration.version, migration.name, work.direction, work.script.transactional, tuple(tried))
            )
    return found


def _passed(statement: Statement) -> Tried:
    return Tried(statement.line, statement.column, execution.shown(statement), False, 0.0, (), "done already")


def _try(pg: Pg, observer: Observer, work: Work, statement: Statement, locks: _Locks, so_far: _SoFar) -> Tried:
    """Run one statement, which may fail here although a real run would execute it."""
    text = execution.shown(statement)
    alone = ddl.runs_alone(statement)
    if alone is not None:
        return Tried(statement.line, statement.column, text, False, 0.0, (), f"{alone} cannot run in a transaction")
    guarded = so_far.skipped or bool(so_far.values) or not work.script.transactional
    began = time.monotonic()
    try:
        with pg.cursor() as cursor, observer.watching(pg.info.backend_pid, work.place(statement)):
            if guarded:
                cursor.execute("SAVEPOINT confiture_statement")
            execution.execute(cursor, work.script.path, statement, around(work))
    except Held as error:
        raise _blocked(error, observer) from error.__cause__
    except ConfitureError as error:
        why = _why_not(error, so_far) if guarded else None
        if why is None:
            raise
        pg.execute("ROLLBACK TO SAVEPOINT confiture_statement")
        return Tried(statement.line, statement.column, text, False, 0.0, (), why)
    seconds = time.monotonic() - began
    return Tried(statement.line, statement.column, text, True, seconds, locks.taken(pg))


def _why_not(error: ConfitureError, so_far: _SoFar) -> str | None:
    """Why a statement fails here and not in a real run; None if it fails there too."""
    cause = error.__cause__
    message = " ".join(str(cause.diag.message_primary).split()) if isinstance(cause, psycopg.Error) else error.what
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    if state in NOT_IN_TRANSACTIONS:
        return message
    if state == _UNCOMMITTED_VALUE and any(re.search(rf"\W{re.escape(one)}\W", message) for one in so_far.values):
        return f"in a real run, the value is committed before: {message}"
    return f"another statement did not run before it: {message}" if so_far.skipped else None


def _blocked(error: Held, observer: Observer) -> Held:
    return Held(error.what, why=f"{error.why}\nblocked by {observer.named()}", fix="run it again when they have ended")
