"""Key ranges as SQL predicates. No I/O.

Ranges are half-open. Only the source compares them, because collations differ between servers
(docs/invariants.md, I-3.2 and I-3.3). Literals have the type of the key, so that its index is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from psycopg import sql

from confiture.types import KeyRange, KeyValue

Style = Literal["row", "expanded"]


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One key column of a relation: its name in that relation, and its type as SQL."""

    name: str
    type: str


def typed(text: str, type_name: str) -> sql.Composed:
    """A literal with a cast to ``type_name``, which is SQL printed by ``format_type``."""
    return sql.SQL("{}::{}").format(sql.Literal(text), sql.SQL(type_name))


def columns(parts: Sequence[KeyPart]) -> sql.Composed:
    """The key's columns, separated by commas."""
    return sql.SQL(", ").join(sql.Identifier(p.name) for p in parts)


def key_texts(parts: Sequence[KeyPart]) -> sql.Composed:
    """The key as text, under names that differ from those of the key's columns.

    A cast keeps the name of its column, and ORDER BY prefers an output column: the keys would be sorted as text.
    """
    return sql.SQL(", ").join(
        sql.SQL("{}::text AS {}").format(sql.Identifier(p.name), sql.Identifier(f"confiture_text_{i}"))
        for i, p in enumerate(parts)
    )


def _literals(parts: Sequence[KeyPart], value: KeyValue) -> list[sql.Composed]:
    return [typed(text, part.type) for part, text in zip(parts, value, strict=True)]


def _row(parts: Sequence[KeyPart], operator: str, value: KeyValue) -> sql.Composed:
    literals = sql.SQL(", ").join(_literals(parts, value))
    return sql.SQL("({}) {} ({})").format(columns(parts), sql.SQL(operator), literals)


def _expanded(parts: Sequence[KeyPart], operator: str, value: KeyValue) -> sql.Composed:
    """``a > x OR (a = x AND b >= y)``, preceded by ``a >= x``, which alone can use an index.

    postgres_fdw ships these comparisons, but no row comparison.
    """
    literals = _literals(parts, value)
    strict = operator[0]
    names = [sql.Identifier(p.name) for p in parts]
    if len(parts) == 1:
        return sql.SQL("{} {} {}").format(names[0], sql.SQL(operator), literals[0])
    alternatives = []
    for i, name in enumerate(names):
        last = i == len(names) - 1
        terms = [sql.SQL("{} = {}").format(names[j], literals[j]) for j in range(i)]
        comparison = sql.SQL(operator if last else strict)
        terms.append(sql.SQL("{} {} {}").format(name, comparison, literals[i]))
        alternatives.append(sql.SQL("({})").format(sql.SQL(" AND ").join(terms)))
    lead = sql.SQL("{} {} {}").format(names[0], sql.SQL(strict + "="), literals[0])
    return sql.SQL("{} AND ({})").format(lead, sql.SQL(" OR ").join(alternatives))


def predicate(parts: Sequence[KeyPart], span: KeyRange, style: Style = "row") -> sql.Composed:
    """lower <= key < upper; ``true`` if both ends are open.

    :param style: ``row`` for row comparisons, ``expanded`` for comparisons that postgres_fdw ships.
    """
    compare = _row if style == "row" else _expanded
    terms = []
    if span.lower is not None:
        terms.append(compare(parts, ">=", span.lower))
    if span.upper is not None:
        terms.append(compare(parts, "<", span.upper))
    return sql.SQL(" AND ").join(terms) if terms else sql.Composed([sql.SQL("true")])


def ranges(bounds: Sequence[KeyValue], start: KeyValue | None, *, last: bool) -> list[KeyRange]:
    """Consecutive ranges from ``start``, divided at ``bounds``.

    :param start: the lower end of the first range; None if it is open.
    :param last: whether no row is above the last bound; an open range then follows it.
    """
    edges: list[KeyValue | None] = [start, *bounds]
    spans = [KeyRange(a, b) for a, b in pairwise(edges)]
    if last:
        spans.append(KeyRange(edges[-1], None))
    return spans
