"""The differences between a database and its DDL, as text. No I/O."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from difflib import unified_diff

from confiture.catalog_differences.model import Difference, Found, PropertyDifference
from confiture.render.documents import DifferenceDocument
from confiture.types import counted

#: Columns of a line of the text.
_WIDTH = 80
#: Properties of a missing or an extra object that are worth a line: the other ones have few values.
_SHOWN = ("type", "definition", "partition of", "bound", "body")
#: Lines of one value of a missing or an extra object.
_LINES = 6
#: The word of each status.
_WORDS = {Found.MISSING: "missing", Found.EXTRA: "extra", Found.DIFFERENT: "differs"}


def text(differences: Sequence[Difference]) -> list[str]:
    """The lines that describe the differences: what the DDL states, and what the database has."""
    return [line for one in differences for line in _of(one)]


def _of(one: Difference) -> Iterator[str]:
    yield f"{_WORDS[one.status]:8}{one.kind} {one.name}"
    if one.of is not None and not one.name.startswith(f"{one.of[1]}."):
        yield f"    of {one.of[0]} {one.of[1]}"
    for found in one.properties:
        if one.status is Found.DIFFERENT:
            yield from _changed(found)
        elif found.name in _SHOWN:
            yield from _whole(found.expected or found.found or "")


def _changed(one: PropertyDifference) -> Iterator[str]:
    ddl, database = (["(none)"] if v is None else v.strip("\n").splitlines() for v in (one.expected, one.found))
    if len(ddl) == len(database) == 1:
        yield f"    {one.name}"
        yield from _labelled("DDL", ddl[0])
        yield from _labelled("database", database[0])
        return
    yield f"    {one.name} (- DDL, + database)"
    compared = list(unified_diff(ddl, database, n=2, lineterm=""))[2:]
    yield from (f"      {line}" for line in compared)


def _labelled(label: str, value: str) -> list[str]:
    return _wrapped(value, f"      {label:10}")


def _whole(value: str) -> Iterator[str]:
    lines = value.strip("\n").splitlines()
    for line in lines[:_LINES]:
        yield from _wrapped(line, "    ")
    if len(lines) > _LINES:
        yield f"    ({counted(len(lines) - _LINES, 'more line')})"


def _wrapped(value: str, head: str) -> list[str]:
    """The lines of a value, of which the first one begins with ``head``. No word is broken."""
    below = " " * len(head)
    wrapped = textwrap.wrap(
        value, _WIDTH, initial_indent=head, subsequent_indent=below, break_long_words=False, break_on_hyphens=False
    )
    return wrapped or [head.rstrip()]


def documents(differences: Sequence[Difference]) -> list[DifferenceDocument]:
    """The differences as parts of a JSON document."""
    return [
        {
            "status": one.status.value,
            "kind": one.kind,
            "name": one.name,
            "part_of": None if one.of is None else " ".join(one.of),
            "properties": [{"name": p.name, "ddl": p.expected, "database": p.found} for p in one.properties],
        }
        for one in differences
    ]
