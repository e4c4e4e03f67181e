"""The course of a run: the estimate of its end, and stretches that do not overlap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from confiture.status.course import Hindrance, Sample, Stretch, eta, without_overlaps

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def samples(*points: tuple[float, int]) -> list[Sample]:
    return [Sample(at(s), rows, None, None, None, None, None, "migrating") for s, rows in points]


def test_eta_spans_the_rates_of_the_last_ten_minutes() -> None:
    found = eta(samples((-6000, 0), (-180, 1000), (-120, 1600), (-60, 4600), (0, 5200)), 3000, NOW)
    assert found is not None
    assert (found.earliest, found.latest) == (at(3000 / 50), at(3000 / 10))
    assert found.expected == at(3000 / ((10 + 50 + 10) / 3))


def test_eta_of_the_first_samples_is_taken_from_all_of_them() -> None:
    found = eta(samples((-20, 0), (-10, 500), (0, 2000)), 1000, NOW)
    assert found is not None
    assert found.expected == found.earliest == found.latest == at(10)


@pytest.mark.parametrize(
    ("points", "left"),
    [([], 100), ([(0, 5)], 100), ([(-60, 5), (0, 5)], 100), ([(-60, 0), (0, 9)], 0), ([(-9000, 0), (-8000, 9)], 9)],
)
def test_there_is_no_eta_without_rows_copied_lately_or_left(points: list[tuple[float, int]], left: int) -> None:
    assert eta(samples(*points), left, NOW) is None


def test_a_table_copied_again_does_not_make_the_rate_negative() -> None:
    found = eta(samples((-240, 9000), (-180, 9600), (-120, 0), (-60, 600), (0, 1200)), 600, NOW)
    assert found is not None
    assert found.expected == found.earliest == found.latest == at(60)


def test_a_graver_stretch_cuts_a_milder_one_in_two() -> None:
    throttled = Stretch(Hindrance.THROTTLED, at(-100), None, "replica lag")
    killed = Stretch(Hindrance.KILLED, at(-60), at(-40), "")
    assert without_overlaps([throttled, killed], NOW) == (
        Stretch(Hindrance.THROTTLED, at(-100), at(-60), "replica lag"),
        killed,
        Stretch(Hindrance.THROTTLED, at(-40), None, "replica lag"),
    )


def test_a_milder_stretch_within_a_graver_one_is_left_out() -> None:
    killed = Stretch(Hindrance.KILLED, at(-60), None, "")
    assert without_overlaps([Stretch(Hindrance.PAUSED, at(-50), at(-10), "on request"), killed], NOW) == (killed,)


def test_stretches_that_touch_are_kept_whole() -> None:
    found = [
        Stretch(Hindrance.PAUSED, at(-90), at(-50), "on request"),
        Stretch(Hindrance.FAILED, at(-50), at(-10), "disk full"),
    ]
    assert without_overlaps(reversed(found), NOW) == tuple(found)
