"""Partitions: attaching, detaching and creating them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes
from confiture.lint.locks import Lock, Work
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import ALTER, OBJECT
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.types import TableRef, quoted

_ATTACH = "sql-altertable.html#SQL-ALTERTABLE-ATTACH-PARTITION"
ATTACH = Rule("attach-partition", Level.error, "ATTACH PARTITION without a CHECK constraint of its bounds", _ATTACH)
DEFAULT = Rule(
    "attach-beside-default-partition", Level.error, "a new partition beside a DEFAULT partition with rows", _ATTACH
)
DETACH = Rule(
    "detach-without-concurrently",
    Level.warning,
    "DETACH PARTITION without CONCURRENTLY",
    "sql-altertable.html#SQL-ALTERTABLE-DETACH-PARTITION",
)
CREATE = Rule(
    "create-partition",
    Level.warning,
    "CREATE TABLE ... PARTITION OF an existing table",
    "ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-MAINTENANCE",
)
RULES = (ATTACH, DEFAULT, DETACH, CREATE)


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge the statements on partitions."""
    node = statement.node
    if statement.kind == "create_stmt" and node.HasField("partbound"):
        yield from _create(node, seen)
    if statement.kind != "alter_table_stmt" or node.objtype != OBJECT.OBJECT_TABLE:
        return  # an index is attached without a scan
    for kind, _, definition in nodes.commands(node):
        if kind == ALTER.AT_AttachPartition:
            yield from _attach(node, definition, seen)
        elif kind == ALTER.AT_DetachPartition and not definition.concurrent:
            table, partition = nodes.spelled(node.relation), nodes.spelled(definition.name)
            steps = (Step(f"ALTER TABLE {table} DETACH PARTITION {partition} CONCURRENTLY;", transactional=False),)
            reason = f"queries of {table} and of {partition} wait for each other"
            yield Draft(DETACH, reason, steps, seen.ref(node.relation), Lock.ACCESS_EXCLUSIVE)


def _attach(node: Any, command: Any, seen: Seen) -> Iterator[Draft]:
    parent, partition = seen.ref(node.relation), seen.ref(command.name)
    yield from _beside_default(parent, seen)
    bound = command.bound
    # A DEFAULT partition is compared with the bounds of the others.
    if bound.is_default or not _proven(bound, seen.checks(partition)):
        name = quoted(nodes.object_name(partition.name, "attached_bounds"))
        table = nodes.spelled(command.name)
        condition = _condition(bound, seen.partition_key(parent))
        text = nodes.statement("alter_table_stmt", node)
        steps = (
            (
                Step(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID;"),
                Step(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};"),
                Step(f"{text}\nALTER TABLE {table} DROP CONSTRAINT {name};"),
            )
            if condition
            else ()
        )
        reason = f"the server reads every row of {table} to compare it with the bounds"
        yield Draft(ATTACH, reason, steps, partition, Lock.ACCESS_EXCLUSIVE, Work.scan)


def _beside_default(parent: TableRef, seen: Seen) -> Iterator[Draft]:
    for partition, default in seen.partitions(parent).items():
        if default:
            reason = f"the server reads every row of the DEFAULT partition {partition} to find those of the new one"
            yield Draft(DEFAULT, reason, (), partition, Lock.ACCESS_EXCLUSIVE, Work.scan)


def _proven(bound: Any, checks: tuple[str, ...]) -> bool:
    """Whether a validated CHECK constraint names each value of the bounds.

    The key of the parent is not known here, so that the constraint is recognized by its values.
    """
    values = [nodes.expression(v) for v in (*bound.lowerdatums, *bound.upperdatums, *bound.listdatums)]
    finite = [value for value in values if value not in ("minvalue", "maxvalue")]
    return bool(finite) and any(all(_names(check, value) for value in finite) for check in checks)


def _names(check: str, value: str) -> bool:
    return re.search(rf"(?<![\w.'])\(?{re.escape(value)}(?![\w.'])", check) is not None


def _condition(bound: Any, key: str | None) -> str:
    """The bounds as a condition on the key; empty where the key, or such a condition, is not known."""
    if key is None:
        return ""
    key = quoted(key)
    low, high = ([nodes.expression(v) for v in side] for side in (bound.lowerdatums, bound.upperdatums))
    if bound.listdatums:
        listed = ", ".join(nodes.expression(value) for value in bound.listdatums)
        return f"{key} IS NOT NULL AND {key} IN ({listed})"
    if len(low) != 1 or len(high) != 1:
        return ""
    ends = [f"{key} >= {low[0]}"] if low[0] != "minvalue" else []
    ends += [f"{key} < {high[0]}"] if high[0] != "maxvalue" else []
    return " AND ".join([f"{key} IS NOT NULL", *ends])


def _create(node: Any, seen: Seen) -> Iterator[Draft]:
    parent = seen.ref(node.inh_relations[0].range_var)
    if seen.is_new(parent):
        return
    yield from _beside_default(parent, seen)
    of, table = nodes.spelled(node.inh_relations[0].range_var), nodes.spelled(node.relation)
    attach = nodes.attached(node)
    steps: tuple[Step, ...] = (Step(f"CREATE TABLE {table} (LIKE {of} INCLUDING ALL);\n{attach}"),)
    if node.table_elts or node.HasField("partspec"):
        steps = ()
    reason = f"queries of {of} wait; ATTACH PARTITION of a table created before takes SHARE UPDATE EXCLUSIVE there"
    yield Draft(CREATE, reason, steps, parent, Lock.ACCESS_EXCLUSIVE)
