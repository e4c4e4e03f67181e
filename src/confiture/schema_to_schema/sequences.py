"""Sequences: the target's continue where the source's are, or behind the largest value of their columns (I-11.2).

However many there are, each side reads or sets all of them with one statement: the cutover does it under its lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from confiture.errors import Refused
from confiture.journal.verifications import Difference
from confiture.plan.model import Plan, SequencePlan
from confiture.plan.planner import is_past
from confiture.postgres.session import Session, Transaction
from confiture.sql import load
from confiture.types import TableRef

_SQL = load("sequences.sql")


@dataclass(frozen=True, slots=True)
class Value:
    """A sequence's state: ``called`` says whether ``last`` was handed out."""

    last: int
    called: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """What decides the value after a value."""

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
    """What a sequence is to be set to."""

    sequence: TableRef
    value: Value
    bounds: Bounds

    def is_behind(self, now: Value) -> bool:
        """Whether a sequence at ``now`` would hand out what is taken. One that cycles begins again in any case."""
        return not self.bounds.cycle and self.bounds.ahead(self.value, now)


def furthest(values: Sequence[Value], bounds: Bounds) -> Value | None:
    """The value behind which none of the others lies; None of none."""
    found: Value | None = None
    for value in values:
        if found is None or bounds.ahead(value, found):
            found = value
    return found


def placed(value: Value, bounds: Bounds, margin: int) -> Value | None:
    """``value`` moved on by as much of ``margin`` as the bounds leave; None when the sequence ends before it.

    A sequence that has not begun at ``value`` yet (its bounds begin later) is set to its first value.
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
    """Where sequences stand. Reads are not transactional: a value may move on at once.

    :raises Refused: when one of them is not there.
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
            why="it was dropped or renamed since the plan was made, which sets a sequence by it or sets it",
            fix="create it again, or give it its name back, with the value it had; then run the same command again",
        )
    return [Bounds(*row[1:]) for row in rows]


def _named(sequences: Sequence[TableRef]) -> dict[str, list[str]]:
    return {"schemas": [s.schema for s in sequences], "names": [s.name for s in sequences]}


def _extremes(tx: Transaction, plans: Sequence[SequencePlan], bounds: Sequence[Bounds]) -> dict[TableRef, list[Value]]:
    """The furthest value of each column that shows where a sequence is; none of a column without values.

    Values that the sequence cannot hand out do not count.
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
    """What the target's sequences are to be set to; those that nothing moves are left out.

    :param margin: values to leave free, for those drawn while the sequence was read.
    :raises Refused: when a sequence is gone, or ends before the value where it has to continue.
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
        why=f"its {name} is {bound}, and {', '.join(map(str, plan.sources))} of the other database is past that",
        fix=f"run in {database}: ALTER SEQUENCE {plan.target} AS bigint NO {name}; then run the same command again",
    )


def set_all(source: Session, target: Transaction, plan: Plan, *, margin: int = 0) -> None:
    """Set every planned sequence; harmless to repeat. It holds even if ``target`` is rolled back.

    :param margin: values to leave free, for those drawn while the sequence was read.
    :raises Refused: when a sequence is gone, or ends before the value where it has to continue.
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
    """Sequences of the target that would hand out a value that is taken."""
    with source.transaction(read_only=True) as reading:
        settings = wanted(reading, tx, plan.sequences)
    standing = values(tx, [s.sequence for s in settings])
    for to, now in zip(settings, standing, strict=True):
        if to.is_behind(now):
            yield Difference(
                "sequences", str(to.sequence), "behind the source", None, None, str(to.value.last), str(now.last)
            )
