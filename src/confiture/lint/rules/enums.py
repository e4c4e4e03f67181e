"""Values of enum types that are used before they are committed."""

from __future__ import annotations

from collections.abc import Iterator

from confiture.lint import nodes
from confiture.lint.model import Draft, Level, Rule, Step
from confiture.lint.script import Statement
from confiture.lint.seen import Seen

USED = Rule(
    "enum-value-in-same-transaction",
    Level.error,
    "a value of an enum type in the transaction that adds it",
    "sql-altertype.html#SQL-ALTERTYPE-NOTES",
)
RULES = (USED,)
#: Statements that mention a value without using it as one.
_MENTIONS = ("alter_enum_stmt", "comment_stmt", "variable_set_stmt")


def check(statement: Statement, seen: Seen) -> Iterator[Draft]:
    """Judge string constants that are new values of enum types."""
    if not seen.labels or statement.kind in _MENTIONS:
        return
    for constant in nodes.found(statement.node, "A_Const"):
        value = constant.sval.sval
        if value and value in seen.labels:
            reason = f"the server accepts {value!r} of type {seen.labels[value]} only after the commit that adds it"
            later = nodes.statement(statement.kind, statement.node)
            steps = (Step(later, before="a later file"),)
            yield Draft(USED, reason, steps, offset=constant.location)
            return
