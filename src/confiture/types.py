"""The values that flow between modules: frozen, comparable, without behaviour that does I/O."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_PLAIN = re.compile(r"^[a-z_][a-z0-9_$]*$")


def quoted(name: str) -> str:
    """``name`` as a person would type it in SQL: quoted only where it has to be.

    For messages and files; statements are composed with ``psycopg.sql.Identifier``.
    """
    return name if _PLAIN.match(name) else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True, order=True)
class TableRef:
    """A table by its exact names, never folded."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


#: A key's values in the text form the source prints them in, one per key column.
KeyValue = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A half-open range of keys, lower <= key < upper; None is open-ended."""

    lower: KeyValue | None
    upper: KeyValue | None


@dataclass(frozen=True, slots=True)
class Backend:
    """A server process by pid and start, in seconds since the epoch: together they are never reused."""

    pid: int
    started: str


#: Controls, and characters that turn the direction of writing: a terminal obeys them.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """``text`` with its control characters shown and not obeyed; new lines and tabs stay."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shell_word(text: str) -> str:
    """``text`` as one word of a command line."""
    return shlex.quote(text)
