"""Reads names, types and expressions out of nodes of the parse tree. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import postgast
from postgast import pg_query_pb2 as pb

from confiture.types import quoted

#: The kinds of subcommands of ALTER TABLE, of constraints and of objects, by their names.
ALTER = pb.AlterTableType
CONSTRAINT = pb.ConstrType
OBJECT = pb.ObjectType
REINDEX = pb.ReindexObjectType
SUBSCRIPTION = pb.AlterSubscriptionType
IS_NULL = pb.IS_NULL

#: Names of types that the grammar replaces by those of pg_catalog, for types that come from elsewhere.
_SPELLINGS = {"int": "int4", "integer": "int4", "bigint": "int8", "smallint": "int2", "decimal": "numeric"}


@dataclass(frozen=True)
class Type:
    """A type by its name in the catalog.

    :ivar modifiers: such as a length, or precision and scale.
    :ivar array: whether it is an array of that type.
    """

    name: str
    modifiers: tuple[int, ...] = ()
    array: bool = False


def strings(nodes: Iterable[Any]) -> list[str]:
    """The texts of a list of String nodes."""
    return [node.string.sval for node in nodes if node.WhichOneof("node") == "string"]


def name_of(relation: Any) -> list[str]:
    """The name of a RangeVar, with its schema where it has one."""
    return [name for name in (relation.schemaname, relation.relname) if name]


def type_of(type_name: Any) -> Type:
    """A type as it is written in a statement."""
    names = strings(type_name.names)
    name = names[-1] if names else ""
    modifiers = tuple(mod.a_const.ival.ival for mod in type_name.typmods if mod.WhichOneof("node") == "a_const")
    return Type(_SPELLINGS.get(name, name), modifiers, bool(type_name.array_bounds))


def parsed_type(text: str) -> Type:
    """A type as ``format_type`` prints it."""
    target = postgast.parse(f"SELECT NULL::{text}").stmts[0].stmt.select_stmt.target_list[0]
    return type_of(target.res_target.val.type_cast.type_name)


def type_text(type_name: Any) -> str:
    """A type as SQL."""
    select = postgast.parse("SELECT NULL::int").stmts[0].stmt
    cast = select.select_stmt.target_list[0].res_target.val.type_cast
    cast.type_name.CopyFrom(type_name)
    return _deparsed(select).removeprefix("SELECT NULL::")


def expression(node: Any) -> str:
    """An expression as SQL."""
    select = postgast.parse("SELECT 1").stmts[0].stmt
    select.select_stmt.target_list[0].res_target.val.CopyFrom(node)
    return _deparsed(select).removeprefix("SELECT ")


def statement(kind: str, node: Any) -> str:
    """A statement as SQL, with its semicolon."""
    whole = pb.Node()
    getattr(whole, kind).CopyFrom(node)
    return _deparsed(whole) + ";"


def _deparsed(node: Any) -> str:
    return str(postgast.deparse(pb.ParseResult(version=180000, stmts=[pb.RawStmt(stmt=node)])))


def transaction(node: Any) -> str:
    """The command of a TransactionStmt, such as ``BEGIN`` or ``COMMIT``."""
    return str(pb.TransactionStmtKind.Name(node.kind)).removeprefix("TRANS_STMT_")


def names(columns: Iterable[str]) -> str:
    """Names of columns as SQL, separated by commas."""
    return ", ".join(map(quoted, columns))


def found(node: Any, kind: str) -> Iterator[Any]:
    """The nodes of a kind in a tree, such as ``FuncCall``, the tree's root included."""
    for _, inner in postgast.walk(node):
        if inner.DESCRIPTOR.name == kind:
            yield inner


def not_null_columns(node: Any) -> frozenset[str]:
    """The columns that a condition ``a IS NOT NULL AND ...`` forbids to be NULL."""
    kind = node.WhichOneof("node")
    if kind == "bool_expr" and node.bool_expr.boolop == pb.AND_EXPR:
        return frozenset().union(*map(not_null_columns, node.bool_expr.args))
    if kind == "null_test" and node.null_test.nulltesttype == pb.IS_NOT_NULL:
        return frozenset(column(node.null_test.arg))
    return frozenset()


def column(node: Any) -> tuple[str, ...]:
    """The column that an expression consists of, in a tuple of one; an empty tuple for another expression."""
    if node.WhichOneof("node") != "column_ref":
        return ()
    return tuple(strings(node.column_ref.fields)[-1:])


def columns(node: Any) -> set[str]:
    """The columns that an expression names."""
    return {strings(reference.fields)[-1] for reference in found(node, "ColumnRef") if strings(reference.fields)}


def fields(reference: Any) -> list[str]:
    """The parts of a ColumnRef, such as table and column."""
    return strings(reference.fields)


def condition(text: str) -> Any:
    """A condition as a node, such as the definition of a CHECK constraint that the server prints."""
    return postgast.parse(f"SELECT {text}").stmts[0].stmt.select_stmt.target_list[0].res_target.val


def options(elements: Iterable[Any]) -> dict[str, str]:
    """The options of a command by their names, such as those of VACUUM and REINDEX, each with its value as text."""
    return {name: value for name, value in _given(elements).items() if value.lower() not in _OFF}


def switched_off(elements: Iterable[Any]) -> set[str]:
    """The names of the options of a command that are given as false."""
    return {name for name, value in _given(elements).items() if value.lower() in _OFF}


_OFF = ("off", "false", "0")


def _given(elements: Iterable[Any]) -> dict[str, str]:
    chosen = {}
    for element in elements:
        option = element.def_elem
        kind = option.arg.WhichOneof("node") if option.HasField("arg") else None
        if kind is None:
            chosen[option.defname] = "true"
        else:
            value = getattr(option.arg, kind)
            value = value.names[-1].string if kind == "type_name" else value
            chosen[option.defname] = str(getattr(value, "sval", getattr(value, "ival", getattr(value, "boolval", ""))))
    return chosen


def spelled(relation: Any) -> str:
    """A RangeVar as its statement names it."""
    return ".".join(map(quoted, name_of(relation)))


#: The objects on which ALTER TABLE works; the parser uses the same node for composite types and sequences.
_ALTERED = (OBJECT.OBJECT_TABLE, OBJECT.OBJECT_MATVIEW, OBJECT.OBJECT_VIEW, OBJECT.OBJECT_INDEX)


def commands(node: Any) -> Iterator[tuple[int, Any, Any]]:
    """The parts of ALTER TABLE: the kind of each, the part, and its definition; none of ALTER TYPE, for example."""
    for part in node.cmds if node.objtype in _ALTERED else ():
        command = part.alter_table_cmd
        definition = getattr(command, "def")
        kind = definition.WhichOneof("node")
        yield command.subtype, command, getattr(definition, kind) if kind is not None else None


#: The bytes of a name that the server keeps.
NAME_BYTES = 63


def object_name(*parts: str) -> str:
    """A name for an object of a table, as the server makes them: ``table_column_key``."""
    return "_".join(parts).encode()[:NAME_BYTES].decode(errors="ignore")


def of_new_row(expression_node: Any) -> str:
    """An expression of a table's columns as SQL for a row trigger, with ``new.`` before each column."""
    copy = type(expression_node)()
    copy.CopyFrom(expression_node)
    for reference in found(copy, "ColumnRef"):
        fields = list(reference.fields)
        del reference.fields[:]
        reference.fields.append(pb.Node(string=pb.String(sval="new")))
        reference.fields.extend(fields[-1:])
    return expression(copy)


def string(text: str) -> Any:
    """A String node."""
    return pb.Node(string=pb.String(sval=text))


def cascades(behavior: int) -> bool:
    """Whether a statement says CASCADE."""
    return bool(behavior == pb.DROP_CASCADE)


def _altered(relation: Any, kind: int, definition: Any) -> str:
    part = pb.AlterTableCmd(subtype=kind, behavior=pb.DROP_RESTRICT)
    getattr(part, "def").CopyFrom(definition)
    node = pb.AlterTableStmt(relation=relation, cmds=[pb.Node(alter_table_cmd=part)], objtype=pb.OBJECT_TABLE)
    return statement("alter_table_stmt", node)


def added_constraint(relation: Any, constraint: Any) -> str:
    """ALTER TABLE ... ADD CONSTRAINT as SQL."""
    return _altered(relation, ALTER.AT_AddConstraint, pb.Node(constraint=constraint))


def added_column(relation: Any, column: Any) -> str:
    """ALTER TABLE ... ADD COLUMN as SQL."""
    return _altered(relation, ALTER.AT_AddColumn, pb.Node(column_def=column))


#: The kinds of objects as SQL names them.
KINDS = {
    number: name.removeprefix("OBJECT_").replace("MATVIEW", "MATERIALIZED VIEW").replace("_", " ")
    for name, number in OBJECT.items()
}


def option(name: str) -> Any:
    """An option of a command, without a value."""
    return pb.Node(def_elem=pb.DefElem(defname=name, defaction=pb.DEFELEM_UNSPEC))


def object_names(node: Any) -> list[str]:
    """The name of an object as DROP and RENAME have it: of a relation, function, type or schema."""
    kind = node.WhichOneof("node")
    if kind == "list":
        return strings(node.list.items)
    if kind == "object_with_args":
        return strings(node.object_with_args.objname)
    if kind == "type_name":
        return strings(node.type_name.names)
    return strings([node])


def attached(create: Any) -> str:
    """ALTER TABLE ... ATTACH PARTITION for CREATE TABLE ... PARTITION OF, as SQL."""
    command = pb.Node(partition_cmd=pb.PartitionCmd(name=create.relation, bound=create.partbound))
    return _altered(create.inh_relations[0].range_var, ALTER.AT_AttachPartition, command)
