"""Foreign keys and CHECK constraints that scan under a lock, and exclusion constraints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes
from confiture.lint.locks import Lock, Work
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import ALTER, CONSTRAINT
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.types import quoted

_PAGE = "sql-altertable.html#SQL-ALTERTABLE-NOTES"
FOREIGN_KEY = Rule("foreign-key-without-not-valid", Level.error, "a foreign key without NOT VALID", _PAGE)
CHECK = Rule("check-without-not-valid", Level.error, "a CHECK constraint without NOT VALID", _PAGE)
VALIDATE = Rule(
    "validate-in-same-transaction", Level.error, "VALIDATE CONSTRAINT in the transaction that adds it", _PAGE
)
EXCLUDE = Rule(
    "exclusion-constraint", Level.error, "an exclusion constraint on an existing table", "ddl-constraints.html"
)
ENFORCED = Rule("constraint-enforced", Level.error, "ALTER CONSTRAINT ... ENFORCED", _PAGE)
RULES = (FOREIGN_KEY, CHECK, VALIDATE, EXCLUDE, ENFORCED)


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge the constraints that ALTER TABLE adds or validates."""
    if statement.kind != "alter_table_stmt":
        return
    for kind, command, definition in nodes.commands(statement.node):
        if kind == ALTER.AT_AddConstraint:
            yield from _added(statement, definition, seen, column=None)
        elif kind == ALTER.AT_AddColumn:
            for part in definition.constraints:
                yield from _added(statement, part.constraint, seen, column=definition)
        elif kind == ALTER.AT_ValidateConstraint:
            yield from _validated(statement, command.name, seen)
        elif kind == ALTER.AT_AlterConstraint and definition.alter_enforceability and definition.is_enforced:
            # The statement does not contain the constraint, from which a sequence could be written.
            reason = "the server compares every row under the lock, which it also takes on the referenced table"
            yield Draft(ENFORCED, reason, (), seen.ref(statement.node.relation), Lock.ACCESS_EXCLUSIVE, Work.scan)


def _added(statement: Statement, constraint: Any, seen: Seen, *, column: Any) -> Iterator[Draft]:
    table = seen.ref(statement.node.relation)
    if constraint.contype in (CONSTRAINT.CONSTR_FOREIGN, CONSTRAINT.CONSTR_CHECK):
        if constraint.skip_validation or not constraint.is_enforced:
            return
    offset = constraint.location
    if constraint.contype == CONSTRAINT.CONSTR_FOREIGN:
        if column is not None and not _has_default(column):
            return  # the server knows that each value of the new column is NULL
        referenced = nodes.spelled(constraint.pktable)
        reason = f"the server compares every row with {referenced} while writes to both tables wait"
        version = seen.facts.version if seen.facts is not None else 0
        # Of a partitioned table, only PostgreSQL 18 accepts NOT VALID.
        possible = not seen.partitioned(table) or version >= 180_000
        steps = _not_valid(statement, constraint, column) if possible else ()
        lock = Lock.SHARE_ROW_EXCLUSIVE if column is None else Lock.ACCESS_EXCLUSIVE
        yield Draft(FOREIGN_KEY, reason, steps, table, lock, Work.scan, offset)
    elif constraint.contype == CONSTRAINT.CONSTR_CHECK:
        steps = _not_valid(statement, constraint, column)
        reason = "the server reads every row to check it"
        yield Draft(CHECK, reason, steps, table, Lock.ACCESS_EXCLUSIVE, Work.scan, offset)
    elif constraint.contype == CONSTRAINT.CONSTR_EXCLUSION:
        reason = "the server builds the index under the lock, and accepts no existing index for it"
        yield Draft(EXCLUDE, reason, (), table, Lock.ACCESS_EXCLUSIVE, Work.build, offset)


def _has_default(column: Any) -> bool:
    kinds = {part.constraint.contype for part in column.constraints}
    return bool(kinds & {CONSTRAINT.CONSTR_DEFAULT, CONSTRAINT.CONSTR_GENERATED, CONSTRAINT.CONSTR_IDENTITY})


def _not_valid(statement: Statement, constraint: Any, column: Any) -> tuple[Step, ...]:
    """The constraint NOT VALID, and its validation in another transaction."""
    relation = statement.node.relation
    table = nodes.spelled(relation)
    copy = type(constraint)()
    copy.CopyFrom(constraint)
    if column is not None:
        copy.fk_attrs.extend([nodes.string(column.colname)] if copy.contype == CONSTRAINT.CONSTR_FOREIGN else [])
    of = nodes.strings(copy.fk_attrs) or ([column.colname] if column is not None else [])
    end = "fkey" if copy.contype == CONSTRAINT.CONSTR_FOREIGN else "check"
    copy.conname = copy.conname or nodes.object_name(relation.relname, *of, end)
    copy.skip_validation, copy.initially_valid = True, False
    first = nodes.added_constraint(relation, copy)
    if column is not None:
        bare = type(column)()
        bare.CopyFrom(column)
        del bare.constraints[:]
        bare.constraints.extend(p for p in column.constraints if p.constraint.contype != constraint.contype)
        first = f"{nodes.added_column(relation, bare)}\n{first}"
    return Step(first), Step(f"ALTER TABLE {table} VALIDATE CONSTRAINT {quoted(copy.conname)};")


def _validated(statement: Statement, name: str, seen: Seen) -> Iterator[Draft]:
    table = seen.ref(statement.node.relation)
    constraint = seen.known(table).constraints.get(name)
    if constraint is None or not seen.in_transaction or constraint.transaction != seen.transaction:
        return
    held = seen.held.get(table)
    reason = f"the transaction holds the lock of ADD CONSTRAINT {quoted(name)} while the server reads every row"
    steps = (Step(f"ALTER TABLE {nodes.spelled(statement.node.relation)} VALIDATE CONSTRAINT {quoted(name)};"),)
    yield Draft(VALIDATE, reason, steps, table, held[0] if held else Lock.ACCESS_EXCLUSIVE, Work.scan)
