"""The rules of the limits: waits, chunk sizes and reasons, without a database."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from confiture.copy import throttle
from confiture.copy.throttle import CHUNK_SECONDS, SLOW_CHUNK_ROWS, Replica, Throttle, chunk_rows, rest

ROWS = st.integers(0, 10**7)
SECONDS = st.floats(0, 10**5)
RATES = st.integers(1, 10**7)
PLANNED = st.integers(1, 10**6)
LIMITS = st.builds(Throttle, st.none() | RATES, st.none() | st.floats(0.001, 10**5), st.none() | st.integers(1, 10**9))


@given(ROWS, SECONDS, RATES)
def test_a_chunk_and_its_rest_never_exceed_the_rate_limit(rows: int, seconds: float, rate: int) -> None:
    whole = seconds + rest(rows, seconds, rate)
    assert rows <= whole * rate * (1 + 1e-9) + 1e-6


@given(ROWS, SECONDS, RATES)
def test_a_rest_is_no_longer_than_necessary(rows: int, seconds: float, rate: int) -> None:
    found = rest(rows, seconds, rate)
    assert found >= 0
    assert found == 0 or abs((seconds + found) * rate - rows) <= 1e-6 * max(1, rows)
    assert rest(rows, seconds + found, rate) <= 1e-6 * max(1.0, found)


@given(ROWS, SECONDS)
def test_without_a_limit_there_is_no_rest(rows: int, seconds: float) -> None:
    assert rest(rows, seconds, None) == 0
    assert throttle.rate_reason(rows, seconds, Throttle(max_replica_lag=1, max_backlog=1)) is None


@given(PLANNED, st.none() | st.floats(0, 10**7), st.none() | RATES)
def test_a_chunk_is_never_empty_or_larger_than_the_operator_has_set(
    planned: int, speed: float | None, rate: int | None
) -> None:
    assert 1 <= chunk_rows(planned, speed, rate, fixed=True) <= planned


@given(PLANNED, st.floats(0.001, 10**9))
def test_a_chunk_is_as_long_as_a_chunk_is_to_take(planned: int, speed: float) -> None:
    rows = chunk_rows(planned, speed, None, fixed=False)
    assert rows >= min(planned, int(speed * CHUNK_SECONDS))
    assert rows <= min(planned, SLOW_CHUNK_ROWS) or rows / speed <= CHUNK_SECONDS * (1 + 1e-9)


@given(PLANNED, RATES, st.integers(1, 100))
def test_limited_chunks_together_have_the_rows_of_a_few_seconds(planned: int, rate: int, streams: int) -> None:
    rows = chunk_rows(planned, None, rate, fixed=False, streams=streams)
    assert rows <= max(1, rate * throttle.RATE_CHUNK_SECONDS / streams)


@given(LIMITS, LIMITS)
def test_given_limits_replace_the_old_ones_and_the_others_stay(before: Throttle, given: Throttle) -> None:
    after = before.with_limits(given)
    for name in Throttle.__dataclass_fields__:
        new = getattr(given, name)
        assert getattr(after, name) == (getattr(before, name) if new is None else new)


def test_the_worst_standby_is_named_with_its_server() -> None:
    replicas = [Replica("near", "source", 0.2, 10), Replica("far", "target", 14.2, 10), Replica("mid", "source", 5, 9)]
    reason = throttle.lag_reason(replicas, Throttle(max_replica_lag=10), 1.0)
    assert reason is not None
    assert reason.text == "replica lag 14 s > 10 s (far of the target)"


def test_a_standby_within_its_limit_does_not_delay_the_copy() -> None:
    assert throttle.lag_reason([Replica("a", "source", 10.0, 1)], Throttle(max_replica_lag=10), 1.0) is None
    assert throttle.lag_reason([Replica("a", "source", 10.0, 1)], Throttle(), 1.0) is None
    assert throttle.lag_reason([], Throttle(max_replica_lag=0.001), 1.0) is None


def test_lag_is_measured_in_time_or_else_in_bytes() -> None:
    assert Replica("a", "source", 3.5, 1).lag == 3.5
    assert Replica("a", "source", None, 160 * 2**20).lag == 10.0
    # The server still reports the lag that it measured last.
    assert Replica("a", "source", 3.5, 0).lag == 0
    # A WAL archiver replays nothing.
    assert Replica("a", "source", None, None).lag == 0


def test_a_log_that_cannot_be_compacted_does_not_stop_the_copy() -> None:
    limits = Throttle(max_backlog=100)
    assert throttle.backlog_reason(100, 0, limits) is None
    assert throttle.backlog_reason(101, 0, limits) is not None
    assert throttle.backlog_reason(101, 101, limits) is None
    assert throttle.backlog_reason(203, 101, limits) is not None
    assert throttle.backlog_reason(10**9, 0, Throttle()) is None


@given(PLANNED, st.integers(1, 20), st.integers(-(10**9), 10**9), st.integers(2, 64))
def test_the_last_chunks_of_a_table_are_smaller(rows: int, count: int, left: int, streams: int) -> None:
    size, several = throttle.shared(rows, count, left, streams)
    assert max(1, rows // 4) <= size <= rows
    assert 1 <= several <= count
    if left >= 2 * rows * max(streams, count):
        assert (size, several) == (rows, count)
    if left <= rows // 2:
        assert size == max(1, rows // 4)
