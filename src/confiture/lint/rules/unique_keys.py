"""UNIQUE and PRIMARY KEY constraints that build their index under ACCESS EXCLUSIVE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes, sequences
from confiture.lint.locks import Lock, Work
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import ALTER, CONSTRAINT
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.types import quoted

_PAGE = "sql-altertable.html#SQL-ALTERTABLE-DESC-ADD-TABLE-CONSTRAINT-USING-INDEX"
UNIQUE = Rule("unique-without-using-index", Level.error, "a UNIQUE constraint without USING INDEX", _PAGE)
PRIMARY = Rule("primary-key-without-using-index", Level.error, "a PRIMARY KEY without USING INDEX", _PAGE)
NULLABLE = Rule("primary-key-nullable", Level.error, "PRIMARY KEY USING INDEX on columns that may be NULL", _PAGE)
RULES = (UNIQUE, PRIMARY, NULLABLE)
_KINDS = {CONSTRAINT.CONSTR_UNIQUE: UNIQUE, CONSTRAINT.CONSTR_PRIMARY: PRIMARY}


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge the keys that ALTER TABLE adds."""
    if statement.kind != "alter_table_stmt":
        return
    for kind, _, definition in nodes.commands(statement.node):
        if kind == ALTER.AT_AddConstraint:
            yield from _key(statement, definition, nodes.strings(definition.keys), seen, added=None)
        elif kind == ALTER.AT_AddColumn:
            for part in definition.constraints:
                yield from _key(statement, part.constraint, [definition.colname], seen, added=definition)


def _key(statement: Statement, constraint: Any, columns: list[str], seen: Seen, *, added: Any) -> Iterator[Draft]:
    rule = _KINDS.get(constraint.contype)
    if rule is None:
        return
    table = seen.ref(statement.node.relation)
    lock = Lock.ACCESS_EXCLUSIVE
    if constraint.indexname:
        if rule is PRIMARY:
            yield from _nullable(statement, constraint, seen)
        return
    steps = () if seen.partitioned(table) else _using_index(statement, constraint, columns, seen, added)
    reason = "the server builds the index of the constraint under the lock"
    yield Draft(rule, reason, steps, table, lock, Work.build, constraint.location)


def _using_index(statement: Statement, constraint: Any, columns: list[str], seen: Seen, added: Any) -> tuple[Step, ...]:
    relation = statement.node.relation
    table, primary = nodes.spelled(relation), constraint.contype == CONSTRAINT.CONSTR_PRIMARY
    usual = (relation.relname, "pkey") if primary else (relation.relname, *columns, "key")
    name = quoted(constraint.conname or nodes.object_name(*usual))
    including = nodes.strings(constraint.including)
    more = f" INCLUDE ({nodes.names(including)})" if including else ""
    more += " NULLS NOT DISTINCT" if constraint.nulls_not_distinct else ""
    index = f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({nodes.names(columns)}){more};"
    kind = "PRIMARY KEY" if primary else "UNIQUE"
    ends = (" DEFERRABLE" if constraint.deferrable else "") + (" INITIALLY DEFERRED" if constraint.initdeferred else "")
    constrained = Step(f"ALTER TABLE {table} ADD CONSTRAINT {name} {kind} USING INDEX {name}{ends};")
    before: list[Step] = []
    if added is not None:
        bare = type(added)()
        bare.CopyFrom(added)
        kept = [p for p in added.constraints if p.constraint.contype not in _KINDS]
        del bare.constraints[:]
        bare.constraints.extend(kept)
        before.append(Step(nodes.added_column(relation, bare)))
    return (*before, Step(index, transactional=False), *_required(relation, columns, primary, seen), constrained)


def _required(relation: Any, columns: list[str], primary: bool, seen: Seen) -> list[Step]:
    table = seen.ref(relation)
    nullable = [column for column in columns if primary and not seen.never_null(table, column)]
    if not nullable:
        return []
    version = seen.facts.version if seen.facts is not None else None
    return sequences.not_null(nodes.spelled(relation), relation.relname, nullable, version=version)


def _nullable(statement: Statement, constraint: Any, seen: Seen) -> Iterator[Draft]:
    """A primary key on an index makes its columns NOT NULL, for which the server reads every row."""
    relation = statement.node.relation
    table = seen.ref(relation)
    columns = seen.columns_of_index(constraint.indexname)
    nullable = [column for column in columns if not seen.never_null(table, column)]
    if nullable:
        reason = f"the server reads every row to find a NULL in {nodes.names(nullable)}, and sets NOT NULL"
        steps = tuple(_required(relation, nullable, True, seen))
        text = nodes.statement("alter_table_stmt", statement.node)
        yield Draft(
            NULLABLE, reason, (*steps, Step(text)), table, Lock.ACCESS_EXCLUSIVE, Work.scan, constraint.location
        )
