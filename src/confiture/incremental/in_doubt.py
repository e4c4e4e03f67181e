"""Statements that run outside a transaction: where the catalog shows, after a crash, whether one is done. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from confiture import ddl
from confiture.ddl import Statement, Token


class Kind(StrEnum):
    """How to find out whether a statement is done."""

    BUILD_INDEX = "build index"
    DROP_INDEX = "drop index"
    REINDEX = "reindex"
    DETACH = "detach partition"
    CREATE = "create"
    DROP = "drop"
    #: Running it again has the same result.
    REPEATABLE = "repeatable"
    #: Nothing shows whether it is done.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where to look.

    :ivar name: the index, partition, table, schema or object as SQL, as the statement has it; empty if it has none.
    :ivar table: of an index to build, or the parent of a partition, as SQL; else empty.
    :ivar catalog: of an object to create or drop: ``database``, ``tablespace`` or ``subscription``; of a REINDEX:
        ``index``, ``table``, ``schema``, ``database`` or ``system``; else empty.
    """

    kind: Kind
    name: str = ""
    table: str = ""
    catalog: str = ""


_REPEATABLE = re.compile(
    r"(vacuum|analyze|cluster|checkpoint|reindex|refresh materialized view|alter system|discard|load)\b"
    r"|alter database .*set tablespace\b"
)
_OBJECT = re.compile(r"(create|drop) (database|tablespace|subscription)\b")
#: Words between the kind of an object and its name.
_NOISE = ("if", "not", "exists", "concurrently", "only")


def lookup(statement: Statement) -> Lookup:
    """Where the catalog shows whether a statement is done that ran outside a transaction."""
    words, text = ddl.outline(statement), statement.text
    tokens = list(ddl.tokens(text))
    found = re.match(r"create( unique)? index concurrently\b", words)
    if found:
        index, after = _name(text, tokens, _index_of(tokens, "index") + 1)
        table, _ = _name(text, tokens, after + 1)
        return Lookup(Kind.BUILD_INDEX, index, table)
    if re.match(r"drop index concurrently\b", words):
        return Lookup(Kind.DROP_INDEX, _name(text, tokens, 2)[0])
    found = re.match(r"alter table .* detach partition .*concurrently$", words)
    if found:
        parent, _ = _name(text, tokens, 2)
        child, _ = _name(text, tokens, _index_of(tokens, "partition") + 1)
        return Lookup(Kind.DETACH, child, parent)
    if re.match(r"reindex\b", words) and any(token.word == "concurrently" for token in tokens):
        return _reindex(text, tokens)
    found = _OBJECT.match(words)
    if found:
        return Lookup(Kind(found[1]), _name(text, tokens, 2)[0], catalog=found[2])
    return Lookup(Kind.REPEATABLE if _REPEATABLE.match(words) else Kind.UNKNOWN)


def _reindex(text: str, tokens: Sequence[Token]) -> Lookup:
    for kind in ("index", "table", "schema", "database", "system"):
        place = _index_of(tokens, kind)
        if place:
            return Lookup(Kind.REINDEX, _name(text, tokens, place + 1)[0], catalog=kind)
    return Lookup(Kind.REPEATABLE)


def _index_of(tokens: Sequence[Token], word: str) -> int:
    """The place of the first token with this word outside parentheses; 0 if there is none."""
    depth = 0
    for place, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token.word, 0)
        if depth == 0 and token.word == word:
            return place
    return 0


def _name(text: str, tokens: Sequence[Token], place: int) -> tuple[str, int]:
    """The name that begins at a token, as SQL, behind words such as IF EXISTS; and the place of the token after it."""
    while place < len(tokens) and tokens[place].word in _NOISE:
        place += 1
    end = place
    while end < len(tokens) and (end == place or tokens[end].word == "." or tokens[end - 1].word == "."):
        end += 1
    return ("", place) if place >= len(tokens) else (text[tokens[place].start : tokens[end - 1].end], end)


_SETTING = re.compile(r"(set|reset)\b(?! (local|transaction|constraints)\b)|select (pg_catalog \. )?set_config$")


def is_setting(statement: Statement) -> bool:
    """Whether a statement sets parameters of the session, which a new session lacks: it runs again in each."""
    return bool(_SETTING.match(ddl.outline(statement)))


#: The words that run until their own end, and wait for transactions instead of blocking them.
_WAITS = re.compile(r"((create( unique)?|drop) index|reindex( \w+)?) concurrently\b")


def waits_for_transactions(statement: Statement) -> bool:
    """Whether a statement waits until other transactions have ended, with a lock that blocks no reader or writer.

    Its wait needs no limit, and a limit would throw away the index that is being built.
    """
    lookup_ = lookup(statement)
    return bool(_WAITS.match(ddl.outline(statement))) or lookup_.kind is Kind.REINDEX
