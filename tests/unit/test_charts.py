"""The charts of the page: their places on the time axis, and what they leave out, without a database."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

import courses
from confiture.journal.model import TablePhase
from confiture.schema_to_schema.outcomes import Part
from confiture.status.course import Bar, Course, Eta, StateSpan, Work
from confiture.status.details import ApprovalFacts, Details, PageFacts
from confiture.status.facts import Report
from confiture.web import page
from confiture.web.axis import LABELS_MOST, Axis, axis
from confiture.web.curves import POINTS_MOST, curves
from confiture.web.gantt import TABLES_DRAWN, Gantt, gantt
from confiture.web.pause import pause_bar
from reported import RUN

NAMES = [f"public.t{n}" for n in range(1000)]


def drawn(course: Course) -> Gantt:
    return gantt(course, axis(course), {})


def html(course: Course) -> str:
    return page.html(PageFacts(Report(courses.NOW, (RUN,)), {RUN.id: Details(course=course)}))


@pytest.mark.parametrize("seconds", [0, 1, 8, 59, 370, 600, 5_000, 40_000, 90_000, 10**7])
def test_an_axis_has_few_round_labels_in_order(seconds: int) -> None:
    found = Axis(courses.BEGAN, courses.BEGAN + timedelta(seconds=max(seconds, 1)))
    places = [label.x for label in found.labels]
    assert places == sorted(places)
    assert len(places) <= LABELS_MOST + 1
    assert len(places) > 1 or seconds < 2
    assert all(0 < x < 100 for x in places)
    assert len({label.text for label in found.labels}) == len(places)


def test_an_axis_ends_with_a_run_that_is_over_and_not_with_now() -> None:
    course = courses.course(NAMES[:3])
    over = replace(course, eta=None, states=(*course.states, StateSpan("cleaned", courses.at(30), None, "ops")))
    assert axis(over).end < courses.at(40)
    assert drawn(over).now is None
    assert axis(replace(course, eta=None)).end > courses.NOW


def test_a_far_expected_end_does_not_compress_the_past() -> None:
    far = Eta(*(courses.NOW + timedelta(days=days) for days in (20, 10, 30)))
    found = drawn(replace(courses.course(NAMES[:3]), eta=far))
    assert found.now is not None
    assert found.now > 45
    assert found.forecast is not None
    assert found.forecast.beyond
    assert found.forecast.x + found.forecast.width <= 100.3


def test_every_bar_and_band_is_on_the_axis() -> None:
    found = drawn(courses.course(NAMES[:100]))
    bars = [bar for row in (*found.drawn.rows, *found.rest.rows) for bar in row.bars]
    assert len(bars) > 100
    for item in (*bars, *found.bands):
        assert 0 <= item.x <= item.x + item.width <= 100.3, item
    places = sorted((band.x, band.x + band.width) for band in found.bands)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(places))


def test_a_band_of_a_dead_runner_has_its_own_pattern() -> None:
    found = html(courses.course(NAMES[:3]))
    kinds = re.findall(r'y="15" height="100%" fill="url\(#hatch-(\w+)\)"', found)
    assert sorted(set(kinds)) == ["blocked", "failed", "killed", "paused", "throttled"]
    for kind in {*kinds, "differs"}:
        assert f'<pattern id="hatch-{kind}"' in found


def test_failed_and_active_tables_are_drawn_before_larger_ones() -> None:
    course = courses.course(NAMES[:100])
    found = drawn(course)
    shown = {row.name for row in found.drawn.rows}
    assert len(shown) == TABLES_DRAWN
    assert found.drawn.rows[0].failed
    by_name = {t.target: t for t in course.tables}
    assert all(by_name[name].active or by_name[name].failed_chunks for name in shown)
    assert len(found.rest.rows) == 80
    counts = re.findall(r"(\d+) (\w+)", found.summary)
    assert sum(int(number) for number, _ in counts) == 80


def test_the_indexes_of_a_table_of_the_rest_are_one_bar() -> None:
    found = drawn(courses.course(NAMES[:100]))
    assert max(len(row.bars) for row in found.rest.rows) == 3
    assert any("index (3 together)" in b.text for row in found.rest.rows for b in row.bars)


def test_a_comparison_that_has_just_ended_is_a_bar() -> None:
    bars = (Bar(Work.COPY, "", courses.at(1), courses.at(2)), Bar(Work.VERIFICATION, "", courses.NOW, courses.NOW))
    table = replace(courses.table(1, "public.a", TablePhase.FINISHED, 1), bars=bars)
    (row,) = drawn(Course(courses.NOW, courses.BEGAN, (table,))).drawn.rows
    assert [bar.work for bar in row.bars] == ["copy", "verification"]
    assert all(bar.width > 0 for bar in row.bars)
    assert 'class="bar verification"' in html(Course(courses.NOW, courses.BEGAN, (table,)))


def test_a_course_without_anything_is_a_page_without_charts() -> None:
    assert '<h2 id="course-' not in html(Course(courses.NOW, courses.BEGAN))
    planned = replace(courses.table(1, "public.a", TablePhase.PLANNED, 1), bars=())
    assert "Tables over time" in html(Course(courses.BEGAN, courses.BEGAN, (planned,)))


def test_a_curve_is_broken_where_no_runner_took_samples() -> None:
    course = courses.course(NAMES[:3])
    rate = next(c for c in curves(course, axis(course)).curves if c.title == "Rows per second")
    assert rate.path.count("M") == 2
    assert len(re.findall(r"[ML]", rate.path)) <= POINTS_MOST + 2
    rows = next(c for c in curves(course, axis(course)).curves if c.title == "Rows copied")
    assert rows.forecast.startswith("M")


def test_a_curve_is_broken_where_samples_lack_the_value() -> None:
    course = courses.course(NAMES[:3])
    lacking = (3, 4, 9)
    samples = tuple(
        replace(courses.sample(0), at=courses.at(n), replica_lag=None if n in lacking else 1.0 + n) for n in range(12)
    )
    found = curves(replace(course, samples=samples), axis(course)).curves
    lag = next(c for c in found if c.title == "Lag of standbys")
    assert [part.count("L") for part in lag.path.split("M")[1:]] == [2, 3, 1]


def test_many_samples_keep_the_highest_and_the_last() -> None:
    course = courses.course(NAMES[:3])
    samples = tuple(replace(courses.sample(0), at=courses.at(n / 100), backlog=n == 7_777) for n in range(20_000))
    many = curves(replace(course, samples=samples), axis(course))
    found = next(c for c in many.curves if c.title.startswith("Backlog"))
    assert len(re.findall(r"[ML]", found.path)) <= POINTS_MOST + 2
    assert " 0.0" in found.path
    assert found.most == "1"
    assert len(many.lines) <= 60
    assert many.lines[-1] is samples[-1]


@pytest.mark.parametrize(("seconds", "limit"), [(1.8, 5.0), (9.0, 5.0), (0.0, 5.0), (2.0, None), (0.0, None)])
def test_a_pause_and_its_limit_fit_into_the_width(seconds: float, limit: float | None) -> None:
    found = pause_bar(courses.rehearsed(seconds, limit))
    end = max((s.x + s.width for s in found.segments), default=0.0)
    assert end <= 96.01
    assert (found.limit is None) == (limit is None)
    if found.limit is not None:
        assert (end > found.limit) == (seconds > (limit or 0.0))


def test_the_parts_of_a_short_pause_are_drawn_enlarged() -> None:
    short, long = pause_bar(courses.rehearsed(0.04)), pause_bar(courses.rehearsed(4.0))
    assert max(s.x + s.width for s in short.segments) < 1
    assert max(s.x + s.width for s in short.enlarged) > 95
    assert long.enlarged == ()
    assert html(replace(courses.course(NAMES[:3]), pauses=(courses.rehearsed(0.04),))).count("5. opening: 0.008 s") == 2


def test_the_parts_of_a_pause_are_listed_beside_the_bar() -> None:
    course = replace(courses.course(NAMES[:3]), pauses=(replace(courses.rehearsed(1.0), parts=(Part("<lock>", 1.0),)),))
    found = html(course)
    assert "Rehearsed write pause of the cutover: 1.000 s of at most 5 s" in found
    assert "&lt;lock&gt;: 1.000 s" in found


def test_a_thousand_tables_with_their_charts_are_below_two_megabytes() -> None:
    course = courses.course(NAMES)
    assert len(html(course).encode()) < 2 * 2**20


@pytest.mark.parametrize(
    ("approval", "wanted"),
    [
        (ApprovalFacts(False), None),
        (ApprovalFacts(True), "requires the approval of another role, and has none"),
        (
            ApprovalFacts(True, "boss", courses.NOW, "go <now>"),
            "Approved by role <bdi>boss</bdi> at 2026-01-01 12:00:00 UTC",
        ),
        (ApprovalFacts(False, "boss", courses.NOW, None, "another plan"), "is void: another plan."),
    ],
)
def test_the_approval_is_shown_beside_the_write_pause(approval: ApprovalFacts, wanted: str | None) -> None:
    details = Details(course=courses.course(NAMES[:3]), approval=approval)
    found = page.html(PageFacts(Report(courses.NOW, (RUN,)), {RUN.id: details}))
    assert ("approv" in found.lower()) == (wanted is not None)
    assert wanted is None or wanted in found
    assert "<now>" not in found
