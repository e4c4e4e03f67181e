"""The units under deploy/ and the container image: their commands exist, and what needs a person is not repeated."""

from __future__ import annotations

import json
import re
import tomllib
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from confiture.cli import app
from confiture.errors import Blocked, DataFailure, Held, Refused, UsageError

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


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


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its arguments."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in lines)]


def last_stage() -> dict[str, str]:
    """The instructions of the stage that becomes the image, by their names."""
    found = instructions()
    begin = max(place for place, (word, _) in enumerate(found) if word == "FROM")
    return dict(found[begin:])


def test_the_image_is_built_in_two_stages_on_a_base_pinned_by_its_digest() -> None:
    found = instructions()
    assert re.fullmatch(r"PYTHON=python:3\.1\d\.\d+-slim-\w+@sha256:[0-9a-f]{64}", found[0][1])
    assert [arguments for word, arguments in found if word == "FROM"] == ["${PYTHON} AS build", "${PYTHON}"]
    assert last_stage()["COPY"] == "--from=build /opt/confiture /opt/confiture"
    assert f"useradd --uid {last_stage()['USER'].partition(':')[0]} " in last_stage()["RUN"]


def test_the_image_runs_as_the_user_of_the_kubernetes_job() -> None:
    user, _, group = last_stage()["USER"].partition(":")
    assert user == group != "0"
    context = job()["spec"]["template"]["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "runAsUser": int(user)}


def test_the_image_runs_the_command_without_a_shell() -> None:
    assert json.loads(last_stage()["ENTRYPOINT"]) == ["confiture"]  # a shell would not pass SIGTERM on
    assert json.loads(last_stage()["CMD"]) == ["--help"]


def test_the_image_is_built_from_all_that_the_wheel_needs() -> None:
    copied = {name for word, names in instructions() if word == "COPY" for name in names.split()[:-1]}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name for name in copied if not name.startswith(("-", "/"))} == kept
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {settings["project"]["readme"], *settings["project"]["license-files"], "pyproject.toml"}
    needed |= {path for kind in ("force-include", "shared-data") for path in wheel.get(kind, ())}
    assert {Path(name).parts[0] for name in needed | set(wheel["packages"])} == kept
