"""The container image, built and run where a Docker engine answers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from conftest import ROOT

TAG = "confiture-test"
#: Seconds for the engine to answer, to pull the base image, and to build.
ANSWER, PULL, BUILD = 20, 300, 600


def docker(*arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The image; skips the test where no engine runs, or where it does not reach the registry of the base image."""
    if shutil.which("docker") is None:
        pytest.skip("the command docker is not installed")
    asked = docker("info", timeout=ANSWER)
    if asked.returncode:
        pytest.skip(f"no Docker engine answers: {asked.stderr.strip()[:200]}")
    (base,) = re.findall(r"^ARG PYTHON=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    pulled = docker("pull", "--quiet", base, timeout=PULL)
    if pulled.returncode:
        pytest.skip(f"the engine cannot pull {base}: {pulled.stderr.strip()[:200]}")
    built = docker("build", "--quiet", "--tag", TAG, str(ROOT), timeout=BUILD)
    assert built.returncode == 0, built.stdout + built.stderr
    yield TAG
    docker("image", "rm", "--force", TAG, timeout=ANSWER)


@pytest.mark.timeout(ANSWER + PULL + BUILD)
def test_the_image_runs_confiture_without_root_and_without_pip(image: str) -> None:
    version = docker("run", "--rm", image, "--version", timeout=60)
    assert version.stdout.startswith("confiture "), version.stderr
    shown = docker("run", "--rm", "--entrypoint", "id", image, "-u", timeout=60)
    assert shown.stdout.strip() == "1000"
    written = docker("run", "--rm", "--entrypoint", "touch", image, "/project/written", timeout=60)
    assert written.returncode == 0, written.stderr
    module = docker("run", "--rm", "--entrypoint", "python", image, "-c", "import pip", timeout=60)
    assert "No module named 'pip'" in module.stderr
