"""Sequences: the target's go on where the source's are, or behind the largest value of their column."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from confiture.db import Session, Transaction
from confiture.plan import Plan, SequencePlan
from confiture.types import TableRef


@dataclass(frozen=True, slots=True)
class Value:
    """A sequence's state: ``called`` says whether ``last`` was handed out."""

    last: int
    called: bool


def _name(ref: TableRef) -> sql.Identifier:
    return sql.Identifier(ref.schema, ref.name)


def value(tx: Transaction, sequence: TableRef) -> Value:
    """Where a sequence stands. Reads are not transactional: the value may move on at once."""
    row = tx.pg.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(_name(sequence))).fetchone()
    assert row is not None
    return Value(*row)


def wanted(source: Transaction, target: Transaction, plan: SequencePlan) -> Value | None:
    """What the target's sequence is to be set to; None to leave it alone."""
    if plan.source is not None:
        return value(source, plan.source)
    assert plan.column is not None
    table, column = plan.column
    extreme = "max" if plan.increment > 0 else "min"
    query = sql.SQL("SELECT {}({}) FROM {}").format(sql.SQL(extreme), sql.Identifier(column), _name(table))
    row = target.pg.execute(query).fetchone()
    return None if row is None or row[0] is None else Value(int(row[0]), True)


def set_all(source: Session, target: Transaction, plan: Plan, *, margin: int = 0) -> None:
    """Set every planned sequence within ``target``; harmless to repeat.

    :param margin: values to leave free, for those drawn while the sequence was read.
    """
    with source.transaction(read_only=True) as reading:
        for sequence in plan.sequences:
            to = wanted(reading, target, sequence)
            if to is not None:
                target.pg.execute(
                    "SELECT setval(format('%%I.%%I', %s::text, %s::text)::regclass, %s, %s)",
                    (sequence.target.schema, sequence.target.name, to.last + margin * sequence.increment, to.called),
                )
