"""Renames and drops of objects that running programs name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes, sequences
from confiture.lint.locks import Lock
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import OBJECT
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.types import quoted

_RENAME = "sql-altertable.html#SQL-ALTERTABLE-DESC-RENAME"
TABLE = Rule("rename-table", Level.error, "RENAME of a table", _RENAME)
COLUMN = Rule("rename-column", Level.error, "RENAME COLUMN", _RENAME)
VIEW = Rule("rename-view", Level.error, "RENAME of a view or a materialized view", "sql-alterview.html")
SCHEMA = Rule("rename-schema", Level.error, "RENAME of a schema", "sql-alterschema.html")
OTHER = Rule("rename-object", Level.warning, "RENAME of a function, type, sequence or enum value", "sql-commands.html")
MOVE = Rule("set-schema", Level.error, "SET SCHEMA", "sql-altertable.html#SQL-ALTERTABLE-DESC-SET-SCHEMA")
DROP_TABLE = Rule("drop-table", Level.warning, "DROP TABLE", "sql-droptable.html")
DROP_OTHER = Rule("drop-object", Level.warning, "DROP of a view, function, type or sequence", "ddl-depend.html")
DROP_SCHEMA = Rule("drop-schema", Level.warning, "DROP SCHEMA", "sql-dropschema.html")
DATABASE = Rule("drop-database", Level.error, "DROP DATABASE", "sql-dropdatabase.html")
CASCADE = Rule("drop-cascade", Level.warning, "DROP ... CASCADE", "ddl-depend.html")
RULES = (TABLE, COLUMN, VIEW, SCHEMA, OTHER, MOVE, DROP_TABLE, DROP_OTHER, DROP_SCHEMA, DATABASE, CASCADE)

_RENAMES = {
    OBJECT.OBJECT_TABLE: TABLE,
    OBJECT.OBJECT_FOREIGN_TABLE: TABLE,
    OBJECT.OBJECT_VIEW: VIEW,
    OBJECT.OBJECT_MATVIEW: VIEW,
    OBJECT.OBJECT_SCHEMA: SCHEMA,
    OBJECT.OBJECT_FUNCTION: OTHER,
    OBJECT.OBJECT_PROCEDURE: OTHER,
    OBJECT.OBJECT_ROUTINE: OTHER,
    OBJECT.OBJECT_AGGREGATE: OTHER,
    OBJECT.OBJECT_TYPE: OTHER,
    OBJECT.OBJECT_DOMAIN: OTHER,
    OBJECT.OBJECT_SEQUENCE: OTHER,
}
_DROPS = {
    OBJECT.OBJECT_TABLE: DROP_TABLE,
    OBJECT.OBJECT_FOREIGN_TABLE: DROP_TABLE,
    OBJECT.OBJECT_SCHEMA: DROP_SCHEMA,
    OBJECT.OBJECT_VIEW: DROP_OTHER,
    OBJECT.OBJECT_MATVIEW: DROP_OTHER,
    OBJECT.OBJECT_FUNCTION: DROP_OTHER,
    OBJECT.OBJECT_PROCEDURE: DROP_OTHER,
    OBJECT.OBJECT_ROUTINE: DROP_OTHER,
    OBJECT.OBJECT_AGGREGATE: DROP_OTHER,
    OBJECT.OBJECT_TYPE: DROP_OTHER,
    OBJECT.OBJECT_DOMAIN: DROP_OTHER,
    OBJECT.OBJECT_SEQUENCE: DROP_OTHER,
}
_RELATIONS = (OBJECT.OBJECT_TABLE, OBJECT.OBJECT_VIEW, OBJECT.OBJECT_MATVIEW, OBJECT.OBJECT_FOREIGN_TABLE)


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge renames and drops."""
    node = statement.node
    if statement.kind == "rename_stmt":
        yield from _rename(node, seen)
    elif statement.kind == "alter_enum_stmt" and node.old_val:
        reason = f"a running program that names the value {node.old_val!r} fails from the commit on"
        yield Draft(OTHER, reason)
    elif statement.kind == "alter_object_schema_stmt" and node.object_type in _RELATIONS:
        yield from _set_schema(node, seen)
    elif statement.kind == "drop_stmt":
        yield from _drop(node, seen)
    elif statement.kind == "dropdb_stmt":
        yield Draft(
            DATABASE, f"every table of database {quoted(node.dbname)} is gone at once, and no rollback restores it"
        )


def _fails(kind: str, name: str) -> str:
    return f"a running program that names {kind} {name} fails from the commit on, before its new version is deployed"


def _rename(node: Any, seen: Seen) -> Iterator[Draft]:
    if node.rename_type in (OBJECT.OBJECT_COLUMN, OBJECT.OBJECT_ATTRIBUTE):
        yield from _rename_column(node, seen)
        return
    rule = _RENAMES.get(node.rename_type)
    if rule is None:
        return
    if rule in (TABLE, VIEW):
        if node.relation.relname in seen.recreated:
            return  # a view takes the old name in the same file
        relation = nodes.spelled(node.relation)
        kind = nodes.KINDS[node.rename_type].lower()
        schema = f"{quoted(node.relation.schemaname)}." if node.relation.schemaname else ""
        step = (
            f"ALTER {nodes.KINDS[node.rename_type]} {relation} RENAME TO {quoted(node.newname)};\n"
            f"CREATE VIEW {relation} AS SELECT * FROM {schema}{quoted(node.newname)};"
        )
        after = Step(f"DROP VIEW {relation};", before=f"no program names {relation} any more")
        yield Draft(rule, _fails(kind, relation), (Step(step), after), seen.ref(node.relation), Lock.ACCESS_EXCLUSIVE)
        return
    name = node.subname or ".".join(map(quoted, nodes.object_names(node.object)))
    yield Draft(rule, _fails(nodes.KINDS[node.rename_type].lower(), name))


def _rename_column(node: Any, seen: Seen) -> Iterator[Draft]:
    if node.rename_type != OBJECT.OBJECT_COLUMN:
        return
    table = seen.ref(node.relation)
    old, known = node.subname, seen.known(table)
    # A new column that takes the name of one that is renamed in the same transaction.
    if f"{table.name}.{old}" in seen.recreated or old in known.added or node.newname in known.renamed:
        return
    yield Draft(COLUMN, _fails("column", quoted(old)), _copied(node, seen), table, Lock.ACCESS_EXCLUSIVE)


def _copied(node: Any, seen: Seen) -> tuple[Step, ...]:
    """A second column that a trigger keeps equal, until no program names the first; empty without the type."""
    table, old, new = nodes.spelled(node.relation), quoted(node.subname), quoted(node.newname)
    found = seen.column(seen.ref(node.relation), node.subname)
    if found is None:
        return ()
    function = quoted(nodes.object_name(node.relation.relname, node.newname, "sync"))
    first = (
        f"ALTER TABLE {table} ADD COLUMN {new} {found.type};\n"
        f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n"
        f"  IF TG_OP = 'INSERT' THEN\n    NEW.{new} := coalesce(NEW.{new}, NEW.{old});\n    NEW.{old} := NEW.{new};\n"
        f"  ELSIF NEW.{new} IS DISTINCT FROM OLD.{new} THEN\n    NEW.{old} := NEW.{new};\n"
        f"  ELSE\n    NEW.{new} := NEW.{old};\n  END IF;\n  RETURN NEW;\nEND $$;\n"
        f"CREATE TRIGGER {function} BEFORE INSERT OR UPDATE ON {table}\n"
        f"  FOR EACH ROW EXECUTE FUNCTION {function}();"
    )
    last = f"DROP TRIGGER {function} ON {table};\nDROP FUNCTION {function}();\nALTER TABLE {table} DROP COLUMN {old};"
    return (
        Step(first),
        sequences.backfill(table, f"{new} = {old}", f"{new} IS NULL AND {old} IS NOT NULL"),
        Step(last, before=f"no program names {old} any more"),
    )


def _set_schema(node: Any, seen: Seen) -> Iterator[Draft]:
    relation, new = nodes.spelled(node.relation), quoted(node.newschema)
    kind = nodes.KINDS[node.object_type]
    step = (
        f"ALTER {kind} {relation} SET SCHEMA {new};\n"
        f"CREATE VIEW {relation} AS SELECT * FROM {new}.{quoted(node.relation.relname)};"
    )
    if node.relation.relname in seen.recreated:
        return
    after = Step(f"DROP VIEW {relation};", before=f"no program names {relation} any more")
    reason = _fails(kind.lower(), relation)
    yield Draft(MOVE, reason, (Step(step), after), seen.ref(node.relation), Lock.ACCESS_EXCLUSIVE)


def _drop(node: Any, seen: Seen) -> Iterator[Draft]:
    rule = _DROPS.get(node.remove_type)
    if rule is None:
        return
    if nodes.cascades(node.behavior):
        reason = "CASCADE also drops every object that depends on those named, without naming them here"
        yield Draft(CASCADE, reason)
    for item in node.objects:
        name = nodes.object_names(item)
        # A table that is dropped and created again has lost its rows.
        again = name and name[-1] in seen.recreated and rule is not DROP_TABLE
        if not name or again or name[-1] in seen.undone:
            continue
        kind = nodes.KINDS[node.remove_type].lower()
        reason = f"a running program that names {kind} {'.'.join(map(quoted, name))} fails from the commit on"
        if node.remove_type not in _RELATIONS:
            yield Draft(rule, reason)
            continue
        table = seen.named(name)
        used = [f"{d.kind} {d.name}" for d in seen.dependents(table)]
        if used and node.remove_type != OBJECT.OBJECT_VIEW:
            reason += f"; {', '.join(dict.fromkeys(used))} uses it"
        if rule is DROP_TABLE:
            reason += ", and its rows are gone"
        yield Draft(rule, reason, (), table, Lock.ACCESS_EXCLUSIVE)
