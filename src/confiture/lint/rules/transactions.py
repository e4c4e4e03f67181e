"""Transactions: statements that none may contain, slow ones under a lock, and settings of lock_timeout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes, taken
from confiture.lint.locks import BLOCKS_WRITES, Lock
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import ALTER, REINDEX, SUBSCRIPTION
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.types import TableRef

CONCURRENTLY = Rule(
    "concurrently-in-transaction", Level.error, "CONCURRENTLY inside a transaction", "sql-createindex.html"
)
OUTSIDE = Rule(
    "outside-transaction-only", Level.error, "a statement that cannot run inside a transaction", "sql-begin.html"
)
CONTROL = Rule(
    "transaction-control", Level.error, "BEGIN, COMMIT or ROLLBACK in a migration", "tutorial-transactions.html"
)
SLOW = Rule(
    "slow-statement-under-lock",
    Level.error,
    "a slow statement while the transaction holds a lock",
    "explicit-locking.html",
)
SEVERAL = Rule(
    "several-tables-in-transaction",
    Level.note,
    "ACCESS EXCLUSIVE on several tables in one transaction",
    "explicit-locking.html#LOCKING-DEADLOCKS",
)
COSTLY = Rule(
    "several-passes-over-table",
    Level.warning,
    "several scans or rewrites of one table in one file",
    "sql-altertable.html",
)
TIMEOUT = Rule(
    "lock-timeout-missing",
    Level.warning,
    "a strong lock without lock_timeout",
    "runtime-config-client.html#GUC-LOCK-TIMEOUT",
)
NO_TIMEOUT = Rule(
    "lock-timeout-disabled", Level.error, "SET lock_timeout to 0", "runtime-config-client.html#GUC-LOCK-TIMEOUT"
)
SYSTEM = Rule("alter-system", Level.warning, "ALTER SYSTEM in a migration", "sql-altersystem.html")
RULES = (CONCURRENTLY, OUTSIDE, CONTROL, SLOW, SEVERAL, COSTLY, TIMEOUT, NO_TIMEOUT, SYSTEM)

_OUTSIDE = {
    "createdb_stmt": "CREATE DATABASE",
    "dropdb_stmt": "DROP DATABASE",
    "create_table_space_stmt": "CREATE TABLESPACE",
    "drop_table_space_stmt": "DROP TABLESPACE",
    "alter_system_stmt": "ALTER SYSTEM",
}
_REFRESHES = (
    SUBSCRIPTION.ALTER_SUBSCRIPTION_REFRESH,
    SUBSCRIPTION.ALTER_SUBSCRIPTION_SET_PUBLICATION,
    SUBSCRIPTION.ALTER_SUBSCRIPTION_ADD_PUBLICATION,
    SUBSCRIPTION.ALTER_SUBSCRIPTION_DROP_PUBLICATION,
)
_CONTROLS = ("BEGIN", "START", "COMMIT", "ROLLBACK", "PREPARE")


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge a statement by the transaction that contains it."""
    node = statement.node
    if statement.kind == "transaction_stmt" and seen.by_confiture and nodes.transaction(node) in _CONTROLS:
        reason = "migrate up begins and ends the transaction, with the entry of the ledger in it"
        yield Draft(CONTROL, reason)
    if statement.kind == "alter_system_stmt":
        yield Draft(SYSTEM, "the setting is of the whole server, and no rollback or down migration restores it")
    if statement.kind == "variable_set_stmt" and node.name == "lock_timeout" and _zero(node):
        reason = "the statement may wait for a lock without end, while every later query of the table waits behind it"
        yield Draft(NO_TIMEOUT, reason, (Step("SET lock_timeout = '2s';"),))
    if seen.in_transaction:
        yield from _inside(statement, seen)
        yield from _several(statement, seen)
    yield from _without_timeout(statement, seen)


def _zero(node: Any) -> bool:
    if not node.args or node.args[0].WhichOneof("node") != "a_const":
        return False
    constant = node.args[0].a_const
    text = constant.sval.sval if constant.WhichOneof("val") == "sval" else str(constant.ival.ival)
    return text.rstrip("msinhd ") == "0"


def _inside(statement: Statement, seen: Seen) -> Iterator[Draft]:
    node = statement.node
    text = nodes.statement(statement.kind, node)
    steps = (Step(text, transactional=False),)
    if _concurrent(statement):
        reason = "the server refuses it: CONCURRENTLY commits and waits for other transactions in between"
        yield Draft(CONCURRENTLY, reason, steps)
        return
    name = _OUTSIDE.get(statement.kind) or _outside(statement.kind, node, seen)
    if name is not None:
        yield Draft(OUTSIDE, f"the server refuses {name} inside a transaction", steps)


def _outside(kind: str, node: Any, seen: Seen) -> str | None:
    """The name of a statement that only its options or its table exclude from a transaction; None for any other."""
    if kind == "vacuum_stmt" and node.is_vacuumcmd:
        return "VACUUM"
    if kind == "cluster_stmt" and not node.HasField("relation"):
        return "CLUSTER of every table"
    if kind == "cluster_stmt" and seen.partitioned(seen.ref(node.relation)):
        return "CLUSTER of a partitioned table"
    if kind == "create_subscription_stmt" and not {"connect", "create_slot"} & nodes.switched_off(node.options):
        return "CREATE SUBSCRIPTION with a replication slot"
    if (
        kind == "alter_subscription_stmt"
        and node.kind in _REFRESHES
        and "refresh" not in nodes.switched_off(node.options)
    ):
        return "ALTER SUBSCRIPTION with refresh"
    if kind != "reindex_stmt":
        return None
    if node.kind not in (REINDEX.REINDEX_OBJECT_TABLE, REINDEX.REINDEX_OBJECT_INDEX):
        return "REINDEX of a schema or a database"
    whole = node.kind == REINDEX.REINDEX_OBJECT_TABLE
    table = seen.ref(node.relation) if whole else seen.table_of_index(seen.index(nodes.name_of(node.relation)))
    return "REINDEX of a partitioned table" if table is not None and seen.partitioned(table) else None


def _concurrent(statement: Statement) -> bool:
    node = statement.node
    if statement.kind in ("index_stmt", "drop_stmt"):
        return bool(node.concurrent)
    if statement.kind == "reindex_stmt":
        return "concurrently" in nodes.options(node.params)
    if statement.kind == "alter_table_stmt":
        return any(kind == ALTER.AT_DetachPartition and d.concurrent for kind, _, d in nodes.commands(node))
    return False


def _several(statement: Statement, seen: Seen) -> Iterator[Draft]:
    for table, lock in taken.locks(statement, seen).items():
        others = [t for t, (held, _) in seen.held.items() if held is Lock.ACCESS_EXCLUSIVE and t != table]
        if lock is Lock.ACCESS_EXCLUSIVE and others and table not in seen.held and not seen.is_new(table):
            reason = (
                f"the transaction already blocks {others[0].name} while it waits for {table.name}, and a transaction"
                " that uses both in the other order ends in a deadlock"
            )
            yield Draft(SEVERAL, reason, (), table, lock)
            return


def under_locks(seen: Seen, own: frozenset[TableRef], described: str) -> Iterator[Draft]:
    """Judge a slow statement by the locks that its transaction holds on other tables, or on its own.

    :param own: the tables that the statement itself locks, which other rules judge.
    :param described: the statement, as the subject of a sentence.
    """
    for table, (lock, line) in seen.held.items():
        if lock >= BLOCKS_WRITES and table not in own:
            reason = f"the transaction holds {lock} on {table.name} since line {line} while {described}"
            yield Draft(SLOW, reason, (), table, lock)
            return


def _without_timeout(statement: Statement, seen: Seen) -> Iterator[Draft]:
    if seen.lock_timeout:
        return
    for table, lock in taken.locks(statement, seen).items():
        if lock >= BLOCKS_WRITES and not seen.is_new(table):
            reason = "while the statement waits for its lock, every later query of the table waits behind it"
            yield Draft(TIMEOUT, reason, (Step("SET lock_timeout = '2s';"),), table, lock)
            return
