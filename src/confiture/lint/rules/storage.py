"""Statements that store a table again: VACUUM FULL, CLUSTER, SET LOGGED, SET TABLESPACE, REFRESH, and the like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes
from confiture.lint.locks import Lock, Work
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import ALTER, OBJECT
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.types import TableRef

VACUUM_FULL = Rule("vacuum-full", Level.error, "VACUUM FULL", "sql-vacuum.html")
CLUSTER = Rule("cluster", Level.error, "CLUSTER", "sql-cluster.html")
LOGGED = Rule(
    "set-logged",
    Level.error,
    "SET LOGGED and SET UNLOGGED",
    "sql-altertable.html#SQL-ALTERTABLE-DESC-SET-LOGGED-UNLOGGED",
)
TABLESPACE = Rule(
    "set-tablespace", Level.error, "SET TABLESPACE", "sql-altertable.html#SQL-ALTERTABLE-DESC-SET-TABLESPACE"
)
METHOD = Rule(
    "set-access-method", Level.error, "SET ACCESS METHOD", "sql-altertable.html#SQL-ALTERTABLE-DESC-SET-ACCESS-METHOD"
)
REFRESH = Rule(
    "refresh-without-concurrently",
    Level.error,
    "REFRESH MATERIALIZED VIEW without CONCURRENTLY",
    "sql-refreshmaterializedview.html",
)
RULES = (VACUUM_FULL, CLUSTER, LOGGED, TABLESPACE, METHOD, REFRESH)
_PARTS = {
    ALTER.AT_SetLogged: (LOGGED, "the whole table is written again, and to the write-ahead log"),
    ALTER.AT_SetUnLogged: (LOGGED, "the whole table is written again, and a crash empties it from then on"),
    ALTER.AT_SetTableSpace: (TABLESPACE, "the files of the table are copied to the other tablespace"),
    ALTER.AT_SetAccessMethod: (METHOD, "the whole table is written again by the other access method"),
}


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge the statements that store a table again."""
    node = statement.node
    if statement.kind == "vacuum_stmt" and node.is_vacuumcmd and "full" in nodes.options(node.options):
        tables = [item.vacuum_relation.relation for item in node.rels]
        yield from _vacuum(tables, seen)
    elif statement.kind == "cluster_stmt":
        table = seen.ref(node.relation) if node.HasField("relation") else None
        yield Draft(CLUSTER, "the whole table is written again in the order of an index", (), table, *_REWRITE)
    elif statement.kind == "refresh_mat_view_stmt" and not node.concurrent and not node.skip_data:
        yield from _refresh(node, seen)
    elif statement.kind == "alter_table_move_all_stmt":
        yield Draft(
            TABLESPACE, "the files of every table are copied, each under its lock until the commit", (), None, *_REWRITE
        )
    elif statement.kind == "alter_table_stmt":
        yield from _parts(node, seen)


_REWRITE = (Lock.ACCESS_EXCLUSIVE, Work.rewrite)


def _vacuum(tables: list[Any], seen: Seen) -> Iterator[Draft]:
    reason = "the whole table is written again; plain VACUUM frees the space for new rows, and blocks nothing"
    if not tables:
        yield Draft(VACUUM_FULL, reason, (Step("VACUUM;", transactional=False),), None, *_REWRITE)
    for relation in tables:
        steps = (Step(f"VACUUM {nodes.spelled(relation)};", transactional=False),)
        yield Draft(VACUUM_FULL, reason, steps, seen.ref(relation), *_REWRITE)


def _refresh(node: Any, seen: Seen) -> Iterator[Draft]:
    view = seen.ref(node.relation)
    spelled = nodes.spelled(node.relation)
    fact = seen.fact(view)
    unique = seen.known(view).unique_index or (fact is not None and fact.unique_index)
    doubt = "" if unique else ", and CONCURRENTLY needs a unique index without a condition on columns of the view"
    steps = (Step(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {spelled};"),)
    reason = f"reads of {spelled} wait until its query has ended{doubt}"
    yield Draft(REFRESH, reason, steps, view, *_REWRITE)


def _parts(node: Any, seen: Seen) -> Iterator[Draft]:
    for kind, _, _ in nodes.commands(node):
        if kind not in _PARTS:
            continue
        rule, reason = _PARTS[kind]
        table: TableRef | None = seen.ref(node.relation)
        if node.objtype == OBJECT.OBJECT_INDEX:
            table = seen.table_of_index(seen.index(nodes.name_of(node.relation)))
            reason = "the files of the index are copied, and queries that could use it wait"
            yield Draft(rule, reason, (), None, *_REWRITE)
            continue
        yield Draft(rule, reason, (), table, *_REWRITE)
