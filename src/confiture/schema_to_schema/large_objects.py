"""Large objects: copied with a record of each in the same commit, and synchronised again under the cutover's lock.

No trigger fires for a change of a large object. Therefore each synchronisation reads every object of the side that is
serving and compares its digest with the record. The record is in the target (docs/invariants.md, I-9.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import IsolationLevel, sql

from confiture.copy import large_objects as objects
from confiture.copy.large_objects import LAST_OID, LargeObject
from confiture.errors import DataFailure
from confiture.journal.model import Difference
from confiture.plan.model import Plan
from confiture.postgres.connection import only_row
from confiture.postgres.failure import failure
from confiture.postgres.retry import repeated, retry, retryable
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import yielding
from confiture.runner.context import Context
from confiture.schema_to_schema.table_lock import Tables, TryAgain
from confiture.types import Activity, TableRef, counted

#: The name of the check in a verification, and of the objects in the progress.
CHECK, NAME = "large_objects", "large objects"
#: Every access to a large object locks the first one; only its metadata is in the second one.
_CATALOGS = (TableRef("pg_catalog", "pg_largeobject"), TableRef("pg_catalog", "pg_largeobject_metadata"))


@dataclass(frozen=True, slots=True)
class _Changes:
    """The changes in a range of OIDs since it was copied.

    :ivar ours: the objects among ``changed`` that the run has written to the other side before.
    """

    changed: list[LargeObject]
    gone: list[int]
    ours: list[int]


# The lock ------------------------------------------------------------------------------------------


def with_lock(what: Tables, tx: Transaction, plan: Plan) -> Tables:
    """The tables to lock, with the catalogs of the large objects where the role may lock them: a superuser.

    :param tx: of the side to lock.
    """
    if not plan.large_objects or not _may_lock(tx):
        return what
    names = [what.names] if what.refs else []
    listed = sql.SQL(", ").join([*names, *(ref.identifier for ref in _CATALOGS)])
    return Tables(what.side, (*what.refs, *_CATALOGS), listed, what.fence, what.command)


def _may_lock(tx: Transaction) -> bool:
    return bool(only_row(tx.pg.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))[0])


# Copying -------------------------------------------------------------------------------------------


def synchronise(context: Context, plan: Plan, locked: Transaction | None = None) -> int:
    """Copy the large objects that are new or changed, remove those that are gone; how many that were.

    :param locked: a transaction of the source that holds a lock on its tables; None before the lock.
    :raises DataFailure: when an object cannot be written.
    :raises TryAgain: when a transaction that changes an object is in progress under the lock.
    """
    _refuse_changing(locked, "source")
    return _each(context, plan, context.source, partial(_to_target, context, locked), locked)


def synchronise_back(context: Context, plan: Plan, locked: Transaction | None = None) -> int:
    """The same from the target to the source, for a rollback.

    :param locked: a transaction of the target that holds a lock on its tables; None before the lock.
    :raises DataFailure: when an object cannot be written.
    :raises TryAgain: when a transaction that changes an object is in progress under the lock.
    """
    _refuse_changing(locked, "target")
    return _each(context, plan, context.target, partial(_to_source, context, locked), locked)


def _refuse_changing(locked: Transaction | None, side: str) -> None:
    if locked is not None and objects.are_being_changed(locked):
        raise TryAgain("a large object is being changed", side, _CATALOGS)


def _each(
    context: Context,
    plan: Plan,
    side: Session,
    step: Callable[[int], tuple[int, int, int]],
    locked: Transaction | None,
) -> int:
    if not plan.large_objects:
        return 0
    with side.transaction(read_only=True) as tx:
        total = objects.count(tx)
    after, seen, changed = 0, 0, 0
    while after < LAST_OID:
        if locked is None:
            context.checkpoint()
            some, number, after = retry(partial(step, after))
        else:
            some, number, after = step(after)
        seen, changed = seen + some, changed + number
        context.progress.table(NAME, seen, max(total, seen), Activity.COPYING if after < LAST_OID else Activity.COPIED)
    return changed


def _to_target(context: Context, locked: Transaction | None, after: int) -> tuple[int, int, int]:
    """One part: the number of objects that were compared and that were changed, and the last OID."""
    with _reading(context.source, locked) as source:
        found, until = objects.listed(source, after)
        with context.target.transaction(read_only=True) as tx:
            known = objects.recorded(tx, context.schema, after, until)
        what = _changes(source, found, known)
        if what.changed or what.gone:
            # Durable together: the objects and their records.
            with context.fenced("large_objects.copied") as target, _naming("the target"):
                written = _apply(source, target, what)
                _record(context, target, what, written)
    return len(found), len(what.changed) + len(what.gone), until


def _to_source(context: Context, locked: Transaction | None, after: int) -> tuple[int, int, int]:
    with _reading(context.target, locked) as target:
        found, until, what = _since_copied(context, target, after)
    if not (what.changed or what.gone):
        return len(found), 0, until
    _claim(context, [o.oid for o in what.changed if o.oid not in what.ours])
    with _reading(context.target, locked) as target:
        found, until, what = _since_copied(context, target, after)
        # Durable: the objects. After a crash before the next commit they are written again.
        with context.fenced_source("large_objects.back") as source, _naming("the source"):
            written = _apply(target, source, what)
    # Durable: their records.
    with context.fenced("large_objects.back_recorded") as tx:
        _record(context, tx, what, written)
    return len(found), len(what.changed) + len(what.gone), until


def _since_copied(context: Context, target: Transaction, after: int) -> tuple[list[LargeObject], int, _Changes]:
    found, until = objects.listed(target, after)
    return found, until, _changes(target, found, objects.recorded(target, context.schema, after, until))


def _claim(context: Context, oids: Sequence[int]) -> None:
    """Record objects before they are created on the source, so that a later command knows whose they are.

    :raises DataFailure: when the source has another object with one of the OIDs.
    """
    with context.source.transaction(read_only=True) as tx:
        taken = objects.existing(tx, oids)
    if taken:
        raise _taken("the source", f"it has {', '.join(map(str, taken[:5]))}")
    # Durable together: the objects that may exist on the source from now on.
    with context.fenced("large_objects.claimed") as tx:
        objects.record(tx, context.schema, dict.fromkeys(oids))


def _reading(session: Session, locked: Transaction | None) -> AbstractContextManager[Transaction]:
    """A snapshot of one side; under the lock of the large objects, the transaction that holds it.

    Reading a large object conflicts with that lock, so that no other session can.
    """
    if locked is not None and _may_lock(locked):
        return nullcontext(locked)
    return _snapshot(session)


@contextmanager
def _snapshot(session: Session) -> Iterator[Transaction]:
    with yielding(session), session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx:
        yield tx


def _changes(tx: Transaction, found: Sequence[LargeObject], known: Mapping[int, LargeObject | None]) -> _Changes:
    copied = objects.with_contents(tx, [o for o in found if known.get(o.oid) is not None])
    changed = [o for o in found if known.get(o.oid) is None] + [o for o in copied if known[o.oid] != o]
    gone = sorted(known.keys() - {o.oid for o in found})
    return _Changes(changed, gone, [o.oid for o in changed if o.oid in known])


def _apply(reading: Transaction, writing: Transaction, what: _Changes) -> list[LargeObject]:
    """Write what changed, and compare what was written with what was read.

    :raises DataFailure: when both differ.
    """
    objects.remove(writing, [*what.gone, *what.ours])
    written = objects.write(reading, writing, what.changed)
    oids = [o.oid for o in written]
    there = {o.oid: o for o in _exactly(writing, oids)}
    wrong = [o for o in written if there.get(o.oid) != o]
    if wrong:
        raise DataFailure(
            f"large object {wrong[0].oid} was not written as it was read",
            why=f"{', '.join(wrong[0].differing(there[wrong[0].oid]))} differ",
            fix="run the same command again",
        )
    return written


def _exactly(tx: Transaction, oids: Sequence[int]) -> list[LargeObject]:
    if not oids:
        return []
    found, _ = objects.listed(tx, min(oids) - 1, max(oids))
    return objects.with_contents(tx, [o for o in found if o.oid in set(oids)])


def _record(context: Context, tx: Transaction, what: _Changes, written: Sequence[LargeObject]) -> None:
    objects.discard(tx, context.schema, what.gone)
    objects.record(tx, context.schema, {o.oid: o for o in written})


@contextmanager
def _naming(side: str) -> Iterator[None]:
    """Errors of the server are raised with what was done, and a taken OID with the way out."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise _taken(side, str(error.diag.message_detail or error.diag.message_primary)) from error
    except psycopg.Error as error:
        raise error if retryable(error) else failure(error, f"copying large objects to {side}") from error


def _taken(side: str, why: str) -> DataFailure:
    return DataFailure(
        f"{side} has another large object with the OID of one to copy",
        why=why,
        fix="remove it with lo_unlink, then run the same command again",
    )


# Comparing -----------------------------------------------------------------------------------------


def differences(context: Context, plan: Plan, *, live: bool, back: bool = False) -> list[Difference]:
    """The large objects that differ. Every object of both sides is read.

    :param live: the application writes: an object that changed since it was copied is no difference.
    :param back: the application writes to the target, which has the correct objects.
    """
    found: list[Difference] = []
    after = 0 if plan.large_objects else LAST_OID
    while after < LAST_OID:
        context.checkpoint(pausable=live)
        some, after = repeated(partial(_compare, context, after, live, back))
        found += some
    return found


def _compare(context: Context, after: int, live: bool, back: bool) -> tuple[list[Difference], int]:
    correct, other = (context.target, context.source) if back else (context.source, context.target)
    with _snapshot(correct) as tx:
        found, until = objects.listed(tx, after)
        a = {o.oid: o for o in objects.with_contents(tx, found)}
    with _snapshot(other) as tx:
        b = {o.oid: o for o in objects.with_contents(tx, objects.listed(tx, after, until)[0])}
    with context.target.transaction(read_only=True) as tx:
        known = objects.recorded(tx, context.schema, after, until)
    wrong = [oid for oid in sorted(a.keys() | b.keys()) if a.get(oid) != b.get(oid)]
    if live:
        wrong = [oid for oid in wrong if _was_not_changed(oid, a.get(oid), b.get(oid), known)]
    pairs = ((oid, b.get(oid), a.get(oid)) if back else (oid, a.get(oid), b.get(oid)) for oid in wrong)
    return [d for pair in pairs for d in _described(*pair)], until


def _was_not_changed(
    oid: int, correct: LargeObject | None, other: LargeObject | None, known: Mapping[int, LargeObject | None]
) -> bool:
    """Whether an object that differs has not changed since it was copied, so that it is not copied again."""
    if oid in known:
        return known[oid] is None or known[oid] == correct
    return other is not None


def _described(oid: int, source: LargeObject | None, target: LargeObject | None) -> Iterator[Difference]:
    name = f"large object {oid}"
    if source is None or target is None:
        yield Difference(CHECK, name, "missing in target" if target is None else "not in source")
        return
    for what in source.differing(target):
        x, y = (f"{o.size} bytes" if what == "content" else str(getattr(o, what)) for o in (source, target))
        yield Difference(CHECK, name, f"{what} differs", None, None, x, y)


def copy_again(context: Context, found: Sequence[Difference]) -> int:
    """Have the next synchronisation copy the objects that differ; how many these are."""
    oids = sorted({int(d.subject.rpartition(" ")[2]) for d in found if d.check_name == CHECK})
    if oids:
        # Durable together: each of the objects is to be copied again.
        with context.fenced("large_objects.again") as tx:
            objects.record(tx, context.schema, dict.fromkeys(oids))
        context.progress.say(f"{counted(len(oids), 'large object')} to be copied again")
    return len(oids)


def remove_copied(context: Context) -> None:
    """Remove from the target what the run has copied; harmless to repeat."""
    with context.target.transaction(read_only=True) as tx:
        after = 0 if objects.has_records(tx, context.schema) else LAST_OID
    while after < LAST_OID:
        # Durable together: the objects are removed, and their records.
        with context.fenced("large_objects.removed") as tx:
            _, until = objects.listed(tx, after)
            ours = list(objects.recorded(tx, context.schema, after, until))
            objects.remove(tx, ours)
            objects.discard(tx, context.schema, ours)
        after = until
