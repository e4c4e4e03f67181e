"""Key ranges: every key lies in exactly one range, and both forms of a predicate are equivalent.

These tests evaluate predicates with Python's comparisons of tuples in place of PostgreSQL's row comparisons.
``integration/test_keyset_ranges.py`` evaluates them on a server.
"""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from confiture.plan.keyset import KeyPart, columns, predicate, ranges, typed
from confiture.types import KeyRange, KeyValue

Key = tuple[int | str, ...]

#: Key parts, some of whose names must be quoted.
PARTS = (KeyPart("id", "integer"), KeyPart('a "b"', "text"), KeyPart("AND", "bigint"))
_TOKEN = re.compile(r"""'((?:[^']|'')*)'::(\w+)|"((?:[^"]|"")*)"|(AND|OR|true|<=|>=|<|>|=|[(),\s])""")


def holds(sql_text: str, row: dict[str, int | str]) -> bool:
    """Whether a row satisfies a predicate. It is evaluated as a Python expression, which has the same precedence."""
    words, at = [], 0
    while at < len(sql_text):
        found = _TOKEN.match(sql_text, at)
        assert found is not None, sql_text[at:]
        literal, kind, name, word = found.groups()
        if literal is not None:
            words.append(repr(literal.replace("''", "'") if kind == "text" else int(literal)))
        elif name is not None:
            words.append(repr(row[name.replace('""', '"')]))
        else:
            words.append({"AND": " and ", "OR": " or ", "=": "==", "true": "True"}.get(word, word))
        at = found.end()
    return bool(eval("".join(words), {"__builtins__": {}}))


#: Few values, so that keys have equal parts and equal a bound; a quote, so that literals are escaped.
_VALUES = (st.integers(-3, 3), st.sampled_from(["", "a", "a'", "ab", "b"]), st.integers(2**60, 2**60 + 2))


#: No deadline, because machines differ in speed and load.
no_deadline = settings(deadline=None)


def keys(width: int) -> st.SearchStrategy[Key]:
    return st.tuples(*_VALUES[:width])


def texts(key: Key) -> KeyValue:
    return tuple(map(str, key))


@st.composite
def cut(draw: st.DrawFn) -> tuple[tuple[KeyPart, ...], list[Key], list[Key]]:
    """The parts of a key, sorted bounds, and keys to search for."""
    width = draw(st.integers(1, 3))
    bounds = sorted(set(draw(st.lists(keys(width), max_size=6))))
    # Every bound is also searched for, as are its neighbours on either side.
    return PARTS[:width], bounds, [*bounds, *draw(st.lists(keys(width), max_size=10))]


def is_in(parts: tuple[KeyPart, ...], span: KeyRange, key: Key, style: str) -> bool:
    text = predicate(parts, span, style).as_string(None)  # type: ignore[arg-type]
    return holds(text, dict(zip((p.name for p in parts), key, strict=True)))


@no_deadline
@given(cut())
def test_every_key_lies_in_exactly_one_range(case: tuple[tuple[KeyPart, ...], list[Key], list[Key]]) -> None:
    parts, bounds, looked_for = case
    spans = ranges([texts(b) for b in bounds], None, last=True)
    for key in looked_for:
        expected = sum(b <= key for b in bounds)
        for style in ("row", "expanded"):
            assert [n for n, span in enumerate(spans) if is_in(parts, span, key, style)] == [expected]


@no_deadline
@given(cut())
def test_the_expansion_is_equivalent_to_the_row_comparison(
    case: tuple[tuple[KeyPart, ...], list[Key], list[Key]],
) -> None:
    parts, bounds, looked_for = case
    for lower, upper in pairwise([None, *bounds, None]):
        span = KeyRange(texts(lower) if lower else None, texts(upper) if upper else None)
        for key in looked_for:
            wanted = (lower is None or lower <= key) and (upper is None or key < upper)
            assert is_in(parts, span, key, "row") == is_in(parts, span, key, "expanded") == wanted


@no_deadline
@given(st.lists(st.integers(), unique=True).map(sorted), st.integers(1, 5))
def test_batches_planned_from_a_cursor_match_ranges_planned_together(bounds: list[int], size: int) -> None:
    values = [(str(b),) for b in bounds]
    spans: list[KeyRange] = []
    cursor = None
    while len(batch := values[len(spans) : len(spans) + size]) == size:
        spans += ranges(batch, cursor, last=False)
        cursor = spans[-1].upper
    spans += ranges(batch, cursor, last=True)
    assert spans == ranges(values, None, last=True)
    assert (spans[0].lower, spans[-1].upper) == (None, None)
    assert all(a.upper == b.lower for a, b in pairwise(spans))


def test_a_range_without_bounds_contains_every_key() -> None:
    (span,) = ranges([], None, last=True)
    assert span == KeyRange(None, None)
    assert predicate(PARTS, span).as_string(None) == "true"


def test_an_unfinished_batch_leaves_the_rest_for_the_next_one() -> None:
    assert ranges([("5",)], ("1",), last=False) == [KeyRange(("1",), ("5",))]
    assert ranges([], ("1",), last=False) == []


@no_deadline
@given(st.text().filter(lambda text: "\0" not in text))
def test_a_literal_cannot_be_terminated_by_its_value(text: str) -> None:
    written = typed(text, "text").as_string(None)
    assert written.endswith("'::text")
    inside = written.removesuffix("'::text").lstrip(" E").removeprefix("'")
    assert "'" not in inside.replace("''", "")


def test_the_columns_are_quoted_as_identifiers() -> None:
    assert columns(PARTS).as_string(None) == '"id", "a ""b""", "AND"'


def test_a_range_begins_with_a_comparison_that_an_index_can_use() -> None:
    text = predicate(PARTS, KeyRange(("1", "x", "2"), None), "expanded").as_string(None)
    assert text.startswith("\"id\" >= '1'::integer AND (")
