"""Sequences: the target's continue at the source's values, or after the largest value of their columns (I-11.2).

Each side reads or sets all of them with one statement, because a cutover does it under its lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from confiture.errors import Refused
from confiture.journal.model import Difference
from confiture.plan.model import Plan, SequencePlan
from confiture.plan.planner import is_past
from confiture.postgres.session import Session, Transaction
from confiture.sql import load
from confiture.types import TableRef

_SQL = load("sequences.sql")


@dataclass(frozen=True, slots=True)
class Value:
    """A sequence's state; ``called`` is true when ``nextval`` has returned ``last``."""

    last: int
    called: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """The properties of a sequence that determine its next value."""

    increment: int
    minimum: int
    maximum: int
    cycle: bool

    def ahead(self, a: Value, b: Value) -> bool:
        """Whether ``a`` is further than ``b`` in the sequence's direction."""
        sign = 1 if self.increment > 0 else -1
        return (sign * a.last, a.called) > (sign * b.last, b.called)


@dataclass(frozen=True, slots=True)
class Setting:
    """The value that a sequence is to be set to."""

    sequence: TableRef
    value: Value
    bounds: Bounds

    def is_behind(self, now: Value) -> bool:
        """Whether a sequence at ``now`` would return values that are in use; never for one with CYCLE."""
        return not self.bounds.cycle and self.bounds.ahead(self.value, now)


def furthest(values: Sequence[Value], bounds: Bounds) -> Value | None:
    """The value that is furthest in the sequence's direction; None when ``values`` is empty."""
    found: Value | None = None
    for value in values:
        if found is None or bounds.ahead(value, found):
            found = value
    return found


def placed(value: Value, bounds: Bounds, margin: int) -> Value | None:
    """``value`` advanced by as much of ``margin`` as the bounds permit; None when the sequence ends before ``value``.

    A sequence whose bounds begin after ``value`` is set to its first value.
    """
    first, end = (bounds.minimum, bounds.maximum) if bounds.increment > 0 else (bounds.maximum, bounds.minimum)
    if is_past(value.last, bounds.increment, bounds.minimum, bounds.maximum):
        return None
    if is_past(first, bounds.increment, value.last, value.last):
        return Value(first, called=False)
    room = (end - value.last) // bounds.increment
    if margin <= room:
        return Value(value.last + margin * bounds.increment, value.called)
    if not bounds.cycle:
        return Value(value.last + room * bounds.increment, value.called)
    length = (end - first) // bounds.increment + 1
    return Value(first + (margin - room - 1) % length * bounds.increment, value.called)


def values(tx: Transaction, sequences: Sequence[TableRef]) -> list[Value]:
    """The current values of sequences. Reading is not transactional: a value may already have changed.

    :raises Refused: when one of them does not exist.
    """
    _bounds(tx, sequences)
    if not sequences:
        return []
    form = sql.SQL("SELECT {} AS n, last_value, is_called FROM {}")
    parts = sql.SQL(" UNION ALL ").join(form.format(sql.Literal(n), s.identifier) for n, s in enumerate(sequences))
    return [Value(*row[1:]) for row in tx.pg.execute(parts + sql.SQL(" ORDER BY n")).fetchall()]


def _bounds(tx: Transaction, sequences: Sequence[TableRef]) -> list[Bounds]:
    rows = tx.pg.execute(_SQL["bounds"], _named(sequences)).fetchall()
    there = {row[0] for row in rows}
    gone = [str(ref) for n, ref in enumerate(sequences, 1) if n not in there]
    if gone:
        raise Refused(
            f"database {tx.pg.info.dbname} has no sequence {', '.join(gone)} any more",
            why="it was dropped or renamed since the plan was created, and the plan reads or sets it",
            fix="create it again with its previous value, or rename it back; then run the same command again",
        )
    return [Bounds(*row[1:]) for row in rows]


def _named(sequences: Sequence[TableRef]) -> dict[str, list[str]]:
    return {"schemas": [s.schema for s in sequences], "names": [s.name for s in sequences]}


def _extremes(tx: Transaction, plans: Sequence[SequencePlan], bounds: Sequence[Bounds]) -> dict[TableRef, list[Value]]:
    """The furthest value of each column that a sequence fills; no entry for a column without values.

    Values that the sequence cannot return are ignored.
    """
    parts = []
    for n, (plan, limits) in enumerate(zip(plans, bounds, strict=True)):
        extreme = sql.SQL("max" if limits.increment > 0 else "min")
        for table, column in plan.columns:
            parts.append(
                sql.SQL("SELECT {}, (SELECT {}({column})::bigint FROM {} WHERE {column} BETWEEN {} AND {})").format(
                    *(
                        sql.Literal(n),
                        extreme,
                        table.identifier,
                        sql.Literal(limits.minimum),
                        sql.Literal(limits.maximum),
                    ),
                    column=sql.Identifier(column),
                )
            )
    found: dict[TableRef, list[Value]] = {}
    for n, last in tx.pg.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall() if parts else ():
        if last is not None:
            found.setdefault(plans[n].target, []).append(Value(last, called=True))
    return found


def wanted(
    source: Transaction, target: Transaction, plans: Sequence[SequencePlan], *, margin: int = 0
) -> list[Setting]:
    """The values that the target's sequences are to be set to; a sequence without any value is omitted.

    :param margin: number of values to skip, because the application uses some while the sequence is read.
    :raises Refused: when a sequence does not exist any more, or ends before the value at which it has to continue.
    """
    bounds = _bounds(target, [p.target for p in plans])
    refs = list(dict.fromkeys(ref for p in plans for ref in p.sources))
    origins = dict(zip(refs, values(source, refs), strict=True))
    extremes = _extremes(target, plans, bounds)
    found = []
    for plan, limits in zip(plans, bounds, strict=True):
        shown = [*(origins[ref] for ref in plan.sources), *extremes.get(plan.target, ())]
        value = furthest(shown, limits)
        if value is not None:
            to = placed(value, limits, margin)
            if to is None:
                raise _too_far(target.pg.info.dbname, plan, value, limits)
            found.append(Setting(plan.target, to, limits))
    return found


def _too_far(database: str, plan: SequencePlan, value: Value, bounds: Bounds) -> Refused:
    name, bound = ("MAXVALUE", bounds.maximum) if bounds.increment > 0 else ("MINVALUE", bounds.minimum)
    return Refused(
        f"sequence {plan.target} cannot continue at {value.last}",
        why=f"its {name} is {bound}, and {', '.join(map(str, plan.sources))} of the other database is past that value",
        fix=f"run in {database}: ALTER SEQUENCE {plan.target} AS bigint NO {name}; then run the same command again",
    )


def set_all(source: Session, target: Transaction, plan: Plan, *, margin: int = 0) -> None:
    """Set every planned sequence; harmless to repeat. The values remain set even if ``target`` is rolled back.

    :param margin: number of values to skip, because the application uses some while the sequence is read.
    :raises Refused: when a sequence does not exist any more, or ends before the value at which it has to continue.
    """
    if not plan.sequences:
        return
    with source.transaction(read_only=True) as reading:
        settings = wanted(reading, target, plan.sequences, margin=margin)
    parameters = {
        **_named([s.sequence for s in settings]),
        "lasts": [s.value.last for s in settings],
        "calleds": [s.value.called for s in settings],
    }
    target.pg.execute(_SQL["set"], parameters)


def behind(source: Session, tx: Transaction, plan: Plan) -> Iterator[Difference]:
    """The sequences of the target that would return a value that is in use."""
    with source.transaction(read_only=True) as reading:
        settings = wanted(reading, tx, plan.sequences)
    standing = values(tx, [s.sequence for s in settings])
    for to, now in zip(settings, standing, strict=True):
        if to.is_behind(now):
            yield Difference(
                "sequences", str(to.sequence), "behind the source", None, None, str(to.value.last), str(now.last)
            )
