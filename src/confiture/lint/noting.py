"""Updates ``Seen`` with the effects of a statement. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confiture.lint import nodes
from confiture.lint.facts import Column, Domain
from confiture.lint.nodes import ALTER, CONSTRAINT, OBJECT
from confiture.lint.script import Script, Statement
from confiture.lint.seen import Constraint, KnownIndex, KnownTable, Seen
from confiture.types import TableRef

_CREATES: dict[str, Callable[[Any], str]] = {
    "create_stmt": lambda n: n.relation.relname,
    "create_table_as_stmt": lambda n: n.into.rel.relname,
    "view_stmt": lambda n: n.view.relname,
    "create_function_stmt": lambda n: nodes.strings(n.funcname)[-1],
    "index_stmt": lambda n: n.idxname,
    "create_domain_stmt": lambda n: nodes.strings(n.domainname)[-1],
    "create_enum_stmt": lambda n: nodes.strings(n.type_name)[-1],
    "composite_type_stmt": lambda n: n.typevar.relname,
    "create_seq_stmt": lambda n: n.sequence.relname,
    "create_schema_stmt": lambda n: n.schemaname,
    "create_trig_stmt": lambda n: n.trigname,
}


def begin(seen: Seen, script: Script) -> None:
    """Begin a file: locks, transactions and settings of the file before it are over."""
    seen.file += 1
    seen.in_transaction = script.transactional
    seen.by_confiture = script.by_confiture
    seen.lock_timeout = script.by_confiture
    seen.schema = seen.facts.schemas[0] if seen.facts is not None and seen.facts.schemas else "public"
    seen.costly = {}
    seen.recreated = frozenset(created(script))
    seen.undone = frozenset(created(script.undoes)) if script.undoes is not None else frozenset()
    policies = (s.node.table.relname for s in script.statements if s.kind == "create_policy_stmt")
    seen.secured = frozenset(policies)
    for known in seen.tables.values():
        known.added, known.renamed = {}, set()
    end_transaction(seen)


def created(script: Script) -> set[str]:
    """The names of the objects that a file creates, without schemas; a column as ``table.column``."""
    found = {_CREATES[s.kind](s.node) for s in script.statements if s.kind in _CREATES}
    for statement in script.statements:
        if statement.kind == "alter_table_stmt":
            for kind, _, definition in nodes.commands(statement.node):
                if kind == ALTER.AT_AddColumn:
                    found.add(f"{statement.node.relation.relname}.{definition.colname}")
        if statement.kind == "rename_stmt":
            node = statement.node
            of_column = node.rename_type == OBJECT.OBJECT_COLUMN
            found.add(f"{node.relation.relname}.{node.newname}" if of_column else node.newname)
    return found


def end_transaction(seen: Seen) -> None:
    """The locks of the transaction are released."""
    seen.transaction += 1
    seen.held = {}
    seen.labels = {}
    seen.created_types = set()


def note(seen: Seen, statement: Statement) -> None:
    """Update the state with the effects of a statement."""
    handler = _HANDLERS.get(statement.kind)
    if handler is not None:
        handler(seen, statement.node)
    if not seen.in_transaction:
        end_transaction(seen)


def _create_table(seen: Seen, node: Any) -> None:
    table = seen.ref(node.relation) if node.relation.schemaname else TableRef(seen.schema, node.relation.relname)
    if node.if_not_exists and (seen.fact(table) is not None or table in seen.tables):
        return
    known = KnownTable(seen.file, node.relation.relpersistence == "t", node.HasField("partspec"))
    seen.tables[table] = known
    if node.HasField("partbound"):
        seen.known(seen.ref(node.inh_relations[0].range_var)).partitions[table] = node.partbound.is_default
    if known.partitioned:
        first = node.partspec.part_params[0].partition_elem.name
        known.partition_key = first or None
    for part in node.table_elts:
        if part.WhichOneof("node") == "column_def":
            _add_column(known, part.column_def)
            _add_checks(seen, known, node.relation.relname, part.column_def)
        elif part.WhichOneof("node") == "constraint":
            _add_constraint(seen, known, part.constraint, validated=True)


def _create_table_as(seen: Seen, node: Any) -> None:
    relation = node.into.rel
    table = seen.ref(relation) if relation.schemaname else TableRef(seen.schema, relation.relname)
    seen.tables[table] = KnownTable(seen.file, relation.relpersistence == "t", False)


def _select_into(seen: Seen, node: Any) -> None:
    if node.HasField("into_clause"):
        relation = node.into_clause.rel
        table = TableRef(relation.schemaname or seen.schema, relation.relname)
        seen.tables[table] = KnownTable(seen.file, relation.relpersistence == "t", False)


def _add_column(known: KnownTable, column: Any) -> None:
    kinds = {part.constraint.contype for part in column.constraints}
    not_null = bool(kinds & {CONSTRAINT.CONSTR_NOTNULL, CONSTRAINT.CONSTR_PRIMARY, CONSTRAINT.CONSTR_IDENTITY})
    known.columns[column.colname] = Column(nodes.type_text(column.type_name), not_null)


def _add_checks(seen: Seen, known: KnownTable, table: str, column: Any) -> None:
    """Record the CHECK constraints of a new column, by the names that the server gives them."""
    for part in column.constraints:
        if part.constraint.contype == CONSTRAINT.CONSTR_CHECK:
            named = type(part.constraint)()
            named.CopyFrom(part.constraint)
            named.conname = named.conname or nodes.object_name(table, column.colname, "check")
            _add_constraint(seen, known, named, validated=True)


def _add_constraint(seen: Seen, known: KnownTable, constraint: Any, *, validated: bool | None = None) -> None:
    not_null, condition = frozenset[str](), ""
    if constraint.contype == CONSTRAINT.CONSTR_CHECK:
        not_null, condition = nodes.not_null_columns(constraint.raw_expr), nodes.expression(constraint.raw_expr)
    if constraint.contype == CONSTRAINT.CONSTR_NOTNULL:
        not_null = frozenset(nodes.strings(constraint.keys))
    valid = not constraint.skip_validation if validated is None else validated
    name = constraint.conname or f"(unnamed {len(known.constraints)})"
    known.constraints[name] = Constraint(not_null, condition, valid, seen.transaction)
    if constraint.contype == CONSTRAINT.CONSTR_PRIMARY:
        for column in nodes.strings(constraint.keys):
            _not_null(known, column, True)


def _not_null(known: KnownTable, column: str, value: bool) -> None:
    if column in known.columns:
        known.columns[column] = Column(known.columns[column].type, value)
    elif value:
        known.constraints[f"(not null {column})"] = Constraint(frozenset((column,)), "", True, -1)


def _alter_table(seen: Seen, node: Any) -> None:
    if node.objtype not in (OBJECT.OBJECT_TABLE, OBJECT.OBJECT_MATVIEW):
        return
    known = seen.known(seen.ref(node.relation))
    for part in node.cmds:
        command = part.alter_table_cmd
        definition = getattr(command, "def")
        if command.subtype == ALTER.AT_AddColumn:
            _add_column(known, definition.column_def)
            known.added[definition.column_def.colname] = seen.transaction
            _add_checks(seen, known, node.relation.relname, definition.column_def)
        elif command.subtype == ALTER.AT_AddConstraint:
            _add_constraint(seen, known, definition.constraint)
        elif command.subtype == ALTER.AT_ValidateConstraint:
            _validate(seen, known, command.name)
        elif command.subtype == ALTER.AT_AttachPartition:
            known.partitions[seen.ref(definition.partition_cmd.name)] = definition.partition_cmd.bound.is_default
        elif command.subtype == ALTER.AT_DetachPartition:
            known.partitions.pop(seen.ref(definition.partition_cmd.name), None)
        elif command.subtype == ALTER.AT_DropConstraint:
            known.constraints.pop(command.name, None)
        elif command.subtype == ALTER.AT_SetNotNull:
            _not_null(known, command.name, True)
        elif command.subtype == ALTER.AT_DropNotNull:
            _not_null(known, command.name, False)
            known.constraints.pop(f"(not null {command.name})", None)
        elif command.subtype == ALTER.AT_DropColumn:
            known.columns.pop(command.name, None)
            known.added.pop(command.name, None)
        elif command.subtype == ALTER.AT_AlterColumnType:
            column = known.columns.get(command.name)
            not_null = column is not None and column.not_null
            known.columns[command.name] = Column(nodes.type_text(definition.column_def.type_name), not_null)


def _validate(seen: Seen, known: KnownTable, name: str) -> None:
    constraint = known.constraints.get(name)
    if constraint is not None:
        constraint.validated = True
        return
    # A file that is not judged here has added it: its condition is in the database, or is not known.
    known.constraints[name] = Constraint(frozenset(), "", True, -1)


def _index(seen: Seen, node: Any) -> None:
    table = seen.ref(node.relation)
    columns = tuple(part.index_elem.name for part in node.index_params if part.index_elem.name)
    seen.indexes[TableRef(table.schema, node.idxname)] = KnownIndex(table, seen.file, columns)
    if node.unique and not node.HasField("where_clause"):
        seen.known(table).unique_index = True


def _rename(seen: Seen, node: Any) -> None:
    if node.rename_type == OBJECT.OBJECT_TABLE:
        old = seen.ref(node.relation)
        if old in seen.tables:
            seen.tables[TableRef(old.schema, node.newname)] = seen.tables.pop(old)
    elif node.rename_type == OBJECT.OBJECT_COLUMN:
        known = seen.known(seen.ref(node.relation))
        known.renamed.add(node.subname)
        if node.subname in known.columns:
            known.columns[node.newname] = known.columns.pop(node.subname)
        if node.subname in known.added:
            known.added[node.newname] = known.added.pop(node.subname)


def _set(seen: Seen, node: Any) -> None:
    if node.name == "lock_timeout":
        seen.lock_timeout = True
    if node.name == "search_path" and node.args and node.args[0].WhichOneof("node") == "a_const":
        seen.schema = node.args[0].a_const.sval.sval or seen.schema


def _transaction(seen: Seen, node: Any) -> None:
    name = nodes.transaction(node)
    if name in ("BEGIN", "START"):
        end_transaction(seen)
        seen.in_transaction = True
    elif name in ("COMMIT", "ROLLBACK", "PREPARE"):
        end_transaction(seen)
        seen.in_transaction = False


def _domain(seen: Seen, node: Any) -> None:
    name = nodes.strings(node.domainname)[-1]
    kinds = (CONSTRAINT.CONSTR_CHECK, CONSTRAINT.CONSTR_NOTNULL)
    constrained = any(part.constraint.contype in kinds for part in node.constraints)
    base = nodes.type_of(node.type_name).name
    seen.domains[name] = Domain(nodes.type_text(node.type_name), constrained or seen.constrained(base))


def _alter_domain(seen: Seen, node: Any) -> None:
    if node.subtype in ("C", "O"):
        name = nodes.strings(node.type_name)[-1]
        known = seen.domains.get(name) or (seen.facts.domains.get(name) if seen.facts is not None else None)
        seen.domains[name] = Domain(known.base if known is not None else name, True)


def _create_enum(seen: Seen, node: Any) -> None:
    seen.created_types.add(nodes.strings(node.type_name)[-1])


def _alter_enum(seen: Seen, node: Any) -> None:
    name = nodes.strings(node.type_name)[-1]
    if not node.old_val and name not in seen.created_types:
        seen.labels[node.new_val] = name


def _policy(seen: Seen, node: Any) -> None:
    seen.known(seen.ref(node.table)).policies += 1


_HANDLERS: dict[str, Callable[[Seen, Any], None]] = {
    "create_stmt": _create_table,
    "create_table_as_stmt": _create_table_as,
    "select_stmt": _select_into,
    "alter_table_stmt": _alter_table,
    "index_stmt": _index,
    "rename_stmt": _rename,
    "variable_set_stmt": _set,
    "transaction_stmt": _transaction,
    "create_domain_stmt": _domain,
    "alter_domain_stmt": _alter_domain,
    "create_enum_stmt": _create_enum,
    "alter_enum_stmt": _alter_enum,
    "create_policy_stmt": _policy,
}
