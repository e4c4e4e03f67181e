"""Statements that change deferred objects are in one module."""

from __future__ import annotations

import re
from pathlib import Path

import confiture

STATEMENTS = re.compile(
    r"(ADD|DROP|VALIDATE|ALTER|RENAME) CONSTRAINT|(ENABLE|DISABLE)[A-Z ]* (TRIGGER|RULE)|ATTACH PARTITION"
    r"|DROP INDEX|ALTER PUBLICATION"
)


def test_statements_on_deferred_objects_are_in_one_module() -> None:
    folder = Path(confiture.__file__).parent / "schema_to_schema"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*.py") if STATEMENTS.search(p.read_text("utf-8"))}
    assert found == {"deferred_objects/statements.py"}
