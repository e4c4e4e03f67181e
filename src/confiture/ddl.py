r"""Split SQL text into statements by the lexical rules of PostgreSQL. No I/O.

This module exists because pglast is GPL, and sqlparse splits BEGIN ATOMIC bodies and dollar-quoted strings.
Strings are read as with ``standard_conforming_strings = on``: a backslash is an escape only in E''.
https://www.postgresql.org/docs/current/sql-syntax-lexical.html
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from confiture.errors import Fault, FaultyInput

# All quantifiers are possessive: the lexer never backtracks, so its run time is linear.
# An escape string continues after a newline as an escape string; a plain string may be split there.
_TOKEN = re.compile(
    r"""
      (?P<space> (?: [ \t\n\r\f\v]++ | --[^\n\r]*+ )++ )
    | (?P<restrict> ^\\(?:un)?restrict[ ][^\n]*+ )
    | (?P<comment> /\* )
    | (?P<string> '(?: [^']++ | '' )*+'
        | [eE]'(?> (?: [^'\\]++ | \\. | ''
            | ' (?: [ \t\f\v]++ | --[^\n\r]*+ )*+ [\n\r] (?: [ \t\n\r\f\v]++ | --[^\n\r]*+[\n\r] )*+ '
          )* )' )
    | (?P<quoted> "(?: [^"]++ | "" )*+" )
    | (?P<open> [eE]?' | " )
    | (?P<dollar> \$ (?: [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*+ )?+ \$ )
    | (?P<word> [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*+ )
    | (?P<number> [0-9][0-9A-Za-z_.]*+ )
    | (?P<meta> \\[^\n\r]*+ )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
#: The kinds of tokens that have a word, that are skipped, and that may end after the match or not at all.
_WORDS = frozenset(("word", "sign"))
_SKIPPED = frozenset(("space", "comment", "restrict"))
_LONGER = frozenset(("comment", "dollar", "open", "meta"))
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_COPY_DATA_END = re.compile(r"^\\\.\r?(?:\n|\Z)", re.MULTILINE)
_REINDEX_OPTIONS = re.compile(r"reindex \((?: [^()]+,)? ?concurrently( true| on| 1)? [,)]")
_ROUTINE = re.compile(r"create (or replace )?(function|procedure)\b")

#: Characters of a statement that are shown: enough to recognize it.
SHOWN_CHARACTERS = 200

_ONE_TRANSACTION = "delete it: the build already is one transaction"
_NOT_CONCURRENTLY = "remove CONCURRENTLY: no other session uses the database that is being built"
_AFTERWARDS = "remove it from the DDL and run it manually after the build"

#: Statements that end a transaction or begin one, by their first words, each with the fix.
#: https://www.postgresql.org/docs/current/sql-commands.html
_OF_TRANSACTIONS = (
    (r"(begin|start transaction|commit|end|abort|prepare transaction)\b", _ONE_TRANSACTION),
    (r"rollback\b(?!( work| transaction)? to\b)", _ONE_TRANSACTION),
)
#: Statements that the server refuses in a transaction.
_ALONE = (
    (r"(create( unique)?|drop) index concurrently\b", _NOT_CONCURRENTLY),
    (r"reindex( \w+)? concurrently\b", _NOT_CONCURRENTLY),
    (r"alter table .* detach partition .*concurrently$", _NOT_CONCURRENTLY),
    (r"reindex (database|system|schema)\b", _AFTERWARDS),
    (r"vacuum\b|cluster$|discard all\b", _AFTERWARDS),
    (r"(create|drop) (database|tablespace)\b", _AFTERWARDS),
    (r"alter database .*set tablespace\b", _AFTERWARDS),
    (r"alter system\b", _AFTERWARDS),
)
_TO_CLIENT = ((r"copy\b.* to (stdout|stdin)\b", "delete it: its output is not read"),)
_REFUSED = tuple((re.compile(pattern), fix) for pattern, fix in (*_OF_TRANSACTIONS, *_ALONE, *_TO_CLIENT))
_NEVER = re.compile("|".join(pattern for pattern, _ in (*_OF_TRANSACTIONS, *_TO_CLIENT)))
_OUTSIDE = re.compile("|".join(pattern for pattern, _ in _ALONE))
#: The first two words of the statements above: the rest of the others need not be read.
_MAYBE_REFUSED = re.compile(
    r"(begin|start|commit|end|abort|prepare|rollback|reindex|vacuum|cluster|discard|copy)\b"
    r"|create (index|unique|database|tablespace)\b|drop (index|database|tablespace)\b|alter (table|database|system)\b"
)


class Token(NamedTuple):
    """A token, by its offsets in the text (0-based, half-open).

    ``word`` is the text of an unquoted word (ASCII letters in lower case) or of a sign, and empty for other tokens.
    """

    start: int
    end: int
    word: str


@dataclass(frozen=True)
class Statement:
    """A statement without its semicolon, with its position in the file (line and column are 1-based)."""

    text: str
    line: int
    column: int = 1

    def place(self, position: int) -> tuple[int, int]:
        """The line and column in the file of ``position``, a 1-based offset in ``text`` in characters."""
        before = self.text[: position - 1]
        newlines = before.count("\n")
        column = len(before) - before.rfind("\n") if newlines else self.column + len(before)
        return self.line + newlines, column

    @property
    def shown(self) -> str:
        """The statement on one line, truncated to ``SHOWN_CHARACTERS``."""
        line = " ".join(self.text[: 4 * SHOWN_CHARACTERS].split())
        return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


class _Unreadable(Exception):
    """The text at ``at`` is no statement; the next one may start at ``resume``."""

    def __init__(self, at: int, resume: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.at = at
        self.resume = resume
        self.message = message
        self.hint = hint


def split(text: str, file: str = "(DDL)") -> tuple[Statement, ...]:
    """The statements of ``text`` in order, without empty ones.

    :param file: the name of the text in faults.
    :raises FaultyInput: with all faults: psql commands, COPY FROM stdin, unterminated strings and comments.
        ``\\restrict`` and ``\\unrestrict``, which pg_dump writes for psql, are skipped.
    """
    lines = _line_starts(text)
    statements: list[Statement] = []
    faults: list[Fault] = []
    position = 0
    while position < len(text):
        try:
            tokens, position = _read_statement(text, position)
        except _Unreadable as error:
            faults.append(Fault(file, *_place(lines, error.at), error.message, error.hint))
            position = error.resume
            continue
        if tokens:
            start, end = tokens[0].start, tokens[-1].end
            statements.append(Statement(text[start:end], *_place(lines, start)))
    if faults:
        raise FaultyInput(f"{file} cannot be read as SQL", faults, fix="correct the file")
    return tuple(statements)


def terminated(text: str) -> bool:
    """Whether the last statement of ``text`` ends with a semicolon; ``text`` is one that ``split`` accepts."""
    last = deque(tokens(text), maxlen=1)
    return not last or last[0].word == ";"


def first_words(statement: Statement, count: int) -> str:
    """The first words of a statement, separated by blanks; a quoted name or a literal is an empty word."""
    return " ".join(token.word for token in islice(tokens(statement.text), count))


def refusal(statement: Statement) -> tuple[str, str] | None:
    """The name of a statement that cannot be part of one transaction, and the fix; None if it can."""
    if not _MAYBE_REFUSED.match(first_words(statement, 2)):
        return None
    head = outline(statement)
    for pattern, fix in _REFUSED:
        found = pattern.match(head)
        if found:
            return _command(found.group()), fix
    return None


def controls_transactions(statement: Statement) -> str | None:
    """The name of a statement that no file may contain: it begins or ends a transaction, or writes to the client.

    :returns: None for any other statement.
    """
    found = _NEVER.match(outline(statement))
    return _command(found.group()) if found else None


def runs_alone(statement: Statement) -> str | None:
    """The name of a statement that the server refuses in a transaction; None for any other.

    A statement of which only the server finds that out, such as CALL, is none of these.
    """
    head = outline(statement)
    found = _OUTSIDE.match(head)
    if found:
        return _command(found.group())
    options = "".join(f"{token.word} " for token in tokens(statement.text))
    if _REINDEX_OPTIONS.match(options):
        return "REINDEX CONCURRENTLY"
    return None


def outline(statement: Statement) -> str:
    """The words of a statement outside parentheses, separated by blanks; ``?`` for a quoted name or a literal."""
    return _outline(list(tokens(statement.text)))


def _command(words: str) -> str:
    """The name of a command, without names of objects inside it."""
    every = words.upper().split()
    return " ".join(every if len(every) <= 4 else (*every[:2], "…", every[-1]))


def tokens(text: str, position: int = 0) -> Iterator[Token]:
    """The tokens from ``position``, without whitespace and comments."""
    while position < len(text):
        found = _TOKEN.match(text, position)
        assert found is not None, "the last alternative matches any character"
        kind = found.lastgroup or ""
        start, position = position, found.end()
        if kind in _LONGER:
            position = _end(text, kind, found)
        if kind not in _SKIPPED:
            yield Token(start, position, _word(found.group()) if kind in _WORDS else "")


def _word(text: str) -> str:
    # Keywords fold ASCII letters only: the Kelvin sign is not K.
    return text.lower() if text.isascii() else text


def _end(text: str, kind: str, found: re.Match[str]) -> int:
    if kind == "comment":
        return _comment_end(text, found.start())
    if kind == "dollar":
        return _dollar_end(text, found)
    if kind == "open":
        what = "quoted name" if found.group() == '"' else "string"
        raise _left_open(text, found.start(), what)
    if kind == "meta":
        command = found.group().split()[0]
        hint = "remove it: the server runs the file, not psql"
        raise _Unreadable(found.start(), found.end(), f"{command} is a psql command", hint)
    raise ValueError(kind)


def _left_open(text: str, at: int, what: str) -> _Unreadable:
    return _Unreadable(at, len(text), f"the {what} that starts here is not terminated", "")


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise _left_open(text, start, "comment")


def _dollar_end(text: str, opening: re.Match[str]) -> int:
    found = text.find(opening.group(), opening.end())
    if found < 0:
        raise _left_open(text, opening.start(), f"string {opening.group()}")
    return found + len(opening.group())


def _read_statement(text: str, position: int) -> tuple[list[Token], int]:
    """The tokens of the next statement, and the offset after its semicolon."""
    found: list[Token] = []
    parentheses = 0
    in_body = False
    for token in tokens(text, position):
        word = token.word
        if word == ";" and not parentheses and not in_body:
            _refuse_copy_data(text, found, token.end)
            return found, token.end
        if word == "(":
            parentheses += 1
        elif word == ")":
            # The server reports an unmatched parenthesis.
            parentheses = max(0, parentheses - 1)
        elif word in ("atomic", "end") and not parentheses:
            in_body = _still_in_body(in_body, found, token)
        found.append(token)
    _refuse_copy_data(text, found, len(text))
    return found, len(text)


def _still_in_body(in_body: bool, before: Sequence[Token], token: Token) -> bool:
    """Whether the text after ``token``, the word atomic or end, is between BEGIN ATOMIC and its END.

    CASE ends with END too, and ``end`` may be the name or label of a column. But only the END of the body follows
    a semicolon or ATOMIC, so nested blocks need not be counted.
    https://www.postgresql.org/docs/current/sql-createfunction.html
    """
    if not before:
        return False
    last = before[-1].word
    if in_body:
        return not (token.word == "end" and last in (";", "atomic"))
    return token.word == "atomic" and last == "begin" and bool(_ROUTINE.match(_outline(before[:4])))


def _outline(of: Sequence[Token]) -> str:
    """The words outside parentheses, separated by blanks; ``?`` stands for a quoted name or a literal."""
    words: list[str] = []
    depth = 0
    for token in of:
        depth += {"(": 1, ")": -1}.get(token.word, 0)
        if depth == 0 and token.word != ")":
            words.append(token.word or "?")
    return " ".join(words)


def _refuse_copy_data(text: str, statement: Sequence[Token], end: int) -> None:
    if not statement or statement[0].word != "copy":
        return
    if not re.search(r" from (stdin|stdout)\b", _outline(statement)):
        return
    data_end = _COPY_DATA_END.search(text, end)
    raise _Unreadable(
        statement[0].start,
        data_end.end() if data_end else len(text),
        "COPY FROM stdin reads data from the file",
        "use INSERT (pg_dump --inserts), or omit the data (pg_dump --schema-only)",
    )


def _line_starts(text: str) -> list[int]:
    return [0, *(newline.end() for newline in re.finditer("\n", text))]


def _place(line_starts: Sequence[int], offset: int) -> tuple[int, int]:
    line = bisect_right(line_starts, offset)
    return line, offset - line_starts[line - 1] + 1
