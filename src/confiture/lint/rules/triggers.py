"""Triggers, rules and row-level security."""

from __future__ import annotations

from collections.abc import Iterator

from confiture.lint import nodes
from confiture.lint.locks import Lock
from confiture.lint.model import Draft, Level, Rule
from confiture.lint.nodes import ALTER
from confiture.lint.script import Statement
from confiture.lint.seen import Seen

CREATE = Rule("create-trigger", Level.note, "CREATE TRIGGER", "sql-createtrigger.html")
DISABLE = Rule(
    "disable-all-triggers",
    Level.warning,
    "DISABLE TRIGGER ALL",
    "sql-altertable.html#SQL-ALTERTABLE-DESC-DISABLE-ENABLE-TRIGGER",
)
SECURITY = Rule(
    "row-level-security-without-policy",
    Level.warning,
    "ENABLE ROW LEVEL SECURITY without a policy",
    "ddl-rowsecurity.html",
)
RULE = Rule("create-rule", Level.note, "CREATE RULE", "sql-createrule.html")
RULES = (CREATE, DISABLE, SECURITY, RULE)


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge triggers, rules and row-level security."""
    node = statement.node
    if statement.kind == "create_trig_stmt":
        reason = "writes wait for the brief lock, and every later write runs the function"
        yield Draft(CREATE, reason, (), seen.ref(node.relation), Lock.SHARE_ROW_EXCLUSIVE)
    elif statement.kind == "rule_stmt":
        reason = "queries wait for the brief lock, and the rule changes the meaning of later statements"
        yield Draft(RULE, reason, (), seen.ref(node.relation), Lock.ACCESS_EXCLUSIVE)
    if statement.kind != "alter_table_stmt":
        return
    table = seen.ref(node.relation)
    for kind, _, _ in nodes.commands(node):
        if kind == ALTER.AT_DisableTrigAll:
            reason = (
                "foreign keys of the table are not checked in between, and no later statement checks what was written"
            )
            yield Draft(DISABLE, reason, (), table, Lock.SHARE_ROW_EXCLUSIVE)
        elif kind == ALTER.AT_EnableRowSecurity and not _policies(statement, seen):
            reason = "without a policy, every role but the owner sees no row from the commit on"
            yield Draft(SECURITY, reason, (), table, Lock.ACCESS_EXCLUSIVE)


def _policies(statement: Statement, seen: Seen) -> bool:
    table = seen.ref(statement.node.relation)
    fact = seen.fact(table)
    return bool(seen.known(table).policies or (fact is not None and fact.policies) or table.name in seen.secured)
