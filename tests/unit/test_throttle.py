"""How long a copy waits so that a rate is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from confiture.steps.throttle import owed

ROWS = st.integers(0, 10**9)
SECONDS = st.floats(0, 10**6)
RATE = st.integers(1, 10**9)


@given(ROWS, SECONDS, RATE)
def test_after_the_wait_the_rate_is_not_above_the_limit(rows: int, seconds: float, rate: int) -> None:
    assert rows <= (seconds + owed(rows, seconds, rate)) * rate * (1 + 1e-9) + 1e-3


@given(ROWS, SECONDS, RATE)
def test_nothing_waits_longer_than_the_rate_asks(rows: int, seconds: float, rate: int) -> None:
    assert 0 <= owed(rows, seconds, rate) <= rows / rate


@given(ROWS, SECONDS)
def test_without_a_limit_nothing_waits(rows: int, seconds: float) -> None:
    assert owed(rows, seconds, None) == 0
