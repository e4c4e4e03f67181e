"""Statements on rows: UPDATE and DELETE of a whole table, TRUNCATE and LOCK TABLE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes, sequences
from confiture.lint.locks import BLOCKS_WRITES, Lock, Work
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.lint.volatility import volatile

UPDATE = Rule("update-whole-table", Level.error, "UPDATE of every row in one statement", "sql-update.html")
DELETE = Rule("delete-whole-table", Level.error, "DELETE of every row in one statement", "sql-delete.html")
TRUNCATE = Rule("truncate", Level.warning, "TRUNCATE of an existing table", "sql-truncate.html")
TRUNCATE_CASCADE = Rule("truncate-cascade", Level.error, "TRUNCATE ... CASCADE", "sql-truncate.html")
LOCK = Rule("lock-table", Level.warning, "LOCK TABLE in a mode that blocks writes", "sql-lock.html")
RULES = (UPDATE, DELETE, TRUNCATE, TRUNCATE_CASCADE, LOCK)


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge the statements on rows."""
    node = statement.node
    if statement.kind == "update_stmt":
        yield from _update(node, seen)
    elif statement.kind == "delete_stmt" and not node.HasField("where_clause") and not node.using_clause:
        table = nodes.spelled(node.relation)
        reason = "one transaction locks every row until its end, and leaves a dead version of each"
        steps = (sequences.delete(table),)
        yield Draft(DELETE, reason, steps, seen.ref(node.relation), Lock.ROW_EXCLUSIVE, Work.rows)
    elif statement.kind == "truncate_stmt":
        yield from _truncate(node, seen)
    elif statement.kind == "lock_stmt" and node.mode >= BLOCKS_WRITES:
        mode = Lock(node.mode)
        for item in node.relations:
            reason = f"the transaction holds {mode} until its end, whatever it does in between"
            yield Draft(LOCK, reason, (), seen.ref(item.range_var), mode)


def _update(node: Any, seen: Seen) -> Iterator[Draft]:
    table = seen.ref(node.relation)
    if node.from_clause or not _whole(node, seen):
        return
    steps = _in_batches(node, seen)
    reason = "one transaction locks every row until its end, and leaves a dead version of each"
    yield Draft(UPDATE, reason, steps, table, Lock.ROW_EXCLUSIVE, Work.rows)


#: Volatile functions that never return NULL.
_NEVER_NULL = frozenset(("gen_random_uuid", "uuidv4", "uuidv7", "random", "clock_timestamp", "nextval"))
#: Types without an operator =.
_INCOMPARABLE = frozenset(("json", "xml", "point", "polygon"))


def _in_batches(node: Any, seen: Seen) -> tuple[Step, ...]:
    """The statement in batches; empty where no condition holds for unchanged rows only."""
    targets = {part.res_target.name: part.res_target.val for part in node.target_list}
    if any(value.WhichOneof("node") in ("multi_assign_ref", "set_to_default") for value in targets.values()):
        return ()
    table = seen.ref(node.relation)
    types = [seen.type(table, name) for name in targets]
    used = {name for value in targets.values() for ref in nodes.found(value, "ColumnRef") for name in nodes.fields(ref)}
    if used & set(targets) or any(type_ is not None and type_.name in _INCOMPARABLE for type_ in types):
        return ()
    functions = [name for name in (volatile(value, seen) for value in targets.values()) if name is not None]
    where = nodes.expression(node.where_clause) if node.HasField("where_clause") else ""
    changed = " OR ".join(
        f"{nodes.names([name])} IS DISTINCT FROM ({nodes.expression(value)})" for name, value in targets.items()
    )
    if functions:
        if not where or not _NEVER_NULL.issuperset(functions):
            return ()
        changed = ""
    condition = f"({where}) AND ({changed})" if where and changed else where or changed
    assigned = ", ".join(f"{nodes.names([name])} = {nodes.expression(value)}" for name, value in targets.items())
    return (sequences.backfill(nodes.spelled(node.relation), assigned, condition),)


def _whole(node: Any, seen: Seen) -> bool:
    """Whether the statement changes every row: without WHERE, or where a column that this file adds is NULL."""
    if not node.HasField("where_clause"):
        return True
    where = node.where_clause
    if where.WhichOneof("node") != "null_test" or where.null_test.nulltesttype != nodes.IS_NULL:
        return False
    return bool(set(nodes.column(where.null_test.arg)) & set(seen.known(seen.ref(node.relation)).added))


def _truncate(node: Any, seen: Seen) -> Iterator[Draft]:
    for item in node.relations:
        table = seen.ref(item.range_var)
        if nodes.cascades(node.behavior):
            reason = "CASCADE also empties every table that references this one, without naming them here"
            yield Draft(TRUNCATE_CASCADE, reason, (), table, Lock.ACCESS_EXCLUSIVE)
        else:
            reason = "every row is gone, and queries wait until the commit"
            yield Draft(TRUNCATE, reason, (), table, Lock.ACCESS_EXCLUSIVE)
