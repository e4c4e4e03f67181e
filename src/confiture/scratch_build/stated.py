"""The properties that the statements of the DDL determine by themselves, whatever the result shows. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from confiture import ddl
from confiture.build import DdlFile
from confiture.catalog_differences.model import COMMENT, GRANTS, VERSION
from confiture.ddl import Statement


def stated_properties(statements: Iterable[tuple[DdlFile, Statement]]) -> frozenset[str]:
    """Privileges, comments and versions of extensions, if a statement names any.

    A statement may have no effect in an empty database, such as a REVOKE of what the server no longer grants, and still
    state how the database has to be.
    """
    return frozenset(name for _, statement in statements if (name := _stated(statement)) is not None)


def _stated(statement: Statement) -> str | None:
    first, _, second = ddl.first_words(statement, 2).partition(" ")
    if first in ("grant", "revoke"):
        # Without ON, it grants membership in a role.
        return GRANTS if _has(statement, "on") else None
    if first == "comment":
        return COMMENT
    if (first, second) == ("alter", "default"):
        return GRANTS
    if second == "extension" and _has(statement, "version" if first == "create" else "update"):
        return VERSION
    return None


def _has(statement: Statement, word: str) -> bool:
    return any(token.word == word for token in ddl.tokens(statement.text))
