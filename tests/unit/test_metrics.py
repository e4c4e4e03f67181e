"""The metrics of a status report, read with the parsers of prometheus-client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.samples import Sample

from confiture.journal.model import TablePhase
from confiture.render.metrics import exposition
from confiture.states import STATES, CutoverPhase
from confiture.status.facts import DiskReport, PauseReport, Report, RunReport, Severity
from conftest import ROOT
from reported import NOW, RUN, TABLE

PAGE = ROOT / "docs" / "metrics.md"


def samples(report: Report, *, text: bool = False) -> Iterator[Sample]:
    for family in (read_text if text else read_openmetrics)(exposition(report, text=text)):
        yield from family.samples


def value(run: RunReport, name: str, **labels: str) -> float | None:
    """The sample of a run with these labels; None when there is none."""
    found = [s for s in samples(Report(NOW, (run,))) if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) <= 1
    return found[0].value if found else None


def series(run: RunReport) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {(s.name, frozenset(s.labels.items())) for s in samples(Report(NOW, (run,)))}


@pytest.mark.parametrize("number", [0, 999_999, 1_213_004_411, 2**53 + 1, 2**63 - 1])
@pytest.mark.parametrize("text", [False, True])
def test_integers_are_printed_in_full(number: int, text: bool) -> None:
    table = replace(TABLE, rows_done=number)
    run = replace(RUN, tables=(table,), progress=replace(RUN.progress, rows_done=number))
    printed = exposition(Report(NOW, (run,)), text=text)
    labels = 'run="0123abcd",source="prod",target="prod_new"'
    assert f"\nconfiture_rows_done{{{labels}}} {number}\n" in printed
    labels = 'run="0123abcd",source="prod",table="public.b",target="prod_new"'
    assert f"\nconfiture_table_rows_done{{{labels}}} {number}\n" in printed


def test_hostile_names_are_read_back_and_shift_no_value() -> None:
    name = 'a"b\\c\nd e} 7\u2028\u202e{x="1"}, #'
    tables = tuple(replace(TABLE, target=f"public.{name}{n}", rows_done=n) for n in range(3))
    report = Report(NOW, (replace(RUN, source=name, target=name, tables=tables),))
    for text in (False, True):
        found = list(samples(report, text=text))
        done = {s.labels["table"]: s.value for s in found if s.name == "confiture_table_rows_done"}
        assert done == {f"public.{name}{n}".replace("\u202e", "\\u202e"): n for n in range(3)}
        assert {s.value for s in found if s.name == "confiture_severity"} == {0, 1}


def test_a_change_of_state_starts_no_new_series() -> None:
    before = series(RUN)
    for state in STATES:
        after = replace(
            RUN,
            state=state,
            severity=Severity.WARNING,
            writes_served_by="target",
            cutover_phase=CutoverPhase.CLOSING,
            throttle={**RUN.throttle, "active": True, "reason": "replica lag 14 s > 10 s (a of the source)"},
            verification={**RUN.verification, "status": "different"},
            tables=(replace(TABLE, phase=TablePhase.FINISHED),),
        )
        assert series(after) <= before
        assert value(after, "confiture_run_state", confiture_run_state=state) == 1
        assert value(after, "confiture_throttle_reason", confiture_throttle_reason="lag") == 1
    assert sum(s.value for s in samples(Report(NOW, (RUN,))) if s.name == "confiture_run_state") == 1


def test_a_value_that_is_not_known_has_no_sample() -> None:
    assert value(RUN, "confiture_rows_per_second") is None
    assert value(RUN, "confiture_eta_timestamp_seconds") is None
    unmeasured = replace(RUN, changes={**RUN.changes, "backlog": None})
    assert (value(RUN, "confiture_backlog_rows"), value(unmeasured, "confiture_backlog_rows")) == (0, None)


def test_a_heartbeat_has_an_age_until_its_command_has_ended() -> None:
    """Otherwise the alert would be raised for each run between two commands."""
    ended = replace(RUN, runner=replace(RUN.runner, ended=True))
    assert value(RUN, "confiture_heartbeat_age_seconds") == 90
    assert value(ended, "confiture_heartbeat_age_seconds") is None
    assert value(replace(RUN, state="cleaned"), "confiture_heartbeat_age_seconds") is None
    assert value(RUN, "confiture_runner_state", confiture_runner_state="dead") == 1
    assert value(ended, "confiture_runner_state", confiture_runner_state="ended") == 1


def test_a_switch_is_unfinished_between_its_quiet_phases() -> None:
    for phase, unfinished in (
        (None, 0),
        (CutoverPhase.PREPARING, 0),
        (CutoverPhase.CLOSING, 1),
        (CutoverPhase.DONE, 0),
    ):
        assert value(replace(RUN, cutover_phase=phase), "confiture_switch_unfinished") == unfinished


def test_a_rehearsal_has_metrics_until_the_next_switch() -> None:
    """Otherwise the alert on a rehearsed pause would remain after the cutover."""
    rehearsal: PauseReport = {
        "at": NOW,
        "command": "cutover",
        "seconds": 6.5,
        "limit": 5.0,
        "complete": True,
        "problem": "the write pause would exceed --max-write-pause",
        "parts": [],
    }
    run = replace(RUN, rehearsal=rehearsal)
    names = ("rehearsed_pause_seconds", "rehearsed_pause_limit_seconds", "rehearsal_passed", "write_pause_seconds")
    assert [value(run, f"confiture_{name}") for name in names] == [6.5, 5.0, 0, None]
    done = replace(run, write_pause={**rehearsal, "at": NOW + timedelta(seconds=9), "seconds": 0.7})
    assert [value(done, f"confiture_{name}") for name in names] == [None, None, None, 0.7]


def test_the_forecast_of_the_disk_is_printed_where_it_is_known() -> None:
    names = [f"confiture_disk_{name}" for name in ("used_bytes", "free_bytes", "missing_bytes", "full_seconds")]
    assert [value(RUN, name) for name in names] == [None] * 4
    unknown: DiskReport = {"expected": 9, "used": 2**40 + 1, "free": None, "missing": 0, "full_in_seconds": None}
    assert [value(replace(RUN, disk=unknown), name) for name in names] == [2**40 + 1, None, 0, None]
    known: DiskReport = {**unknown, "free": 7, "missing": 3, "full_in_seconds": 3600.0}
    assert [value(replace(RUN, disk=known), name) for name in names] == [2**40 + 1, 7, 3, 3600]


def test_a_report_without_runs_has_its_severity() -> None:
    found = {s.name: s.value for s in samples(Report(NOW, (), ("unreachable",))) if s.value}
    read = NOW.timestamp()
    assert found == {
        "confiture_report_severity": 1,
        "confiture_unknown_targets": 1,
        "confiture_report_timestamp_seconds": read,
    }
    assert not [s for s in samples(Report(NOW, ())) if s.name == "confiture_severity"]


def test_a_report_of_many_tables_has_one_sample_for_each_value() -> None:
    tables = tuple(replace(TABLE, target=f"public.t{n}") for n in range(1000))
    found = [s for s in samples(Report(NOW, (replace(RUN, tables=tables),))) if s.name == "confiture_table_rows_done"]
    assert len({s.labels["table"] for s in found}) == len(found) == 1000


def test_the_page_on_metrics_lists_each_metric() -> None:
    listed = set(re.findall(r"^\| `(confiture_\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    printed = exposition(Report(NOW, (RUN,)), text=True)
    assert listed == set(re.findall(r"^# TYPE (\w+)", printed, re.MULTILINE))
