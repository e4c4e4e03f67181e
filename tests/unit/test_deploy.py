"""The units under deploy/ and the container image: their commands exist, and what needs a person is not repeated."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
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


def unit(name: str) -> dict[str, str]:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / f"confiture-{name}.service")
    return dict(parser["Service"])


def job(name: str) -> dict[str, Any]:
    """The specification of a Job, or that of the Jobs of a CronJob."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / f"kubernetes-{name}.yaml").read_text())["spec"]
    return dict(found.get("jobTemplate", {"spec": found})["spec"])


UNITS = ("migrate", "follow")
JOBS = ("job", "follow-job", "follow-cronjob")
NEED_A_PERSON = {e.exit_code for e in (UsageError, Refused, Blocked, DataFailure)}


def test_every_file_for_deployment_is_tested() -> None:
    names = {f"confiture-{name}.service" for name in UNITS} | {f"kubernetes-{name}.yaml" for name in JOBS}
    assert {path.name for path in DEPLOY.iterdir() if path.is_file()} == names


@pytest.mark.parametrize("name", UNITS)
def test_the_systemd_unit_calls_a_command_that_exists(name: str) -> None:
    arguments = unit(name)["ExecStart"].split()
    assert {a for a in arguments if a.startswith("--")} <= options_of(arguments)


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / f"confiture-{name}.service").read_text()
    copy = tmp_path / f"confiture-{name}.service"
    copy.write_text(text.replace("/usr/local/bin/confiture", "/bin/true").replace("confiture-migrate.service", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in done.stderr.splitlines() if copy.name in line]
    assert ours == [], done.stderr


@pytest.mark.parametrize("name", JOBS)
def test_the_kubernetes_job_calls_a_command_that_exists(name: str) -> None:
    (container,) = job(name)["template"]["spec"]["containers"]
    arguments = [*container["command"], *container["args"]]
    assert {a for a in arguments if a.startswith("--")} <= options_of(arguments)


@pytest.mark.parametrize("name", JOBS)
def test_an_exit_code_that_needs_a_person_is_not_repeated(name: str) -> None:
    codes = set(job(name)["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"])
    # The CronJob repeats by itself what another command has prevented.
    assert codes == NEED_A_PERSON | ({Held.exit_code} if name == "follow-cronjob" else set())


def test_a_unit_repeats_what_needs_no_person() -> None:
    codes = {name: {int(c) for c in unit(name)["RestartPreventExitStatus"].split()} for name in UNITS}
    # `follow` waits for the end of a cutover; a second `migrate` is a mistake.
    assert codes == {"migrate": NEED_A_PERSON | {Held.exit_code}, "follow": NEED_A_PERSON}


def test_a_stopped_command_has_the_time_to_complete_its_chunks() -> None:
    for name in UNITS:
        assert unit(name)["KillMode"] == "mixed"  # the workers are stopped by their runner
        assert int(unit(name)["TimeoutStopSec"]) >= 30
    for name in JOBS:
        assert job(name)["template"]["spec"]["terminationGracePeriodSeconds"] >= 30


def test_kubernetes_starts_one_runner_at_a_time() -> None:
    assert job("job")["parallelism"] == job("follow-job")["parallelism"] == 1
    cron = yaml.safe_load((DEPLOY / "kubernetes-follow-cronjob.yaml").read_text())["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"


def test_the_page_on_jobs_names_every_unit() -> None:
    page = (ROOT / "docs/parallel.md").read_text()
    for path in DEPLOY.iterdir():
        assert not path.is_file() or f"`{path.name}`" in page


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


def test_the_image_runs_as_the_user_of_the_kubernetes_jobs() -> None:
    user, _, group = last_stage()["USER"].partition(":")
    assert user == group != "0"
    for name in JOBS:
        context = job(name)["template"]["spec"]["securityContext"]
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
