"""The value to which a sequence is set, within its bounds: pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confiture.schema_to_schema.sequences import Bounds, Value, furthest, placed

UP, DOWN = Bounds(1, 1, 12, cycle=False), Bounds(-1, -12, -1, cycle=False)


@pytest.mark.parametrize(
    ("bounds", "last", "margin", "to"),
    [
        (UP, 5, 0, Value(5, called=True)),
        (UP, 5, 7, Value(12, called=True)),
        (UP, 5, 100, Value(12, called=True)),  # only the margin exceeds the bounds
        (UP, 12, 100, Value(12, called=True)),
        (UP, 13, 0, None),
        (UP, -3, 100, Value(1, called=False)),  # the sequence of the target begins later
        (DOWN, -5, 100, Value(-12, called=True)),
        (DOWN, -13, 0, None),
        (DOWN, 4, 0, Value(-1, called=False)),
        (Bounds(5, 1, 12, cycle=False), 1, 100, Value(11, called=True)),
        (Bounds(1, 1, 12, cycle=True), 5, 8, Value(1, called=True)),
        (Bounds(1, 1, 12, cycle=True), 5, 100, Value(9, called=True)),
        (Bounds(1, 1, 12, cycle=True), 13, 0, None),
        (Bounds(1, -(2**63), 2**63 - 1, cycle=False), 2**63 - 2, 100, Value(2**63 - 1, called=True)),
    ],
)
def test_a_sequence_is_set_within_its_bounds(bounds: Bounds, last: int, margin: int, to: Value | None) -> None:
    assert placed(Value(last, called=True), bounds, margin) == to


@given(st.integers(-3, 3).filter(bool), st.integers(1, 20), st.integers(0, 40), st.data())
def test_a_cycling_sequence_advances_as_nextval_would(
    increment: int, length: int, margin: int, data: st.DataObject
) -> None:
    bounds = Bounds(increment, -4, -4 + length, cycle=True)
    last = data.draw(st.integers(bounds.minimum, bounds.maximum))
    drawn = last
    for _ in range(margin):
        following = drawn + increment
        fits = bounds.minimum <= following <= bounds.maximum
        drawn = following if fits else (bounds.minimum if increment > 0 else bounds.maximum)
    assert placed(Value(last, called=True), bounds, margin) == Value(drawn, called=True)


def test_the_furthest_value_is_the_one_in_the_direction_of_the_sequence() -> None:
    some = [Value(3, called=True), Value(5, called=False), Value(5, called=True), Value(-2, called=True)]
    assert furthest(some, UP) == Value(5, called=True)
    assert furthest(some, DOWN) == Value(-2, called=True)
    assert furthest([], UP) is None
