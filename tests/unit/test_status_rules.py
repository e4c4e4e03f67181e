"""The rules of ``status``: severity, the database that takes writes, and the next command, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from confiture.journal.model import TablePhase
from confiture.naming import Naming, naming
from confiture.states import FINAL, STATES, CutoverPhase, ReadsPhase, writes_served_by
from confiture.status.facts import RunnerReport, Severity, TableReport, known
from confiture.status.severity import Facts, judge, leave_alone, next_step, rollback, undo

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = RunnerReport(None, None, None, None, None, None, alive=False, ended=True)
ALIVE = RunnerReport("ops", 1, "1", "migrate", NOW, 4.0, alive=True, ended=False)
DEAD = replace(ALIVE, silent_seconds=90.0, alive=False, absent_seconds=90.0)
FINISHED = replace(ALIVE, alive=False, ended=True, ended_at=NOW, ended_why="finished", absent_seconds=900.0)
JUST_NOW = replace(FINISHED, ended_why="CannotConnect: the connection was lost", absent_seconds=5.0)
LONG_AGO = replace(JUST_NOW, absent_seconds=31.0)
COPIED = TableReport("public.a", "public.b", TablePhase.FINISHED, "copy", 9, 9, False, None, 1, 0, None, 0, 0)
COPYING = replace(COPIED, phase=TablePhase.COPYING, rows_total=90, total_is_estimate=True)
NOT_RUN = {"status": "not run", "checked_at": None, "stale": False, "differences": 0}
EQUAL = {**NOT_RUN, "status": "equal"}
DIFFERENT = {**NOT_RUN, "status": "different", "differences": 3}
INTERRUPTED = {**NOT_RUN, "status": "interrupted"}
PROD = Naming("prod new")


def assess(
    runner: RunnerReport = ALIVE, tables: tuple[TableReport, ...] = (COPYING,), found: Any = NOT_RUN, **given: Any
) -> tuple[Severity, str, str, str, Any]:
    """Severity, reasons, leave alone, undo and next step of a run.

    Without arguments, the run is in state migrating and its runner is alive.
    """
    facts = Facts(**{"state": "migrating", "captured": True, **given})
    severity, reasons = judge(facts, runner, tables, found)
    alone, back = leave_alone(facts, runner, severity, PROD), undo(facts, runner, PROD)
    return severity, "; ".join(reasons), alone, back, next_step(facts, runner, tables, found, PROD)


VERIFIED = {"state": "verified", "tables": (COPIED,), "found": EQUAL}
READ = {**VERIFIED, "reads": ReadsPhase.OPEN, "staleness": 3.0, "reads_limit": 30.0}
DIFFERS = {**READ, "state": "migrating", "runner": FINISHED}
SERVING = {"state": "cutover", "tables": (COPIED,), "found": EQUAL, "phase": CutoverPhase.DONE}


@pytest.mark.parametrize(
    ("given", "severity"),
    [
        ({}, Severity.OK),
        ({"runner": NEVER, "state": "setup", "tables": ()}, Severity.OK),
        ({"runner": FINISHED, "state": "setup", "tables": ()}, Severity.OK),
        ({"runner": NEVER, "state": "setup", "setup_done": False, "tables": ()}, Severity.WARNING),
        ({"runner": LONG_AGO, "state": "setup", "setup_done": False, "tables": ()}, Severity.CRITICAL),
        ({"runner": LONG_AGO, "state": "setup", "tables": ()}, Severity.CRITICAL),
        ({"runner": replace(LONG_AGO, ended_why="Refused: x"), "state": "setup", "tables": ()}, Severity.OK),
        ({"runner": JUST_NOW}, Severity.WARNING),
        ({"runner": LONG_AGO}, Severity.CRITICAL),
        ({"runner": FINISHED}, Severity.CRITICAL),
        ({"runner": FINISHED, "tables": (COPIED,)}, Severity.OK),
        ({"runner": JUST_NOW, "tables": (COPIED,), "found": INTERRUPTED}, Severity.WARNING),
        ({"runner": LONG_AGO, "tables": (COPIED,), "found": INTERRUPTED}, Severity.CRITICAL),
        ({**VERIFIED, "runner": LONG_AGO, "found": INTERRUPTED}, Severity.CRITICAL),
        ({**VERIFIED, "runner": LONG_AGO}, Severity.OK),
        ({**VERIFIED, "runner": replace(LONG_AGO, command="follow")}, Severity.WARNING),
        ({**VERIFIED, "runner": replace(LONG_AGO, command="follow", ended_why="Drained: x")}, Severity.OK),
        ({**VERIFIED, "runner": replace(FINISHED, command="follow")}, Severity.OK),
        ({"runner": DEAD}, Severity.CRITICAL),
        ({**SERVING, "runner": DEAD}, Severity.WARNING),
        ({"runner": DEAD, "state": "aborted"}, Severity.OK),
        ({"runner": FINISHED, "blocked": "a row does not fit"}, Severity.CRITICAL),
        ({**VERIFIED, "runner": FINISHED, "blocked": "a table was changed"}, Severity.CRITICAL),
        ({**SERVING, "runner": FINISHED, "blocked": "a table was changed"}, Severity.CRITICAL),
        ({"blocked": "a row does not fit"}, Severity.WARNING),
        ({"tables": (replace(COPYING, failed_chunks=1),)}, Severity.CRITICAL),
        ({"found": DIFFERENT}, Severity.CRITICAL),
        ({**SERVING, "runner": FINISHED, "found": DIFFERENT}, Severity.OK),
        ({"found": {**EQUAL, "stale": True}}, Severity.WARNING),
        ({**SERVING, "runner": FINISHED, "found": {**EQUAL, "stale": True}}, Severity.OK),
        ({"paused_seconds": 3599.0}, Severity.OK),
        ({"paused_seconds": 3601.0}, Severity.WARNING),
        ({"throttled": (299.0, "replica lag 14 s > 10 s")}, Severity.OK),
        ({"throttled": (301.0, "replica lag 14 s > 10 s")}, Severity.WARNING),
        ({**VERIFIED, "runner": FINISHED, "idle_seconds": 3601.0}, Severity.WARNING),
        ({**VERIFIED, "runner": FINISHED, "idle_seconds": 3601.0, "captured": False}, Severity.OK),
        ({**VERIFIED, "runner": ALIVE, "idle_seconds": 3601.0}, Severity.OK),
        ({"runner": FINISHED, "state": "setup", "planned": False, "idle_seconds": 9e4}, Severity.OK),
        ({**SERVING, "runner": replace(FINISHED, absent_seconds=80_000.0), "idle_seconds": 80_000.0}, Severity.OK),
        ({**SERVING, "runner": replace(FINISHED, absent_seconds=90_000.0)}, Severity.WARNING),
        ({**VERIFIED, "runner": JUST_NOW, "ending": "abort"}, Severity.WARNING),
        ({**VERIFIED, "runner": LONG_AGO, "ending": "abort"}, Severity.CRITICAL),
        ({**VERIFIED, "phase": CutoverPhase.CLOSING}, Severity.OK),
        ({**VERIFIED, "phase": CutoverPhase.CLOSING, "phase_seconds": 61.0}, Severity.WARNING),
        ({**VERIFIED, "phase": CutoverPhase.CLOSING, "runner": DEAD}, Severity.CRITICAL),
        ({**VERIFIED, "phase": CutoverPhase.CLOSING, "runner": FINISHED}, Severity.CRITICAL),
        ({**VERIFIED, "phase": CutoverPhase.PREPARING, "runner": FINISHED}, Severity.OK),
        ({**VERIFIED, "phase": CutoverPhase.PAUSING, "runner": DEAD}, Severity.CRITICAL),
        ({**SERVING, "phase": CutoverPhase.OPENED, "runner": DEAD}, Severity.CRITICAL),
        ({**SERVING, "phase": CutoverPhase.ROLLBACK_CLOSING, "runner": DEAD}, Severity.CRITICAL),
        ({**SERVING, "phase": CutoverPhase.ROLLBACK_CLOSING}, Severity.OK),
        ({**READ, "runner": FINISHED}, Severity.OK),
        ({**READ, "runner": FINISHED, "staleness": 31.0}, Severity.WARNING),
        ({**READ, "staleness": None}, Severity.WARNING),
        ({**READ, "reads": ReadsPhase.OPENING}, Severity.OK),
        ({**READ, "reads": ReadsPhase.OPENING, "runner": DEAD}, Severity.WARNING),
        ({**READ, "reads": ReadsPhase.CLOSING, "runner": FINISHED}, Severity.WARNING),
        (DIFFERS, Severity.CRITICAL),
        ({**DIFFERS, "runner": ALIVE}, Severity.CRITICAL),
        ({**DIFFERS, "reads": ReadsPhase.CLOSING}, Severity.WARNING),
    ],
)
def test_the_worst_reason_determines_the_severity(given: dict[str, Any], severity: Severity) -> None:
    found, reasons, *_ = assess(**given)
    assert found is severity, reasons
    assert bool(reasons) == (severity is not Severity.OK)


def test_the_error_that_ended_a_command_is_among_the_reasons() -> None:
    reasons = assess(runner=JUST_NOW)[1]
    assert ": the connection was lost" in reasons
    assert "CannotConnect" not in reasons
    assert "KeyError: 'x'" in assess(runner=replace(JUST_NOW, ended_why="KeyError: 'x'"))[1]


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ({"runner": FINISHED, "state": "setup", "tables": ()}, "migrate"),
        ({"runner": replace(DEAD, command="setup"), "state": "setup", "tables": ()}, "setup"),
        ({"runner": JUST_NOW, "state": "setup", "setup_done": False, "tables": ()}, "setup"),
        ({}, "pause"),
        ({"runner": replace(ALIVE, command="rollback")}, None),
        ({"runner": ALIVE, "paused_seconds": 4.0}, "resume"),
        ({"runner": DEAD}, "migrate"),
        ({"runner": replace(DEAD, command="abort")}, "abort"),
        ({"runner": DEAD, "tables": (COPIED,)}, "verify"),
        ({"runner": FINISHED}, "migrate"),
        ({"runner": FINISHED, "tables": (COPIED,)}, "verify"),
        ({"runner": FINISHED, "tables": (COPIED,), "found": DIFFERENT}, "verify --repair"),
        ({**VERIFIED, "runner": FINISHED, "found": INTERRUPTED}, "verify"),
        ({**VERIFIED, "runner": FINISHED, "found": {**EQUAL, "stale": True}}, "verify --again"),
        ({**VERIFIED, "runner": FINISHED, "found": DIFFERENT, "captured": False}, "verify --again"),
        ({**VERIFIED, "runner": FINISHED, "blocked": "x", "blocked_command": "migrate --restart-table a"}, "BLOCKED"),
        ({**VERIFIED, "runner": FINISHED, "blocked": "x"}, "cutover"),
        ({"runner": DEAD, "blocked": "x", "blocked_command": "migrate --restart-table a"}, "BLOCKED"),
        ({**VERIFIED, "runner": FINISHED, "ending": "abort"}, "abort"),
        ({"runner": DEAD, "state": "cleaned"}, None),
    ],
)
def test_the_next_command_is_ready_to_paste(given: dict[str, Any], command: str | None) -> None:
    step = assess(**given)[4]
    if command == "BLOCKED":
        wanted = "confiture migrate schema-to-schema migrate --target 'prod new' --restart-table a"
    elif command is None:
        assert step["command"] is None
        return
    else:
        name, _, more = command.partition(" ")
        wanted = f"confiture migrate schema-to-schema {name} --target 'prod new'{' ' * bool(more)}{more}"
    assert step["command"] == wanted


@pytest.mark.parametrize(
    ("given", "commands"),
    [
        ({**VERIFIED, "runner": FINISHED}, ["cutover", "follow"]),
        ({**VERIFIED, "runner": FINISHED, "unapproved": True}, ["approve", "follow", "cutover --dry-run"]),
        (
            {**VERIFIED, "runner": replace(FINISHED, command="follow", ended_why="CannotConnect: x")},
            ["follow", "cutover"],
        ),
        ({**VERIFIED, "runner": FINISHED, "captured": False}, ["cutover"]),
        ({**SERVING, "runner": FINISHED}, ["cleanup", "follow", "rollback"]),
        ({**SERVING, "runner": FINISHED, "captured": False}, ["cleanup"]),
        ({**SERVING, "runner": FINISHED, "no_rollback": "b: no inverse"}, ["cleanup"]),
        ({**SERVING, "runner": FINISHED, "blocked": "x", "blocked_command": "follow"}, ["follow", "cleanup"]),
        ({**SERVING, "runner": FINISHED, "blocked": "x", "blocked_command": "abort"}, ["cleanup"]),
        ({**READ, "runner": FINISHED}, ["follow", "cutover", "cutover"]),
        ({**READ, "runner": FINISHED, "reads": ReadsPhase.OPENING}, ["cutover", "cutover"]),
        ({**READ, "runner": FINISHED, "reads": ReadsPhase.CLOSING}, ["cutover", "cutover", "follow"]),
        ({**READ, "runner": FINISHED, "blocked": "x", "blocked_command": "verify --again"}, ["cutover", "verify"]),
        (DIFFERS, ["cutover", "verify"]),
        ({**DIFFERS, "runner": ALIVE}, ["cutover"]),
        ({"runner": DEAD, "paused_seconds": 9.0}, ["resume", "migrate"]),
        ({**VERIFIED, "runner": FINISHED, "paused_seconds": 9.0}, ["resume", "cutover", "follow"]),
        (
            {
                "runner": FINISHED,
                "tables": (COPIED,),
                "found": DIFFERENT,
                "captured": False,
                "differing": ('public."B"',),
            },
            ["migrate", "verify"],
        ),
        (
            {"runner": FINISHED, "tables": (COPIED,), "found": DIFFERENT, "differing": ("public.b",)},
            ["verify", "migrate"],
        ),
    ],
)
def test_every_command_that_may_come_next_is_listed(given: dict[str, Any], commands: list[str]) -> None:
    step = assess(**given)[4]
    found = [_step_of(s["command"]) for s in (step, *step["alternatives"])]
    assert found == commands


def _step_of(command: str) -> str:
    """The step of a command line, with the option that makes a cutover a rehearsal."""
    step = command.removeprefix("confiture ").removeprefix("migrate schema-to-schema ").split()[0]
    return f"{step} --dry-run" if command.endswith(" --dry-run") else step


# Unfinished switchovers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "phase", "command"),
    [("verified", CutoverPhase.CLOSING, "cutover"), ("cutover", CutoverPhase.ROLLBACK_CLOSING, "rollback")],
)
@pytest.mark.parametrize("runner", [DEAD, FINISHED, JUST_NOW, LONG_AGO])
@pytest.mark.parametrize("more", [{}, {"paused_seconds": 9.0}, {"blocked": "x", "blocked_command": "migrate"}])
def test_between_closing_and_opening_only_finishing_is_offered(
    state: str, phase: CutoverPhase, command: str, runner: RunnerReport, more: dict[str, Any]
) -> None:
    severity, reasons, alone, back, step = assess(
        runner, (COPIED,), EQUAL, state=state, phase=phase, target_closed=True, **more
    )
    line = f"confiture migrate schema-to-schema {command} --target 'prod new'"
    assert severity is Severity.CRITICAL
    assert reasons.startswith(f"the {command} is not finished")
    assert alone == f"not safe to leave: finish it now: {line}"
    assert back == f"none until the {command} is finished"
    assert (step["command"], step["alternatives"]) == (line, [])


def test_a_pool_that_may_be_paused_is_named_and_not_safe_to_leave() -> None:
    severity, reasons, alone, _, step = assess(
        DEAD, (COPIED,), EQUAL, state="verified", phase=CutoverPhase.PAUSING, held="pool app"
    )
    assert severity is Severity.CRITICAL
    assert "held by pool app" in reasons
    assert alone.startswith("not safe")
    assert "pool app" in step["action"]


@pytest.mark.parametrize(
    "given",
    [{"phase": CutoverPhase.OPENED}, {"phase": CutoverPhase.ROLLBACK_OPENED}, {"blocked": "x"}, {"ending": "cleanup"}],
)
def test_undo_and_rollback_agree(given: dict[str, Any]) -> None:
    facts = Facts(**{"state": "cutover", "captured": True, "phase": CutoverPhase.DONE, **given})
    back = rollback(facts, PROD)
    assert (back["possible"], back["command"]) == (False, None)
    assert undo(facts, FINISHED, PROD) == f"not possible: {back['why']}"
    quiet = Facts("cutover", captured=True, phase=CutoverPhase.DONE)
    assert rollback(quiet, PROD)["possible"]
    assert undo(quiet, FINISHED, PROD).startswith("rollback")


# Which database takes writes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "phase", "closed", "served"),
    [
        ("setup", None, None, "source"),
        ("verified", CutoverPhase.PREPARING, None, "source"),
        ("verified", CutoverPhase.PAUSING, None, "source"),
        ("verified", CutoverPhase.CLOSING, True, "unknown"),
        ("verified", CutoverPhase.CLOSING, None, "unknown"),
        ("verified", CutoverPhase.CLOSING, False, "target"),
        ("cutover", CutoverPhase.OPENED, None, "target"),
        ("cutover", CutoverPhase.RESUMED, None, "target"),
        ("cutover", CutoverPhase.DONE, None, "target"),
        ("cutover", CutoverPhase.ROLLBACK_PREPARING, None, "target"),
        ("cutover", CutoverPhase.ROLLBACK_PAUSING, None, "target"),
        ("cutover", CutoverPhase.ROLLBACK_CLOSING, True, "unknown"),
        ("cutover", CutoverPhase.ROLLBACK_CLOSING, None, "unknown"),
        ("cutover", CutoverPhase.ROLLBACK_CLOSING, False, "target"),
        ("cutover", CutoverPhase.ROLLBACK_OPENED, None, "source"),
        ("cutover", CutoverPhase.ROLLBACK_RESUMED, None, "source"),
        ("migrating", None, None, "source"),
        ("cleaned", CutoverPhase.DONE, None, "target"),
        ("aborted", CutoverPhase.CLOSING, None, "source"),
    ],
)
def test_the_phase_determines_which_database_takes_writes(
    state: str, phase: CutoverPhase | None, closed: bool | None, served: str
) -> None:
    assert writes_served_by(state, phase, captured=True, target_closed=closed) == served


@pytest.mark.parametrize("state", STATES)
def test_without_capture_the_target_takes_writes_after_the_cutover(state: str) -> None:
    served = writes_served_by(state, None, captured=False)
    assert served == ("target" if state in ("cutover", "cleaned") else "source")


# Names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("prod_new", "prod_new"),
        ("postgresql://app@db/new", "postgresql://app@db/new"),
        ("service=new", "service=new"),
        ("postgresql://app:secret@db/new", "'user=app dbname=new host=db'"),
        ("host=db password=secret dbname=new", "'dbname=new host=db'"),
    ],
)
def test_a_printed_command_repeats_the_target_without_its_password(given: str, shown: str) -> None:
    named = naming(given, None)
    line = named.command("verify --again")
    assert "secret" not in line
    found = line.removeprefix("confiture migrate schema-to-schema verify --target ").removesuffix(" --again")
    assert sorted(found.strip("'").split()) == sorted(shown.strip("'").split())
    assert named.left_out == ("secret" in given)


def test_a_printed_command_repeats_the_given_project() -> None:
    assert naming("new", Path("my project")).command("migrate").endswith(" --target new --project 'my project'")


def test_a_command_without_its_password_has_a_hint() -> None:
    step = next_step(Facts("setup"), FINISHED, (), NOT_RUN, Naming("host=db", left_out=True))
    assert "PGPASSFILE" in step["hint"]
    assert next_step(Facts("setup"), FINISHED, (), NOT_RUN, PROD)["hint"] is None


def test_a_finished_run_is_ok() -> None:
    for state in FINAL:
        severity, reasons, alone, *_ = assess(DEAD, state=state, blocked="x", phase=CutoverPhase.CLOSING)
        assert (severity, reasons, alone) == (Severity.OK, "", "safe: the run is over")


def test_progress_never_exceeds_100_percent() -> None:
    assert replace(COPYING, rows_done=200, rows_total=90).percent == 100.0


def test_a_phase_of_a_newer_version_is_no_phase_that_this_version_knows() -> None:
    assert known(CutoverPhase, "rollback closing") is CutoverPhase.ROLLBACK_CLOSING
    assert known(CutoverPhase, "added later") is None
    assert known(CutoverPhase, None) is None


def test_readers_of_the_target_need_a_command() -> None:
    assert assess(**READ)[2:4] == ("safe", "cutover --reads-back, then abort")
    assert assess(**{**READ, "runner": FINISHED})[2] == "safe for the data; its readers need follow"
    assert assess(**DIFFERS)[2] == "safe for the data; its readers need cutover --reads-back"
