"""Faults of a file itself: its syntax, and the comments that begin with ``-- confiture:``."""

from __future__ import annotations

from confiture.lint.model import Level, Rule

SYNTAX = Rule("syntax-error", Level.error, "a statement that the parser of PostgreSQL 18 rejects", "sql-syntax.html")
DIRECTIVE = Rule(
    "unknown-directive", Level.warning, "a comment -- confiture: that has no effect", "sql-syntax-lexical.html"
)
UNKNOWN = Rule(
    "unknown-rule", Level.warning, "a comment that allows a rule of an unknown name", "sql-syntax-lexical.html"
)
UNUSED = Rule("unused-allow", Level.note, "a comment that allows a rule without a finding", "sql-syntax-lexical.html")
REFUSED = Rule("refused-by-up", Level.error, "another fault for which migrate up refuses the file", "sql-syntax.html")
RULES = (SYNTAX, REFUSED, DIRECTIVE, UNKNOWN, UNUSED)
