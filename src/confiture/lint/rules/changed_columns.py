"""Changes of existing columns: the type, NOT NULL, the expression, and dropping them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes, sequences
from confiture.lint.locks import Lock, Work
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import ALTER, CONSTRAINT
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.lint.type_changes import rewrites
from confiture.types import quoted

_NOTES = "sql-altertable.html#SQL-ALTERTABLE-NOTES"
TYPE = Rule("alter-column-type", Level.error, "a change of a column's type that rewrites the table", _NOTES)
IN_USE = Rule(
    "column-in-use", Level.error, "a change of the type, or a drop, of a column that a view uses", "ddl-depend.html"
)
NOT_NULL = Rule("set-not-null", Level.error, "SET NOT NULL without a validated constraint", _NOTES)
EXPRESSION = Rule("set-expression", Level.error, "SET EXPRESSION of a stored generated column", _NOTES)
DROP = Rule("drop-column", Level.warning, "DROP COLUMN, which running programs may read", "ddl-alter.html")
DEFAULT = Rule("drop-default", Level.warning, "DROP DEFAULT of a column that is NOT NULL", "ddl-default.html")
RULES = (TYPE, IN_USE, NOT_NULL, EXPRESSION, DROP, DEFAULT)


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge the columns that ALTER TABLE changes or drops."""
    if statement.kind != "alter_table_stmt":
        return
    for kind, command, definition in nodes.commands(statement.node):
        if kind == ALTER.AT_AlterColumnType:
            yield from _type(statement, command, definition, seen)
        elif kind == ALTER.AT_SetNotNull:
            yield from _not_null(statement, command.name, 0, seen)
        elif kind == ALTER.AT_AddConstraint and definition.contype == CONSTRAINT.CONSTR_NOTNULL:
            if not definition.skip_validation:
                for column in nodes.strings(definition.keys):
                    yield from _not_null(statement, column, definition.location, seen)
        elif kind == ALTER.AT_SetExpression:
            table = seen.ref(statement.node.relation)
            reason = f"column {quoted(command.name)} is computed again for each row"
            yield Draft(EXPRESSION, reason, (), table, Lock.ACCESS_EXCLUSIVE, Work.rewrite)
        elif kind == ALTER.AT_ColumnDefault and definition is None:
            yield from _default(statement, command.name, seen)
        elif kind == ALTER.AT_DropColumn:
            yield from _drop(statement, command, seen)


def _type(statement: Statement, command: Any, definition: Any, seen: Seen) -> Iterator[Draft]:
    table = seen.ref(statement.node.relation)
    offset = definition.location
    used = [f"{d.kind} {d.name}" for d in seen.dependents(table, command.name) if d.column is not None]
    if used:
        reason = f"the type of a column cannot be changed while {', '.join(used)} uses it, so that the statement fails"
        yield Draft(IN_USE, reason, (), table, Lock.ACCESS_EXCLUSIVE, offset=offset)
        return
    new = nodes.type_of(definition.type_name)
    old = seen.type(table, command.name)
    if not _plain(definition, command.name):
        reason = "a USING expression is computed for each row"
    elif old is None:
        yield _unknown(statement, command, definition, new, seen)
        return
    elif not rewrites(seen.stored(old), seen.stored(new)) and not seen.constrained(new.name):
        yield from _without_rewrite(statement, command, definition, seen)
        return
    else:
        reason = f"values of type {_written(table, command.name, seen)} have to be stored again as {_text(definition)}"
    steps = _new_column(statement, command, definition)
    yield Draft(TYPE, reason, steps, table, Lock.ACCESS_EXCLUSIVE, Work.rewrite, offset)


def _without_rewrite(statement: Statement, command: Any, definition: Any, seen: Seen) -> Iterator[Draft]:
    """Judge the constraints and indexes of a column whose values stay as they are stored."""
    table, lock, offset = seen.ref(statement.node.relation), Lock.ACCESS_EXCLUSIVE, definition.location
    checks = seen.checks_of(table, command.name)
    if definition.HasField("coll_clause") and (seen.indexed(table, command.name) or seen.facts is None):
        level = None if seen.indexed(table, command.name) else Level.warning
        reason = f"indexes on {quoted(command.name)} are built again in the order of the collation"
        yield Draft(TYPE, reason, (), table, lock, Work.build, offset, level)
    elif checks:
        spelled = nodes.spelled(statement.node.relation)
        drop = "\n".join(f"ALTER TABLE {spelled} DROP CONSTRAINT {quoted(name)};" for name in checks)
        add = "\n".join(
            f"ALTER TABLE {spelled} ADD CONSTRAINT {quoted(name)} CHECK ({text}) NOT VALID;"
            for name, text in checks.items()
        )
        valid = "\n".join(f"ALTER TABLE {spelled} VALIDATE CONSTRAINT {quoted(name)};" for name in checks)
        changed = nodes.statement("alter_table_stmt", statement.node)
        reason = f"the server checks every row again for the constraint {', '.join(map(quoted, checks))}"
        yield Draft(TYPE, reason, (Step(f"{drop}\n{changed}\n{add}"), Step(valid)), table, lock, Work.scan, offset)


def _unknown(statement: Statement, command: Any, definition: Any, new: nodes.Type, seen: Seen) -> Draft:
    table, lock = seen.ref(statement.node.relation), Lock.ACCESS_EXCLUSIVE
    steps = _new_column(statement, command, definition)
    if new.name in ("text", "varchar", "numeric", "varbit", "inet", "timestamp", "timestamptz", "interval"):
        reason = (
            f"the table is rewritten unless each value fits {_text(definition)} as it is stored (--target shows it)"
        )
        return Draft(TYPE, reason, steps, table, lock, Work.rewrite, definition.location, Level.warning)
    reason = f"values have to be stored again as {_text(definition)}"
    return Draft(TYPE, reason, steps, table, lock, Work.rewrite, definition.location)


def _written(table: Any, column: str, seen: Seen) -> str:
    found = seen.column(table, column)
    return found.type if found is not None else "another type"


def _text(definition: Any) -> str:
    return nodes.type_text(definition.type_name)


def _plain(definition: Any, column: str) -> bool:
    """Whether there is no USING expression, or only a cast of the column to the new type."""
    if not definition.HasField("raw_default"):
        return True
    using = definition.raw_default
    if using.WhichOneof("node") == "type_cast":
        if nodes.type_of(using.type_cast.type_name) != nodes.type_of(definition.type_name):
            return False
        using = using.type_cast.arg
    return nodes.column(using) == (column,)


def _new_column(statement: Statement, command: Any, definition: Any) -> tuple[Step, ...]:
    """A new column that a trigger fills, and that replaces the old one when every row has its value."""
    relation, name = statement.node.relation, command.name
    table, old, type_ = nodes.spelled(relation), quoted(name), _text(definition)
    new, aside = nodes.object_name(name, "new"), nodes.object_name(name, "old")
    if definition.HasField("raw_default"):
        value, stored = nodes.of_new_row(definition.raw_default), nodes.expression(definition.raw_default)
    else:
        value, stored = f"NEW.{old}::{type_}", f"{old}::{type_}"
    function = quoted(nodes.object_name(relation.relname, new, "fill"))
    first = f"ALTER TABLE {table} ADD COLUMN {quoted(new)} {type_};\n" + sequences.kept_in_step(
        table, relation.relname, new, value
    )
    fill = sequences.backfill(table, f"{quoted(new)} = {stored}", f"{quoted(new)} IS NULL AND {stored} IS NOT NULL")
    swap = (
        f"DROP TRIGGER {function} ON {table};\nDROP FUNCTION {function}();\n"
        f"ALTER TABLE {table} RENAME COLUMN {old} TO {quoted(aside)};\n"
        f"ALTER TABLE {table} RENAME COLUMN {quoted(new)} TO {old};"
    )
    before = f"{quoted(new)} has the indexes, constraints and defaults of {old}"
    return Step(first), fill, Step(swap, before=before), Step(f"ALTER TABLE {table} DROP COLUMN {quoted(aside)};")


def _not_null(statement: Statement, column: str, offset: int, seen: Seen) -> Iterator[Draft]:
    table = seen.ref(statement.node.relation)
    if seen.never_null(table, column):
        return
    version = seen.facts.version if seen.facts is not None else None
    relation = statement.node.relation
    steps = tuple(sequences.not_null(nodes.spelled(relation), relation.relname, [column], version=version))
    reason = f"the server reads every row to find a NULL in {quoted(column)}"
    yield Draft(NOT_NULL, reason, steps, table, Lock.ACCESS_EXCLUSIVE, Work.scan, offset)


def _default(statement: Statement, column: str, seen: Seen) -> Iterator[Draft]:
    table = seen.ref(statement.node.relation)
    if seen.never_null(table, column):
        reason = f"a running program that inserts rows without {quoted(column)} fails from the commit on"
        yield Draft(DEFAULT, reason, (), table, Lock.ACCESS_EXCLUSIVE)


def _drop(statement: Statement, command: Any, seen: Seen) -> Iterator[Draft]:
    table, name = seen.ref(statement.node.relation), command.name
    if f"{table.name}.{name}" in seen.undone or name in seen.known(table).added:
        return
    used = [f"{d.kind} {d.name}" for d in seen.dependents(table, name)]
    if used:
        cascades = nodes.cascades(command.behavior)
        end = "CASCADE drops it too" if cascades else "the statement fails"
        reason = f"{', '.join(used)} uses column {quoted(name)}: {end}"
        yield Draft(IN_USE, reason, (), table, Lock.ACCESS_EXCLUSIVE)
        return
    reason = f"a running program that names column {quoted(name)} fails from the commit on, and its values are gone"
    yield Draft(DROP, reason, (), table, Lock.ACCESS_EXCLUSIVE)
