"""Constraints of domains, whose check reads every table with a column of the domain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from confiture.lint import nodes
from confiture.lint.locks import Lock, Work
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.nodes import CONSTRAINT
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.types import TableRef, quoted

_PAGE = "sql-alterdomain.html"
DOMAIN = Rule("domain-constraint", Level.error, "a constraint of a domain without NOT VALID", _PAGE)
VALIDATE = Rule("validate-domain-constraint", Level.warning, "VALIDATE CONSTRAINT of a domain", _PAGE)
RULES = (DOMAIN, VALIDATE)
_QUIET = "at a quiet time: it blocks writes to every table with a column of the domain"


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge the constraints that ALTER DOMAIN adds or validates."""
    if statement.kind != "alter_domain_stmt":
        return
    node = statement.node
    rule, steps, offset = DOMAIN, _steps(node), 0
    if node.subtype == "V":
        rule, steps = VALIDATE, ()
    elif node.subtype == "C":
        constraint = getattr(node, "def").constraint
        if constraint.skip_validation:
            return
        offset = constraint.location
    elif node.subtype != "O":
        return
    name = nodes.strings(node.type_name)[-1]
    if name in seen.domains and name in seen.recreated and not seen.with_type(name):
        return  # this file has created it, and no table uses it
    tables: list[TableRef | None] = [*seen.with_type(name)]
    for table in tables or [None]:
        of = table.name if table is not None else "every table with a column of the domain"
        reason = f"the server reads every row of {of} to check it"
        yield Draft(rule, reason, steps, table, Lock.SHARE, Work.scan, offset)


def _steps(node: Any) -> tuple[Step, ...]:
    name = ".".join(map(quoted, nodes.strings(node.type_name)))
    own = nodes.strings(node.type_name)[-1]
    called, condition = quoted(nodes.object_name(own, "not_null")), "VALUE IS NOT NULL"
    if node.subtype == "C":
        constraint = getattr(node, "def").constraint
        if constraint.contype == CONSTRAINT.CONSTR_CHECK:
            condition = nodes.expression(constraint.raw_expr)
            called = quoted(constraint.conname or nodes.object_name(own, "check"))
    return (
        Step(f"ALTER DOMAIN {name} ADD CONSTRAINT {called} CHECK ({condition}) NOT VALID;"),
        Step(f"ALTER DOMAIN {name} VALIDATE CONSTRAINT {called};", before=_QUIET),
    )
