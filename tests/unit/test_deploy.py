"""The units under deploy/ call commands and options that exist, and do not repeat what needs a person."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from confiture.cli import app
from confiture.errors import Blocked, DataFailure, Held, Refused, UsageError

DEPLOY = Path(__file__).parents[2] / "deploy"


def options_of(arguments: list[str]) -> set[str]:
    """The options of the command that the arguments call, as its help lists them."""
    shown = CliRunner().invoke(app, [*arguments[1:4], "--help"])
    assert shown.exit_code == 0, shown.output
    return set(re.findall(r"--[a-z-]+", shown.output))


def unit() -> dict[str, str]:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "confiture-migrate.service")
    return dict(parser["Service"])


def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes-job.yaml").read_text())
    return found


def test_the_systemd_unit_calls_a_command_that_exists() -> None:
    arguments = unit()["ExecStart"].split()
    assert {a for a in arguments if a.startswith("--")} <= options_of(arguments)


def test_the_kubernetes_job_calls_a_command_that_exists() -> None:
    (container,) = job()["spec"]["template"]["spec"]["containers"]
    arguments = [*container["command"], *container["args"]]
    assert {a for a in arguments if a.startswith("--")} <= options_of(arguments)


def test_an_exit_code_that_needs_a_person_is_not_repeated() -> None:
    need_a_person = {e.exit_code for e in (UsageError, Refused, Blocked, DataFailure)}
    assert {int(c) for c in unit()["RestartPreventExitStatus"].split()} == need_a_person | {Held.exit_code}
    rules = job()["spec"]["podFailurePolicy"]["rules"]
    assert set(rules[0]["onExitCodes"]["values"]) == need_a_person


def test_a_stopped_command_has_the_time_to_complete_its_chunks() -> None:
    assert unit()["KillMode"] == "mixed"  # the workers are stopped by their runner
    assert int(unit()["TimeoutStopSec"]) >= 30
    assert job()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 30
    assert job()["spec"]["parallelism"] == 1


def test_the_page_on_jobs_names_both_units() -> None:
    page = (DEPLOY.parent / "docs/parallel.md").read_text()
    assert re.search(r"`deploy/` contains a systemd unit and a Kubernetes Job", page)
