"""How bad it is and what comes next: decided without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from confiture.status import RunnerReport, Severity, TableReport, judge, next_step

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = RunnerReport(None, None, None, None, None, None, alive=False, ended=True)
ALIVE = RunnerReport("ops", 1, "1", "migrate", NOW, 4.0, alive=True, ended=False)
DEAD = replace(ALIVE, silent_seconds=90.0, alive=False)
ENDED = replace(ALIVE, alive=False, ended=True)
COPIED = TableReport("public.a", "public.b", "finished", "copy", 9, 9, False, None, 1, 0, None, 0, 0)
COPYING = replace(COPIED, phase="copying", rows_total=90, total_is_estimate=True)
NOT_RUN = {"status": "not run", "checked_at": None, "stale": False, "differences": 0}
EQUAL = {**NOT_RUN, "status": "equal"}
DIFFERENT = {**NOT_RUN, "status": "different", "differences": 3}


def judged(**given: Any) -> Severity:
    """The severity of a run that migrates well but for what is given."""
    facts: dict[str, Any] = {
        "state": "migrating",
        "blocked": None,
        "phase": None,
        "runner": ALIVE,
        "tables": (COPYING,),
        "verification": NOT_RUN,
        "paused_seconds": None,
    }
    return judge(**{**facts, **given})[0]


@pytest.mark.parametrize(
    ("given", "severity"),
    [
        ({}, Severity.OK),
        ({"runner": NEVER, "state": "setup"}, Severity.OK),
        ({"runner": ENDED}, Severity.OK),
        ({"runner": DEAD}, Severity.CRITICAL),
        ({"runner": DEAD, "state": "cutover"}, Severity.WARNING),
        ({"runner": DEAD, "state": "aborted"}, Severity.OK),
        ({"blocked": "a row does not fit"}, Severity.CRITICAL),
        ({"tables": (replace(COPYING, failed_chunks=1),)}, Severity.CRITICAL),
        ({"verification": DIFFERENT}, Severity.CRITICAL),
        ({"verification": DIFFERENT, "state": "cutover"}, Severity.OK),
        ({"verification": {**EQUAL, "stale": True}}, Severity.WARNING),
        ({"paused_seconds": 3599.0}, Severity.OK),
        ({"paused_seconds": 3601.0}, Severity.WARNING),
        ({"paused_seconds": 3601.0, "blocked": "x"}, Severity.CRITICAL),
        ({"throttled": (299.0, "replica lag 14 s > 10 s")}, Severity.OK),
        ({"throttled": (301.0, "replica lag 14 s > 10 s")}, Severity.WARNING),
    ],
)
def test_severity_is_that_of_the_worst_reason(given: dict[str, Any], severity: Severity) -> None:
    assert judged(**given) is severity


@pytest.mark.parametrize(
    ("state", "runner", "tables", "verification", "command"),
    [
        ("setup", ENDED, (), NOT_RUN, "migrate"),
        ("setup", replace(DEAD, command="setup"), (), NOT_RUN, "setup"),
        ("migrating", ALIVE, (COPYING,), NOT_RUN, "pause"),
        ("migrating", DEAD, (COPYING,), NOT_RUN, "migrate"),
        ("migrating", replace(DEAD, command="abort"), (COPYING,), NOT_RUN, "abort"),
        ("migrating", DEAD, (COPIED,), NOT_RUN, "verify"),
        ("migrating", ENDED, (COPYING,), NOT_RUN, "migrate"),
        ("migrating", ENDED, (COPIED,), NOT_RUN, "verify"),
        ("verified", ENDED, (COPIED,), EQUAL, "cutover"),
        ("verified", ENDED, (COPIED,), {**EQUAL, "stale": True}, "verify --again"),
        ("verified", ENDED, (COPIED,), DIFFERENT, "verify --again"),
        ("cutover", ENDED, (COPIED,), EQUAL, "cleanup"),
    ],
)
def test_the_next_command_is_ready_to_paste(
    state: str, runner: RunnerReport, tables: tuple[TableReport, ...], verification: dict[str, Any], command: str
) -> None:
    row = {
        "state": state, "target_name": "prod new", "blocked_reason": None, "setup_done": True, "cutover_phase": None,
        "ending": None,
    }  # fmt: skip
    told = next_step(row, runner, tables, verification, paused=False)["command"]
    assert told == f"confiture migrate schema-to-schema {command} --target 'prod new'"


def test_an_abort_that_was_begun_is_to_be_ended() -> None:
    row = {"state": "verified", "target_name": "prod", "ending": "abort"}
    told = next_step(row, ENDED, (COPIED,), EQUAL, paused=False)
    assert told["command"] == "confiture migrate schema-to-schema abort --target prod"
    assert judged(state="verified", runner=ENDED, ending="abort") is Severity.WARNING


def test_more_rows_than_estimated_are_not_more_than_all() -> None:
    assert replace(COPYING, rows_done=200, rows_total=90).percent == 100.0
