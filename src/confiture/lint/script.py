"""A file of migrations as parsed statements, with their positions and the rules that comments allow. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import postgast

from confiture import ddl
from confiture.errors import Fault, FaultyInput

#: The first line of a migration whose statements run outside of a transaction.
NO_TRANSACTION = re.compile(r"--\s*confiture:\s*no-transaction$")
_ALLOW = re.compile(r"\s*--\s*confiture:\s*allow\s+(.+?)\s*$")
_COMMENT = re.compile(r"\s*--")


@dataclass(frozen=True)
class Statement:
    """A parsed statement.

    :ivar kind: the node's name in the parse tree, such as ``alter_table_stmt``.
    :ivar node: the message of that name, which the parser defines.
    :ivar source: the text, with its position in the file.
    :ivar allowed: the rules that a comment before the statement allows, each with the line of the comment.
    """

    kind: str
    node: Any
    source: ddl.Statement
    allowed: dict[str, int] = field(default_factory=dict)

    def place(self, offset: int) -> tuple[int, int]:
        """The line and column of a byte of the statement, both from 1."""
        before = self.source.text.encode()[:offset].decode(errors="replace")
        return self.source.place(len(before) + 1)


@dataclass(frozen=True)
class Script:
    """A file.

    :ivar file: as it was named, for findings.
    :ivar text: the whole file.
    :ivar transactional: whether one transaction contains all statements.
    :ivar by_confiture: whether ``migrate up`` runs the file, which sets ``lock_timeout``.
    :ivar undoes: the script that this one undoes, whose objects it may drop.
    """

    file: str
    text: str
    statements: tuple[Statement, ...]
    faults: tuple[Fault, ...]
    transactional: bool
    by_confiture: bool
    undoes: Script | None = None


def read(file: str, text: str, *, by_confiture: bool = True, undoes: Script | None = None) -> Script:
    """Parse a file. Each statement is parsed for itself, so that the others are judged after a syntax error."""
    faults: list[Fault] = []
    try:
        found = ddl.split(text, file)
    except FaultyInput as error:
        return Script(file, text, (), error.faults, True, by_confiture, undoes)
    statements = tuple(_parsed(file, text, found, faults))
    first, _, _ = text.removeprefix("\ufeff").partition("\n")
    transactional = NO_TRANSACTION.match(first.strip()) is None
    return Script(file, text, statements, tuple(faults), transactional, by_confiture, undoes)


def _parsed(file: str, text: str, found: Iterable[ddl.Statement], faults: list[Fault]) -> Iterator[Statement]:
    lines = text.split("\n")
    for source in found:
        try:
            stmts = postgast.parse(source.text).stmts
        except postgast.PgQueryError as error:
            place = source.place(max(error.cursorpos, 1))
            faults.append(Fault(file, *place, error.message))
            continue
        for raw in stmts:
            kind = raw.stmt.WhichOneof("node")
            if kind is not None:
                yield Statement(kind, getattr(raw.stmt, kind), source, _allowed(lines, source.line))


def _allowed(lines: list[str], line: int) -> dict[str, int]:
    """The rules that the comments directly above a line allow, each with the line of its comment."""
    found: dict[str, int] = {}
    above = line - 1
    while above >= 1 and _COMMENT.match(lines[above - 1]):
        comment = _ALLOW.match(lines[above - 1])
        if comment is not None:
            found |= dict.fromkeys(re.split(r"[\s,]+", comment[1]), above)
        above -= 1
    return found
