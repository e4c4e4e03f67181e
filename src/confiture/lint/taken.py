"""The locks that a statement takes on tables which exist before it. No I/O.

A test runs statements of all kinds on servers and compares ``pg_locks``. ALTER TABLE takes the strongest lock of its
parts: https://www.postgresql.org/docs/current/sql-altertable.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from confiture.lint import nodes
from confiture.lint.locks import Lock
from confiture.lint.nodes import ALTER, CONSTRAINT, OBJECT
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.types import TableRef

#: Statements on a partitioned table that lock its partitions in the same way.
_RECURSIVE = ("alter_table_stmt", "index_stmt", "drop_stmt", "truncate_stmt", "lock_stmt", "vacuum_stmt")
#: Parts of ALTER TABLE that concern the parent and one partition.
_OF_ONE = (ALTER.AT_AttachPartition, ALTER.AT_DetachPartition, ALTER.AT_DetachPartitionFinalize)
_Taken = Iterator[tuple[TableRef, Lock]]

#: Parts of ALTER TABLE that take less than ACCESS EXCLUSIVE.
_WEAKER = {
    ALTER.AT_SetStatistics: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_ClusterOn: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_DropCluster: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_SetOptions: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_ResetOptions: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_SetRelOptions: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_ResetRelOptions: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_ValidateConstraint: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_AttachPartition: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_DetachPartitionFinalize: Lock.SHARE_UPDATE_EXCLUSIVE,
    ALTER.AT_EnableTrig: Lock.SHARE_ROW_EXCLUSIVE,
    ALTER.AT_EnableAlwaysTrig: Lock.SHARE_ROW_EXCLUSIVE,
    ALTER.AT_EnableReplicaTrig: Lock.SHARE_ROW_EXCLUSIVE,
    ALTER.AT_DisableTrig: Lock.SHARE_ROW_EXCLUSIVE,
    ALTER.AT_EnableTrigAll: Lock.SHARE_ROW_EXCLUSIVE,
    ALTER.AT_DisableTrigAll: Lock.SHARE_ROW_EXCLUSIVE,
    ALTER.AT_EnableTrigUser: Lock.SHARE_ROW_EXCLUSIVE,
    ALTER.AT_DisableTrigUser: Lock.SHARE_ROW_EXCLUSIVE,
}
#: Storage parameters whose change takes ACCESS EXCLUSIVE.
_STRONG_OPTIONS = ("user_catalog_table", "security_barrier", "check_option", "security_invoker")


def locks(statement: Statement, seen: Seen) -> dict[TableRef, Lock]:
    """The strongest lock on each table, without tables that the statement creates."""
    handler = _HANDLERS.get(statement.kind)
    found: dict[TableRef, Lock] = {}
    for table, lock in handler(statement.node, seen) if handler is not None else ():
        below = seen.partitions(table) if _recurses(statement) else ()
        for each in (table, *below):
            found[each] = max(lock, found.get(each, lock))
    return found


def _recurses(statement: Statement) -> bool:
    """Whether a statement on a partitioned table locks its partitions; ``ONLY`` excludes them."""
    node = statement.node
    if statement.kind in ("alter_table_stmt", "index_stmt"):
        if not node.relation.inh:
            return False
    if statement.kind == "alter_table_stmt":
        return not any(kind in _OF_ONE for kind, _, _ in nodes.commands(node))
    return statement.kind in _RECURSIVE


def _alter_table(node: Any, seen: Seen) -> _Taken:
    if node.objtype not in (OBJECT.OBJECT_TABLE, OBJECT.OBJECT_MATVIEW, OBJECT.OBJECT_VIEW):
        return
    table = seen.ref(node.relation)
    for part in node.cmds:
        command = part.alter_table_cmd
        yield table, _of_part(command)
        definition = getattr(command, "def")
        if command.subtype in (ALTER.AT_AttachPartition, ALTER.AT_DetachPartition):
            partition = seen.ref(definition.partition_cmd.name)
            yield partition, Lock.ACCESS_EXCLUSIVE
            if command.subtype == ALTER.AT_AttachPartition:
                yield from _default_partition(table, seen)
        for constraint in _constraints(command):
            if constraint.contype == CONSTRAINT.CONSTR_FOREIGN:
                yield seen.ref(constraint.pktable), Lock.SHARE_ROW_EXCLUSIVE


def _default_partition(table: TableRef, seen: Seen) -> _Taken:
    for partition, default in seen.partitions(table).items():
        if default:
            yield partition, Lock.ACCESS_EXCLUSIVE


def _constraints(command: Any) -> Iterator[Any]:
    definition = getattr(command, "def")
    if command.subtype == ALTER.AT_AddConstraint:
        yield definition.constraint
    if command.subtype == ALTER.AT_AddColumn:
        yield from (part.constraint for part in definition.column_def.constraints)


def _of_part(command: Any) -> Lock:
    definition = getattr(command, "def")
    if command.subtype == ALTER.AT_AddConstraint and definition.constraint.contype == CONSTRAINT.CONSTR_FOREIGN:
        return Lock.SHARE_ROW_EXCLUSIVE
    if command.subtype == ALTER.AT_DetachPartition:
        concurrent = definition.partition_cmd.concurrent
        return Lock.SHARE_UPDATE_EXCLUSIVE if concurrent else Lock.ACCESS_EXCLUSIVE
    if command.subtype in (ALTER.AT_SetRelOptions, ALTER.AT_ResetRelOptions):
        strong = any(item.def_elem.defname in _STRONG_OPTIONS for item in definition.list.items)
        return Lock.ACCESS_EXCLUSIVE if strong else Lock.SHARE_UPDATE_EXCLUSIVE
    return _WEAKER.get(command.subtype, Lock.ACCESS_EXCLUSIVE)


def _create_table(node: Any, seen: Seen) -> _Taken:
    for parent in node.inh_relations:
        partition = node.HasField("partbound")
        yield seen.ref(parent.range_var), Lock.ACCESS_EXCLUSIVE if partition else Lock.SHARE_UPDATE_EXCLUSIVE
        if partition:
            yield from _default_partition(seen.ref(parent.range_var), seen)
    for part in node.table_elts:
        kind = part.WhichOneof("node")
        inner = [p.constraint for p in part.column_def.constraints] if kind == "column_def" else []
        for constraint in [part.constraint] if kind == "constraint" else inner:
            if constraint.contype == CONSTRAINT.CONSTR_FOREIGN and constraint.pktable.relname != node.relation.relname:
                yield seen.ref(constraint.pktable), Lock.SHARE_ROW_EXCLUSIVE


def _create_index(node: Any, seen: Seen) -> _Taken:
    yield seen.ref(node.relation), Lock.SHARE_UPDATE_EXCLUSIVE if node.concurrent else Lock.SHARE


def _drop(node: Any, seen: Seen) -> _Taken:
    for item in node.objects:
        if node.remove_type in (OBJECT.OBJECT_TABLE, OBJECT.OBJECT_MATVIEW, OBJECT.OBJECT_VIEW):
            table = seen.named(nodes.strings(item.list.items))
            yield table, Lock.ACCESS_EXCLUSIVE
            fact = seen.fact(table)
            if fact is not None and fact.partition_of is not None:
                yield fact.partition_of, Lock.ACCESS_EXCLUSIVE
        elif node.remove_type == OBJECT.OBJECT_INDEX:
            of_index = seen.table_of_index(seen.index(nodes.strings(item.list.items)))
            if of_index is not None:
                yield of_index, Lock.SHARE_UPDATE_EXCLUSIVE if node.concurrent else Lock.ACCESS_EXCLUSIVE
        elif node.remove_type in (OBJECT.OBJECT_TRIGGER, OBJECT.OBJECT_RULE, OBJECT.OBJECT_POLICY):
            yield seen.named(nodes.strings(item.list.items)[:-1]), Lock.ACCESS_EXCLUSIVE


def _rename(node: Any, seen: Seen) -> _Taken:
    strong = (OBJECT.OBJECT_TABLE, OBJECT.OBJECT_COLUMN, OBJECT.OBJECT_TABCONSTRAINT, OBJECT.OBJECT_VIEW)
    if node.rename_type in (*strong, OBJECT.OBJECT_MATVIEW, OBJECT.OBJECT_TRIGGER, OBJECT.OBJECT_POLICY):
        yield seen.ref(node.relation), Lock.ACCESS_EXCLUSIVE


def _set_schema(node: Any, seen: Seen) -> _Taken:
    if node.object_type in (OBJECT.OBJECT_TABLE, OBJECT.OBJECT_VIEW, OBJECT.OBJECT_MATVIEW):
        yield seen.ref(node.relation), Lock.ACCESS_EXCLUSIVE


def _reindex(node: Any, seen: Seen) -> _Taken:
    concurrently = "concurrently" in nodes.options(node.params)
    lock = Lock.SHARE_UPDATE_EXCLUSIVE if concurrently else Lock.SHARE
    if node.kind == nodes.REINDEX.REINDEX_OBJECT_TABLE:
        yield seen.ref(node.relation), lock
    if node.kind == nodes.REINDEX.REINDEX_OBJECT_INDEX:
        table = seen.table_of_index(seen.index(nodes.name_of(node.relation)))
        if table is not None:
            yield table, lock


def _vacuum(node: Any, seen: Seen) -> _Taken:
    full = node.is_vacuumcmd and "full" in nodes.options(node.options)
    for item in node.rels:
        relation = item.vacuum_relation.relation
        yield seen.ref(relation), Lock.ACCESS_EXCLUSIVE if full else Lock.SHARE_UPDATE_EXCLUSIVE


def _cluster(node: Any, seen: Seen) -> _Taken:
    if node.HasField("relation"):
        yield seen.ref(node.relation), Lock.ACCESS_EXCLUSIVE


def _refresh(node: Any, seen: Seen) -> _Taken:
    yield seen.ref(node.relation), Lock.EXCLUSIVE if node.concurrent else Lock.ACCESS_EXCLUSIVE


def _truncate(node: Any, seen: Seen) -> _Taken:
    for item in node.relations:
        yield seen.ref(item.range_var), Lock.ACCESS_EXCLUSIVE


def _lock(node: Any, seen: Seen) -> _Taken:
    for item in node.relations:
        yield seen.ref(item.range_var), Lock(node.mode)


def _write(node: Any, seen: Seen) -> _Taken:
    yield seen.ref(node.relation), Lock.ROW_EXCLUSIVE


def _trigger(node: Any, seen: Seen) -> _Taken:
    yield seen.ref(node.relation), Lock.SHARE_ROW_EXCLUSIVE


def _rule(node: Any, seen: Seen) -> _Taken:
    yield seen.ref(node.relation), Lock.ACCESS_EXCLUSIVE


def _policy(node: Any, seen: Seen) -> _Taken:
    yield seen.ref(node.table), Lock.ACCESS_EXCLUSIVE


def _view(node: Any, seen: Seen) -> _Taken:
    if node.replace:
        yield seen.ref(node.view), Lock.ACCESS_EXCLUSIVE


def _comment(node: Any, seen: Seen) -> _Taken:
    if node.objtype in (OBJECT.OBJECT_TABLE, OBJECT.OBJECT_VIEW, OBJECT.OBJECT_MATVIEW):
        yield seen.named(nodes.object_names(node.object)), Lock.SHARE_UPDATE_EXCLUSIVE
    elif node.objtype == OBJECT.OBJECT_COLUMN:
        yield seen.named(nodes.object_names(node.object)[:-1]), Lock.SHARE_UPDATE_EXCLUSIVE


def _domain(node: Any, seen: Seen) -> _Taken:
    valid = node.subtype == "C" and getattr(node, "def").constraint.skip_validation
    if node.subtype in ("C", "O", "V") and not valid:
        for table in seen.with_type(nodes.strings(node.type_name)[-1]):
            yield table, Lock.SHARE


def _publication(node: Any, seen: Seen) -> _Taken:
    for item in node.pubobjects:
        if item.publication_obj_spec.HasField("pubtable"):
            yield seen.ref(item.publication_obj_spec.pubtable.relation), Lock.SHARE_UPDATE_EXCLUSIVE


def _statistics(node: Any, seen: Seen) -> _Taken:
    for item in node.relations:
        yield seen.ref(item.range_var), Lock.SHARE_UPDATE_EXCLUSIVE


_HANDLERS: dict[str, Callable[[Any, Seen], _Taken]] = {
    "alter_table_stmt": _alter_table,
    "create_stmt": _create_table,
    "index_stmt": _create_index,
    "drop_stmt": _drop,
    "rename_stmt": _rename,
    "alter_object_schema_stmt": _set_schema,
    "reindex_stmt": _reindex,
    "vacuum_stmt": _vacuum,
    "cluster_stmt": _cluster,
    "refresh_mat_view_stmt": _refresh,
    "truncate_stmt": _truncate,
    "lock_stmt": _lock,
    "insert_stmt": _write,
    "update_stmt": _write,
    "delete_stmt": _write,
    "merge_stmt": _write,
    "create_trig_stmt": _trigger,
    "rule_stmt": _rule,
    "create_policy_stmt": _policy,
    "alter_policy_stmt": _policy,
    "create_stats_stmt": _statistics,
    "view_stmt": _view,
    "comment_stmt": _comment,
    "alter_domain_stmt": _domain,
    "create_publication_stmt": _publication,
    "alter_publication_stmt": _publication,
}
