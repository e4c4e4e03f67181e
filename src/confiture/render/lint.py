"""The findings of ``migrate lint`` and the list of its rules. No I/O."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from confiture.render.documents import SCHEMA_VERSION, LintDocument, LintRule
from confiture.types import abbreviated, byte_size, counted

if TYPE_CHECKING:
    from confiture.lint.model import Finding, Rule

_COLUMNS = 80
_LEVELS = ("error", "warning", "note")


def as_json(files: Sequence[str], found: Sequence[Finding], database: str | None) -> LintDocument:
    """The document of the findings."""
    counts = Counter(str(finding.level) for finding in found)
    return {
        "schema_version": SCHEMA_VERSION,
        "database": database,
        "files": list(files),
        "errors": counts["error"],
        "warnings": counts["warning"],
        "notes": counts["note"],
        "findings": list(found),
    }


def rules_as_json(rules: Sequence[Rule]) -> LintDocument:
    """The document of the rules, without findings."""
    listed: list[LintRule] = [
        {"name": rule.name, "level": rule.level, "summary": rule.summary, "page": rule.url} for rule in rules
    ]
    return {**as_json((), (), None), "rules": listed}


def text(files: Sequence[str], statements: int, found: Sequence[Finding], database: str | None) -> str:
    """The findings, each with the statements to write instead, and their number."""
    blocks = ["\n".join(_block(finding)) for finding in found]
    return "\n\n".join([*blocks, _summary(files, statements, found, database)])


def _summary(files: Sequence[str], statements: int, found: Sequence[Finding], database: str | None) -> str:
    counts = Counter(str(finding.level) for finding in found)
    listed = [counted(counts[level], level) for level in _LEVELS if counts[level]]
    if not files:
        return f"no migration is pending on {database}"
    judged = f"{counted(len(files), 'file')}, {counted(statements, 'statement')}"
    weighed = f", weighed by the tables of {database}" if database is not None else ""
    return f"{judged}{weighed}: {', '.join(listed) or 'no finding'}"


def _block(finding: Finding) -> list[str]:
    lines = [f"{finding.file}:{finding.line}:{finding.column}: {finding.level}: {finding.rule}"]
    if finding.statement:
        lines += _wrapped(finding.statement)[:2]
    if finding.lock is not None:
        lines += _wrapped(_lock(finding))
    lines += _wrapped(f"Reason: {finding.reason}.")
    if finding.weighed is not None:
        lines += _wrapped(f"{finding.weighed[0].upper()}{finding.weighed[1:]}.")
    if finding.instead is not None:
        lines += ["  Instead:", *(f"    {line}" for line in finding.instead.splitlines())]
    return [*lines, f"  {finding.page}"]


def _lock(finding: Finding) -> str:
    """The lock and the work."""
    on = f" on {finding.table.removeprefix('public.')}" if finding.table is not None else ""
    size = ""
    if finding.size is not None:
        rows = f", about {abbreviated(finding.size.rows)} rows" if finding.size.rows is not None else ""
        size = f" ({byte_size(finding.size.size_bytes)}{rows})"
    return f"{finding.lock}{on}{size}: the lock {finding.blocks}, and the statement {finding.work.sentence}."


def _wrapped(said: str) -> list[str]:
    return textwrap.wrap(
        said, _COLUMNS, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def rules_text(rules: Sequence[Rule]) -> str:
    """Each rule with its default level, for a terminal."""
    width = max(len(rule.name) for rule in rules)
    return "\n".join(f"{rule.name:<{width}}  {rule.level:<7}  {rule.summary}" for rule in rules)
