"""ADD COLUMN: defaults, sequences and generated columns that rewrite the table, and NOT NULL without a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes, sequences
from confiture.lint.locks import Lock, Work
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import ALTER, CONSTRAINT
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.lint.volatility import volatile
from confiture.types import quoted

_PAGE = "sql-altertable.html#SQL-ALTERTABLE-NOTES"
VOLATILE = Rule("add-column-volatile-default", Level.error, "ADD COLUMN with a volatile DEFAULT", _PAGE)
SERIAL = Rule("add-column-serial", Level.error, "ADD COLUMN of type serial", "datatype-numeric.html#DATATYPE-SERIAL")
IDENTITY = Rule("add-column-identity", Level.error, "ADD COLUMN ... AS IDENTITY", "ddl-identity-columns.html")
STORED = Rule(
    "add-column-stored-generated", Level.error, "ADD COLUMN ... GENERATED ... STORED", "ddl-generated-columns.html"
)
DOMAIN = Rule("add-column-constrained-domain", Level.error, "ADD COLUMN of a domain with a constraint", _PAGE)
REQUIRED = Rule("add-column-not-null", Level.error, "ADD COLUMN ... NOT NULL without a default", "ddl-alter.html")
RULES = (VOLATILE, SERIAL, IDENTITY, STORED, DOMAIN, REQUIRED)

_SERIALS = {"serial": "integer", "serial4": "integer", "bigserial": "bigint", "serial8": "bigint"} | {
    "smallserial": "smallint",
    "serial2": "smallint",
}


class _Added:
    """A column that a statement adds, with its names as SQL."""

    def __init__(self, statement: Statement, column: Any) -> None:
        relation = statement.node.relation
        self.node = column
        self.table = nodes.spelled(relation)
        self.table_name = relation.relname
        self.column = quoted(column.colname)
        self.type_name = nodes.type_of(column.type_name).name
        self.type = nodes.type_text(column.type_name)
        self.parts = {part.constraint.contype: part.constraint for part in column.constraints}
        self.required = CONSTRAINT.CONSTR_NOTNULL in self.parts


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge the columns that ALTER TABLE adds."""
    if statement.kind != "alter_table_stmt":
        return
    for kind, _, definition in nodes.commands(statement.node):
        if kind == ALTER.AT_AddColumn:
            yield from _column(_Added(statement, definition), statement, seen)


def _column(added: _Added, statement: Statement, seen: Seen) -> Iterator[Draft]:
    table = seen.ref(statement.node.relation)
    found = _rewriting(added, seen)
    if found is not None:
        rule, reason, steps = found
        lock, work = Lock.ACCESS_EXCLUSIVE, Work.rewrite
        yield Draft(rule, reason, steps, table, lock, work, added.node.location)
    elif added.required and not added.parts.keys() & {CONSTRAINT.CONSTR_DEFAULT, CONSTRAINT.CONSTR_GENERATED}:
        reason = f"a table with rows has no value for {added.column}, so that the statement fails"
        offset = added.node.location
        yield Draft(REQUIRED, reason, _later_required(added, seen), table, Lock.ACCESS_EXCLUSIVE, offset=offset)


def _rewriting(added: _Added, seen: Seen) -> tuple[Rule, str, tuple[Step, ...]] | None:
    parts = added.parts
    if added.type_name in _SERIALS:
        reason = f"{added.type} fills each row with the next value of a sequence"
        return SERIAL, reason, (*_from_sequence(added, _SERIALS[added.type_name]), *_not_null(added, seen))
    if CONSTRAINT.CONSTR_IDENTITY in parts:
        return IDENTITY, "an identity column fills each row with the next value of a sequence", _identity(added, seen)
    generated = parts.get(CONSTRAINT.CONSTR_GENERATED)
    if generated is not None:
        if generated.generated_kind != "s":
            return None
        return STORED, "a stored generated column is computed for each row", _stored(added, generated)
    default = parts.get(CONSTRAINT.CONSTR_DEFAULT)
    function = volatile(default.raw_expr, seen) if default is not None else None
    if default is not None and function is not None:
        known = seen.facts is not None or function in ("random", "gen_random_uuid", "clock_timestamp", "nextval")
        doubt = "is volatile" if known else "is volatile, or not known to be stable"
        reason = f"{function}() {doubt}, so that each row gets a value of its own"
        return VOLATILE, reason, _default_later(added, default.raw_expr, seen)
    if seen.constrained(added.type_name):
        return DOMAIN, f"domain {added.type} has a constraint, which the server checks by a rewrite", ()
    return None


def _not_null(added: _Added, seen: Seen) -> list[Step]:
    version = seen.facts.version if seen.facts is not None else None
    return sequences.not_null(added.table, added.table_name, [added.node.colname], version=version)


def _default_later(added: _Added, default: Any, seen: Seen) -> tuple[Step, ...]:
    first = (
        f"ALTER TABLE {added.table} ADD COLUMN {added.column} {added.type};\n"
        f"ALTER TABLE {added.table} ALTER COLUMN {added.column} SET DEFAULT {nodes.expression(default)};"
    )
    fill = sequences.backfill(added.table, f"{added.column} = DEFAULT", f"{added.column} IS NULL")
    return (Step(first), fill, *(_not_null(added, seen) if added.required else ()))


def _from_sequence(added: _Added, type_: str) -> tuple[Step, ...]:
    sequence = quoted(nodes.object_name(added.table_name, added.node.colname, "seq"))
    schema = added.table.rpartition(".")[0]
    sequence = f"{schema}.{sequence}" if schema else sequence
    literal = sequence.replace("'", "''")
    first = (
        f"ALTER TABLE {added.table} ADD COLUMN {added.column} {type_};\n"
        f"CREATE SEQUENCE {sequence} AS {type_} OWNED BY {added.table}.{added.column};\n"
        f"ALTER TABLE {added.table} ALTER COLUMN {added.column} SET DEFAULT nextval('{literal}');"
    )
    return Step(first), sequences.backfill(added.table, f"{added.column} = DEFAULT", f"{added.column} IS NULL")


def _identity(added: _Added, seen: Seen) -> tuple[Step, ...]:
    always = added.parts[CONSTRAINT.CONSTR_IDENTITY].generated_when == "a"
    kind = "ALWAYS" if always else "BY DEFAULT"
    sequence = nodes.object_name(added.table_name, added.node.colname, "seq")
    schema = added.table.rpartition(".")[0]
    spelled = f"{schema}.{quoted(sequence)}" if schema else quoted(sequence)
    table, column = (text.replace("'", "''") for text in (added.table, added.node.colname))
    literal = spelled.replace("'", "''")
    last = (
        f"ALTER TABLE {added.table} ALTER COLUMN {added.column} DROP DEFAULT,\n"
        f"  ALTER COLUMN {added.column} ADD GENERATED {kind} AS IDENTITY;\n"
        f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), nextval('{literal}'));\n"
        f"DROP SEQUENCE {spelled};"
    )
    return (*_from_sequence(added, added.type), *_not_null(added, seen), Step(last))


def _stored(added: _Added, generated: Any) -> tuple[Step, ...]:
    value = nodes.of_new_row(generated.raw_expr)
    first = f"ALTER TABLE {added.table} ADD COLUMN {added.column} {added.type};\n" + sequences.kept_in_step(
        added.table, added.table_name, added.node.colname, value
    )
    expression = nodes.expression(generated.raw_expr)
    condition = f"{added.column} IS NULL AND ({expression}) IS NOT NULL"
    return Step(first), sequences.backfill(added.table, f"{added.column} = {expression}", condition)


def _later_required(added: _Added, seen: Seen) -> tuple[Step, ...]:
    first = Step(f"ALTER TABLE {added.table} ADD COLUMN {added.column} {added.type};")
    constraint, *rest = _not_null(added, seen)
    before = f"the application writes {added.column}, and every row has a value"
    return first, Step(constraint.sql, before=before), *rest
