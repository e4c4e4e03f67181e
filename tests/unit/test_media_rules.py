"""Migrations and syncs in ``status``: severity, the next command and the text, without a database."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import reported
from confiture.render import status as render
from confiture.render.metrics import exposition
from confiture.status.details import PageFacts
from confiture.status.facts import Report, Severity
from confiture.web import page
from reported_media import (
    ABORT,
    ALIVE,
    COMMAND,
    DEAD,
    DONE,
    ENDED,
    FIRST,
    LEAKING,
    NOW,
    PROVED,
    RUN,
    SECOND,
    UNFINISHED,
    migrations,
    sync,
)  # fmt: skip

LIVE = replace(RUN, state="migrating")
KILLED = replace(LIVE, runner=DEAD)
RUNNING = replace(LIVE, runner=ALIVE)
FAILED = replace(RUN, state="aborted", runner=replace(ENDED, ended_why="DataFailure: column x does not exist"))
STOPPED = replace(RUN, state="aborted", runner=replace(ENDED, ended_why="Drained: stopped by SIGINT"))
LONG = {"pid": 7, "role": "app", "application": "web", "seconds": 900.0}
SHORT = {**LONG, "seconds": 3.0}


@pytest.mark.parametrize(
    ("given", "severity", "said", "command"),
    [
        ({}, Severity.OK, "", None),
        ({"pending": (FIRST, SECOND)}, Severity.OK, "", "migrate up"),
        ({"pending": None}, Severity.OK, "", None),
        ({"run": RUNNING, "pending": (FIRST,)}, Severity.OK, "", None),
        ({"run": replace(RUNNING, blocking=(SHORT,))}, Severity.OK, "", None),
        ({"run": replace(RUNNING, blocking=(LONG,))}, Severity.WARNING, "waiting for pid 7, role app", None),
        ({"run": RUNNING, "unfinished": (UNFINISHED,)}, Severity.OK, "", None),
        ({"run": KILLED, "unfinished": (UNFINISHED,)}, Severity.CRITICAL, "2 of 5 statements of its up", "migrate up"),
        ({"run": FAILED, "unfinished": (UNFINISHED,)}, Severity.CRITICAL, "and no command is running", "migrate up"),
        (
            {"run": KILLED, "unfinished": ({**UNFINISHED, "direction": "down"},)},
            Severity.CRITICAL, "statements of its down file are done", "migrate down",
        ),
        ({"run": KILLED, "pending": (FIRST,)}, Severity.CRITICAL, "the runner is dead", "migrate up"),
        ({"run": FAILED, "pending": (FIRST,)}, Severity.WARNING, "failed 3 minutes ago: column x", "migrate up"),
        ({"run": FAILED, "pending": None}, Severity.WARNING, "failed 3 minutes ago", None),
        ({"run": FAILED}, Severity.OK, "", None),
        ({"run": STOPPED, "pending": (FIRST,)}, Severity.OK, "", "migrate up"),
        ({"edited": ("1_a",)}, Severity.WARNING, "the file of 1_a, which is applied, was edited", "migrate status"),
        ({"missing": ("1_a",)}, Severity.WARNING, "is missing", "migrate status"),
        ({"files_problem": "x.sql:1:1: no name"}, Severity.WARNING, "x.sql:1:1: no name", "migrate status"),
        (
            {"pending": ({**FIRST, "out_of_order": True},)},
            Severity.WARNING, "is pending, and a later migration is applied", "migrate up --out-of-order",
        ),
    ],
)  # fmt: skip
def test_migrations_have_a_severity_a_reason_and_a_command(
    given: dict[str, Any], severity: Severity, said: str, command: str | None
) -> None:
    found = migrations(**given)
    assert found.severity is severity, found.reasons
    assert said in "; ".join(found.reasons)
    assert bool(found.reasons) == (severity is not Severity.OK)
    words, _, option = (command or "").partition(" --")
    wanted = f"confiture {words} --target local{' --' if option else ''}{option}"
    assert found.next["command"] == (None if command is None else wanted)
    check(Report(NOW, (), (), (found,)))


@pytest.mark.parametrize(
    ("given", "severity", "said", "command"),
    [
        ({}, Severity.OK, "", None),
        ({"runner": DEAD}, Severity.CRITICAL, "the runner is dead: silent for", COMMAND),
        ({"runner": ENDED}, Severity.CRITICAL, "1 of 1 table is not finished", COMMAND),
        ({"runner": replace(ENDED, absent_seconds=2.0)}, Severity.WARNING, "no command is running", COMMAND),
        ({"runner": DEAD, "state": "verified", "proof": PROVED}, Severity.CRITICAL, "not complete", COMMAND),
        ({"blocked": "no space", "runner": ENDED}, Severity.CRITICAL, "blocked: no space", COMMAND),
        ({"blocked": "no space"}, Severity.WARNING, "was blocked, migrate up is running again", None),
        ({"proof": LEAKING, "runner": ENDED}, Severity.CRITICAL, "in the masked column public.customer.email", COMMAND),
        ({"blocking": (LONG,)}, Severity.WARNING, "transaction 15 minutes old", None),
        ({"throttled": (400.0, "replica lag")}, Severity.WARNING, "throttled for", None),
        ({"state": "cleaned", "runner": ENDED, "proof": PROVED}, Severity.OK, "", f"{COMMAND} --replace"),
        ({"state": "aborted", "runner": DEAD}, Severity.OK, "", f"{COMMAND} --replace"),
    ],
)
def test_a_sync_has_a_severity_a_reason_and_a_command(
    given: dict[str, Any], severity: Severity, said: str, command: str | None
) -> None:
    found = sync(**given)
    assert found.severity is severity, found.reasons
    assert said in "; ".join(found.reasons)
    assert bool(found.reasons) == (severity is not Severity.OK)
    assert found.next["command"] == command
    ended = [step["command"] for step in found.next["alternatives"]]
    assert ended == ([ABORT] if found.live and not found.runner.alive else [])
    check(Report(NOW, (), (), (), (found,)))


def check(found: Report) -> None:
    """Assert that the report fits its schema, and that its text fits a terminal but for its commands."""
    jsonschema.validate(found.as_json(), json.loads((resources.files("confiture") / "schemas/status.json").read_text()))
    assert render.nagios(found).startswith(f"CONFITURE {found.severity.name} - ")
    text = render.text(found)
    assert text.startswith(f"{found.severity.name} ")
    assert all(len(line) <= 80 or line.startswith("        confiture ") for line in text.splitlines()), text
    for absent in ("Writes go to", "Rollback", "Approval", "cutover"):
        assert absent not in text


def test_the_first_line_is_that_of_the_most_severe_part() -> None:
    killed = migrations(run=KILLED, unfinished=(UNFINISHED,))
    every = Report(NOW, (replace(reported.RUN, severity=Severity.OK),), (), (killed,), (DONE,))
    assert every.severity is Severity.CRITICAL
    assert render.text(every).startswith("CRITICAL local  migrations  UNFINISHED")
    assert every.summary.startswith("local migrations unfinished, 1 applied: 20260101110000_add_email is unfinished")


def test_of_parts_that_are_equally_severe_the_live_one_comes_first() -> None:
    every = Report(NOW, (), (), (migrations(),), (DONE, sync()))
    assert [part.live for part in every.parts] == [True, False, False]


def test_a_sync_before_the_newest_one_has_one_line_below_it() -> None:
    newest = replace(sync(), id="89abcdef")
    text = render.text(Report(NOW, (), (), (), (newest, DONE)))
    assert text.count("sync 89abcdef") == 1
    assert "sync 4567cdef" not in text
    assert "Earlier 2026-01-01 11:52Z from prod by ada@ops[1]: COMPLETE, 100 rows" in text


def test_the_text_of_a_complete_sync_has_its_rules_and_its_proof() -> None:
    text = " ".join(render.text(Report(NOW, (), (), (), (DONE,))).split())
    assert "sync 4567cdef COMPLETE" in text
    assert "100 rows in 1 table, read in short snapshots, --sample 10" in text
    assert "1 column: customer.email (email); 3 copied as they are" in text
    assert "no value of 1 masked column occurs in the source" in text
    assert "2 foreign keys checked, each row has its parent" in text


def test_a_leak_is_named_with_its_numbers() -> None:
    text = render.text(Report(NOW, (), (), (), (sync(proof=LEAKING, runner=ENDED),)))
    assert "LEAK in customer.email (9 of 50 values)" in " ".join(text.split())


def test_pending_migrations_are_not_known_outside_of_a_project() -> None:
    text = " ".join(render.text(Report(NOW, (), (), (migrations(pending=None),))).split())
    assert "Pending not known: there is no folder db/migrations here; name the project with --project" in text


def test_of_a_target_with_a_live_run_only_that_one_is_waited_for() -> None:
    over = Report(NOW, (), (), (migrations(),), (DONE,))
    assert over.states == {"cleaned"}
    live = Report(NOW, (), (), (migrations(run=RUNNING),), (DONE,))
    assert live.states == {"migrating"}
    elsewhere = replace(migrations(), target="other")
    assert Report(NOW, (), (), (elsewhere,), (sync(),)).states == {"cleaned", "migrating"}


def value(found: Report, name: str, **labels: str) -> float | None:
    """The sample of a metric with these labels; None when there is none."""
    families = text_string_to_metric_families(exposition(found))
    samples = [s for f in families for s in f.samples if s.name == name and labels.items() <= s.labels.items()]
    assert len(samples) <= 1
    return samples[0].value if samples else None


def test_a_sync_has_the_metrics_of_every_run_and_its_own() -> None:
    live = Report(NOW, (), (), (), (replace(sync(), id="89abcdef"), DONE))
    assert value(live, "confiture_run_state", run="89abcdef", confiture_run_state="migrating") == 1
    assert value(live, "confiture_heartbeat_age_seconds", source="prod", target="local") == 4.0
    assert value(live, "confiture_table_rows_done", table="public.a") == 50
    assert value(live, "confiture_sync_leaking_columns") is None
    assert value(live, "confiture_writes_served_by", confiture_writes_served_by="source") is None
    leaking = Report(NOW, (), (), (), (sync(proof=LEAKING, runner=ENDED),))
    assert value(leaking, "confiture_sync_leaking_columns") == 1
    assert (
        value(Report(NOW, (), (), (), (DONE,)), "confiture_sync_ended_timestamp_seconds")
        == DONE.state_since.timestamp()
    )


def test_migrations_have_metrics_without_a_run_in_their_labels() -> None:
    found = Report(NOW, (), (), (migrations(pending=(FIRST, SECOND)),))
    assert value(found, "confiture_migrations_pending", target="local") == 2
    assert value(found, "confiture_migrations_state", confiture_migrations_state="pending") == 1
    assert value(found, "confiture_migrations_heartbeat_age_seconds") is None
    assert value(Report(NOW, (), (), (migrations(pending=None),)), "confiture_migrations_pending") is None
    killed = Report(NOW, (), (), (migrations(run=KILLED, unfinished=(UNFINISHED,)),))
    assert value(killed, "confiture_migrations_heartbeat_age_seconds") == 90.0
    assert value(killed, "confiture_migrations_unfinished") == 1
    assert value(killed, "confiture_run_state", confiture_run_state="migrating") is None


def page_of(found: Report) -> str:
    """The page about a report, which has the same identifier twice nowhere."""
    html = page.html(PageFacts(found, {}))
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    return html


def test_the_page_shows_migrations_and_syncs_with_their_commands() -> None:
    half = migrations(run=KILLED, unfinished=(UNFINISHED,), pending=(SECOND,))
    leaking = replace(sync(proof=LEAKING, runner=ENDED), id="89abcdef")
    html = page_of(Report(NOW, (reported.RUN,), (), (half,), (leaking, DONE)))
    assert html.count('<header class="banner critical">') == 3
    assert "<code>confiture migrate up --target local</code>" in html
    assert f"<code>{COMMAND}</code>" in html
    assert "2 of 5 statements of its up file done" in html
    assert "20260101113000_<bdi>index_email</bdi>" in html
    assert "Earlier syncs" in html
    assert "no run exists" not in html


def test_the_page_shows_no_value_and_no_markup_of_a_name() -> None:
    bad = "<script>alert(1)</script>"
    html = page_of(
        Report(NOW, (), (), (migrations(pending=({**FIRST, "name": bad},)),), (replace(sync(), source=bad),))
    )
    assert bad not in html
