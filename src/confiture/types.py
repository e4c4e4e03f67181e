"""Values that are passed between modules, and functions that write names. No I/O."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any

from psycopg import sql

#: A number of rows, sessions or the like. The metadata of a type is what a JSON schema requires of it.
Count = Annotated[int, {"minimum": 0}]
#: A share in percent that no count exceeds.
ALL_PERCENT = 100.0
#: The first eight hexadecimal digits of a run's id.
ShortId = Annotated[str, {"pattern": "^[0-9a-f]{8}$"}]

#: A JSON object of which the database determines the keys.
Json = dict[str, Any]


class Activity(StrEnum):
    """The work of a step on the rows of a table, in progress or done for all of them."""

    COPYING = "copying"
    COPIED = "copied"
    COMPARING = "comparing"
    COMPARED = "compared"

    @property
    def ended(self) -> bool:
        """Whether every row of the table is done."""
        return self in (Activity.COPIED, Activity.COMPARED)


_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
#: Key words of PostgreSQL 14 to 18 that are no name of a table, a column or a role unless they are quoted.
#: https://www.postgresql.org/docs/current/sql-keywords-appendix.html
_RESERVED = frozenset((
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "binary",
    "both", "case", "cast", "check", "collate", "collation", "column", "concurrently", "constraint", "create",
    "cross", "current_catalog", "current_date", "current_role", "current_schema", "current_time",
    "current_timestamp", "current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end",
    "except", "false", "fetch", "for", "foreign", "freeze", "from", "full", "grant", "group", "having", "ilike",
    "in", "initially", "inner", "intersect", "into", "is", "isnull", "join", "lateral", "leading", "left",
    "like", "limit", "localtime", "localtimestamp", "natural", "not", "notnull", "null", "offset", "on", "only",
    "or", "order", "outer", "overlaps", "placing", "primary", "references", "returning", "right", "select",
    "session_user", "similar", "some", "symmetric", "system_user", "table", "tablesample", "then", "to",
    "trailing", "true", "union", "unique", "user", "using", "variadic", "verbose", "when", "where", "window",
    "with",
))  # fmt: skip


def double_quoted(name: str) -> str:
    """``name`` as an SQL identifier in double quotes.

    For SQL text that is stored or sent without psycopg; statements are composed with ``psycopg.sql.Identifier``.
    """
    return '"' + name.replace('"', '""') + '"'


def quoted(name: str) -> str:
    """``name`` as a person types it in SQL, quoted only if that is required. For messages and files."""
    return name if _PLAIN.fullmatch(name) and name not in _RESERVED else double_quoted(name)


def did_you_mean(word: str, known: Iterable[str], write: Callable[[str], str] = str) -> str:
    """A hint that names the known word closest to ``word``, ignoring case; empty if none is close.

    :param write: how the hint writes the word, for example quoted.
    """
    by_lower: dict[str, str] = {}
    for name in known:
        by_lower.setdefault(name.lower(), name)
    close = get_close_matches(word.lower(), by_lower, n=1)
    return f"did you mean {write(by_lower[close[0]])}?" if close else ""


@dataclass(frozen=True, slots=True, order=True)
class TableRef:
    """A table, identified by the exact names of its schema and of itself, which are never folded."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def identifier(self) -> sql.Identifier:
        """The schema-qualified name for a statement."""
        return sql.Identifier(self.schema, self.name)


def short_names(tables: Iterable[TableRef]) -> dict[TableRef, str]:
    """The tables for people, on one line: of schema ``public`` without its schema, unless the name is ambiguous."""
    refs = list(tables)
    seen = Counter(ref.name for ref in refs)
    short = {ref: quoted(ref.name) if ref.schema == "public" and seen[ref.name] == 1 else str(ref) for ref in refs}
    return {ref: on_one_line(name) for ref, name in short.items()}


def without_public(names: Iterable[str]) -> dict[str, str]:
    """As :func:`short_names`, for names as :class:`TableRef` prints them."""
    full = list(names)
    tails = Counter(name.rpartition(".")[2] for name in full)
    short = {name: name.removeprefix("public.") if tails[name.rpartition(".")[2]] == 1 else name for name in full}
    return {name: on_one_line(printed) for name, printed in short.items()}


#: Where a statement or an entry of a mapping file begins, which is printed to be copied and keeps every schema.
_STATEMENT = re.compile(
    r"\b(?:GRANT|REVOKE|ALTER|CREATE|DROP|REFRESH|SELECT|INSERT|UPDATE|DELETE|REINDEX|VALIDATE) |\$[a-z_]+: "
)


def in_plain_words(text: str) -> str:
    """Sentences, one a line, without the schema ``public`` of a table unless they name such a table of another schema.

    Statements and functions keep their schemas.
    """
    return "\n".join(map(_in_plain_words, text.split("\n")))


def _in_plain_words(text: str) -> str:
    words, statement = text, _STATEMENT.search(text)
    if statement is not None:
        words = text[: statement.start()]
    named = set(_QUALIFIED.findall(words))

    def short(found: re.Match[str]) -> str:
        twins = {schema for schema, name in named if name == found[2]}
        return found[2] if found[1] == "public" and twins == {"public"} else found[0]

    return _QUALIFIED.sub(short, words) + text[len(words) :]


#: A name as :func:`quoted` writes it, for a regular expression.
NAME = r"(?:[a-z_][a-z0-9_$]*|\"(?:[^\"]|\"\")+\")"
_QUALIFIED = re.compile(rf"(?<![\w.\"'/@-])({NAME})\.({NAME})(?![\w(])")
_SUBJECT = re.compile(
    rf"(?:(?P<kind>sequence) )?(?P<name>{NAME}\.{NAME}) (?P<rest>.+)"
    rf"|(?P<index>index) (?P<on>{NAME} of {NAME}\.{NAME}) (?P<says>.+)",
    re.DOTALL,
)
#: The plural of the kinds of objects that are the subject of a sentence.
_PLURALS = {"": "tables", "sequence": "sequences", "index": "indexes"}


def grouped(sentences: Iterable[str], shown: int | None = None) -> list[str]:
    """Sentences whose subject is a table, sequence or index: those that say the same of several become one.

    :param shown: names that such a sentence has; None for all of them.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for sentence in sentences:
        match = _SUBJECT.fullmatch(sentence)
        kind = (match["kind"] or match["index"] or "") if match else ""
        subject, rest = (match["name"] or match["on"], match["rest"] or match["says"]) if match else ("", sentence)
        found.setdefault((kind, rest), []).append(subject)
    return [
        f"each of {len(names):,} {_PLURALS[kind]} ({some(names, shown)}) {rest}"
        if len(names) > 1
        else f"{kind} {names[0]} {rest}".strip()
        for (kind, rest), names in found.items()
    ]


#: Names that a summary shows of objects for which the same holds.
NAMES_SHOWN = 4


def some(names: Sequence[str], shown: int | None) -> str:
    """The first names, and the number of the others; all names if ``shown`` is None."""
    more = len(names) - shown if shown is not None else 0
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as ``1 row`` or ``2,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


#: Seconds from which a duration is printed without its seconds.
MINUTES_FROM = 600
#: The least number that is abbreviated.
ABBREVIATED_FROM = 10_000


#: About thirty years. A longer time cannot be represented everywhere, and an infinite one not in JSON.
LONGEST_SECONDS = 10**9


def duration(seconds: float) -> str:
    """Seconds for people, in at most two units, such as ``40 seconds``, ``3 hours and 5 minutes`` or ``3 days``."""
    import humanize  # here and below: most commands need no number for people

    if seconds > LONGEST_SECONDS:
        return "more than 30 years"
    whole = max(0, int(seconds))
    unit = 3600 if whole >= 24 * 3600 else 60 if whole >= MINUTES_FROM else 1
    return humanize.precisedelta(timedelta(seconds=whole - whole % unit), suppress=("years", "months"), format="%d")


def abbreviated(number: float) -> str:
    """A number in at most three digits, such as ``999k``, ``1.00M`` or ``1.21B``; below 10,000 in full."""
    import humanize

    if number < ABBREVIATED_FROM:
        return f"{number:,.0f}"
    return humanize.metric(number).replace(" ", "").replace("G", "B")


def byte_size(size: float) -> str:
    """A number of bytes for people, such as ``64.0 MiB``."""
    import humanize

    return humanize.naturalsize(size, binary=True, format="%.1f")


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kKMGTP])(i?)B?|B)?", re.ASCII)


def parsed_size(text: str) -> int:
    """The bytes of a size such as ``500GB`` (in thousands), ``466GiB`` (in 1024s) or ``500000000000``.

    :raises ValueError: when it is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** (" KMGTP".index((found[2] or " ").upper())))


def named_key(key: Mapping[str, str] | None) -> str:
    """The key of a row for an error: its columns with their values as text."""
    return ", ".join(f"{name} = {value}" for name, value in (key or {}).items()) or "key unknown"


#: The values of a key, one for each key column, as text printed by the source.
KeyValue = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A half-open range of keys, lower <= key < upper. None is an open end."""

    lower: KeyValue | None
    upper: KeyValue | None


@dataclass(frozen=True, slots=True)
class Backend:
    """A server process, identified by its PID and its start in seconds since the epoch. The pair is never reused."""

    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class KeyOperator:
    """The comparison of one column of a foreign key: ``referenced OPERATOR(...) referencing``.

    :ivar operator: the operator as SQL, ``OPERATOR(schema.=)``; its operands are ``left_type`` and ``right_type``.
    :ivar collation: the collation of the referenced column; None if its type has none.
    """

    operator: str
    left_type: str
    right_type: str
    collation: str | None


#: Control characters, and characters that change the direction of writing.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """``text`` with its control characters escaped, except newlines and tabs."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def on_one_line(name: str) -> str:
    """As :func:`visible`, with newlines and tabs escaped too: a name is one line, and as wide as it is printed."""
    return visible(name).replace("\n", r"\n").replace("\t", r"\t")


#: Characters that have a meaning for a shell between double quotes.
_SPECIAL = re.compile(r"[\"$`\\!]")


def shell_word(text: str) -> str:
    """``text`` as one word of a shell command."""
    if "'" in text and not _SPECIAL.search(text):
        return f'"{text}"'
    return shlex.quote(text)


@dataclass(frozen=True, slots=True)
class ValidBelow:
    """A validated constraint of a partition or child that is dropped with the constraint NOT VALID of its parent."""

    table: TableRef
    name: str
    definition: str
    comment: str | None
