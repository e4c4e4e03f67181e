"""Indexes: building, dropping and rebuilding them without CONCURRENTLY."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes
from confiture.lint.locks import Lock, Work
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import OBJECT, REINDEX
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.types import TableRef, quoted

CREATE = Rule(
    "create-index-without-concurrently",
    Level.error,
    "CREATE INDEX without CONCURRENTLY",
    "sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY",
)
DROP = Rule("drop-index-without-concurrently", Level.warning, "DROP INDEX without CONCURRENTLY", "sql-dropindex.html")
REBUILD = Rule(
    "reindex-without-concurrently",
    Level.error,
    "REINDEX without CONCURRENTLY",
    "sql-reindex.html#SQL-REINDEX-CONCURRENTLY",
)
RULES = (CREATE, DROP, REBUILD)


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge CREATE INDEX, DROP INDEX and REINDEX."""
    node = statement.node
    if statement.kind == "index_stmt" and not node.concurrent:
        yield from _create(node, seen)
    elif statement.kind == "drop_stmt" and node.remove_type == OBJECT.OBJECT_INDEX and not node.concurrent:
        yield from _drop(node, seen)
    elif statement.kind == "reindex_stmt" and "concurrently" not in nodes.options(node.params):
        yield from _reindex(node, seen)


def _create(node: Any, seen: Seen) -> Iterator[Draft]:
    table = seen.ref(node.relation)
    if seen.partitioned(table) and not node.relation.inh:
        return  # an index on the parent alone is empty
    copy = type(node)()
    copy.CopyFrom(node)
    copy.concurrent = True
    copy.access_method = "" if node.access_method == "btree" else node.access_method
    columns = [part.index_elem.name for part in node.index_params if part.index_elem.name]
    copy.idxname = node.idxname or nodes.object_name(node.relation.relname, *columns, "idx")
    if seen.partitioned(table):
        steps = _on_partitions(node, copy.idxname)
        reason = "the server builds the index on every partition in one transaction, and accepts no CONCURRENTLY here"
    else:
        steps = (Step(nodes.statement("index_stmt", copy), transactional=False),)
        reason = "writes wait until the index is built"
    yield Draft(CREATE, reason, steps, table, Lock.SHARE, Work.build)


def _on_partitions(node: Any, name: str) -> tuple[Step, ...]:
    """The index of the parent alone; the partitions, which only the user knows, follow in a comment."""
    alone = type(node)()
    alone.CopyFrom(node)
    alone.idxname = name
    alone.relation.inh = False
    text = nodes.statement("index_stmt", alone)
    return (
        Step(f"{text}\n-- then, for each partition: CREATE INDEX CONCURRENTLY, and ALTER INDEX ... ATTACH PARTITION"),
    )


def _drop(node: Any, seen: Seen) -> Iterator[Draft]:
    for item in node.objects:
        name = nodes.strings(item.list.items)
        index = seen.index(name)
        table = seen.table_of_index(index)
        if seen.index_is_new(index):
            continue
        spelled = ".".join(map(quoted, name))
        exists = "IF EXISTS " if node.missing_ok else ""
        steps: tuple[Step, ...] = (Step(f"DROP INDEX CONCURRENTLY {exists}{spelled};", transactional=False),)
        if table is not None and seen.partitioned(table):
            steps = ()
        reason = "the lock is on the table of the index; it is brief, but every query waits behind it while it waits"
        yield Draft(DROP, reason, steps, table, Lock.ACCESS_EXCLUSIVE)


def _reindex(node: Any, seen: Seen) -> Iterator[Draft]:
    copy = type(node)()
    copy.CopyFrom(node)
    copy.params.append(nodes.option("concurrently"))
    steps: tuple[Step, ...] = (Step(nodes.statement("reindex_stmt", copy), transactional=False),)
    table: TableRef | None = None
    if node.kind == REINDEX.REINDEX_OBJECT_TABLE:
        table = seen.ref(node.relation)
    elif node.kind == REINDEX.REINDEX_OBJECT_INDEX:
        table = seen.table_of_index(seen.index(nodes.name_of(node.relation)))
    if node.kind == REINDEX.REINDEX_OBJECT_SYSTEM:
        steps = ()
    reason = "writes wait until the indexes are rebuilt, and so do reads that use them"
    yield Draft(REBUILD, reason, steps, table, Lock.SHARE, Work.build)
