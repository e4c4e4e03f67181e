"""The wheel, installed in an environment of its own, contains all that it needs and moves a database."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT
from servers import Databases, TestDatabase

pytestmark = pytest.mark.xdist_group("wheel")  # one worker builds it, once

OLD = """
CREATE TABLE tb_user (id integer PRIMARY KEY, username text NOT NULL);
INSERT INTO tb_user SELECT i, 'user ' || i FROM generate_series(1, 250) i;
"""
NEW = "CREATE TABLE tb_user (id integer PRIMARY KEY, login_name text NOT NULL);\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the installed hatchling, without a download and without a file in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel",
         "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)],
        check=True, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    (built,) = folder.glob("confiture-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``bin`` of a new environment in which the wheel is installed.

    The libraries on which it depends come from the environment of the tests, where Confiture is an editable install.
    The folder of the wheel comes first on the path, and a test checks which of the two runs.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    binaries = folder / "bin"
    (packages,) = folder.glob("lib/python*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(binaries / "python"),
         "install", "--no-deps", "--no-index", str(wheel)],
        check=True, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    # A .pth file adds only folders. Python does not read .pth files there, such as that of an editable install.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return binaries


def clean_environment() -> dict[str, str]:
    """The environment of the tests without their own path to the source."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run_confiture(installed: Path, *arguments: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    """The standard output of the installed ``confiture``, which must exit with 0."""
    done = subprocess.run(
        [installed / "confiture", *arguments],
        cwd=cwd, env={**clean_environment(), **(env or {})}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_contains_the_package_and_the_control_schema(wheel: Path) -> None:
    package = ROOT / "src"
    wanted = {
        str(path.relative_to(package))
        for path in package.glob("confiture/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    control = {f"confiture/{path.relative_to(ROOT)}" for path in ROOT.glob("migrations_state/*.sql")}
    assert control, "the control schema has moved"
    carried = set(zipfile.ZipFile(wheel).namelist())
    assert wanted | control <= carried
    assert any(name.endswith(".data/data/share/man/man1/confiture.1") for name in carried)


def test_the_wheel_contains_nothing_else(wheel: Path) -> None:
    roots = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {root for root in roots if not root.endswith((".dist-info", ".data"))} == {"confiture"}


def test_an_installed_wheel_runs_without_the_repository(installed: Path, tmp_path: Path) -> None:
    where = "import confiture; print(confiture.__file__)"
    module = subprocess.check_output(
        [installed / "python", "-c", where], text=True, cwd=tmp_path, env=clean_environment()
    )
    assert Path(module).is_relative_to(installed.parent)
    assert run_confiture(installed, "--version", cwd=tmp_path).startswith("confiture ")


def test_an_installed_wheel_moves_a_database(installed: Path, tmp_path: Path, databases: Databases) -> None:
    source = databases.cloned(OLD)
    target = TestDatabase(databases.server, f"{source.name}_new")
    databases.adopt(target.name)
    environments = tmp_path / "db/environments"
    environments.mkdir(parents=True)
    (environments / "old.yaml").write_text("database_url: ${OLD_URL}\n")
    (environments / "new.yaml").write_text(f"like: old\ndatabase: {target.name}\n")
    schema = tmp_path / "db/schema/10_users"
    schema.mkdir(parents=True)
    (schema / "10_user.sql").write_text(NEW)
    (tmp_path / "column_mapping.yaml").write_text("tb_user:\n  username: login_name\n")

    def step(name: str, *options: str) -> None:
        command = ("migrate", "schema-to-schema", name, "--target", "new", *options)
        run_confiture(installed, *command, cwd=tmp_path, env={"OLD_URL": source.conninfo})

    step("setup", "--source", "old", "--mapping", "column_mapping.yaml", "--chunk-rows", "100")
    step("migrate")
    step("verify")
    copied = target.rows("SELECT id, login_name FROM public.tb_user ORDER BY id")
    assert copied == source.rows("SELECT id, username FROM tb_user ORDER BY id")
    assert len(copied) == 250
    run_confiture(
        installed, "status", "--target", "new", "--html", "page.html", cwd=tmp_path, env={"OLD_URL": source.conninfo}
    )
    assert "tb_user" in (tmp_path / "page.html").read_text()


def completions(installed: Path, folder: Path, line: str) -> list[str]:
    """The words that bash offers for the last word of a line, after the command of the page on installation."""
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    (command,) = re.findall(r'`(eval "\$\(confiture .*?\)")`', page)
    script = f"{command}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
    script += (
        "$(complete -p confiture | sed 's/.*-F \\([^ ]*\\) .*/\\1/') confiture; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    path = {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=folder, env={**clean_environment(), **path}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_bash_completes_commands_options_and_environments(installed: Path, tmp_path: Path) -> None:
    environments = tmp_path / "db/environments"
    environments.mkdir(parents=True)
    for name in ("prod", "prod_new", "test"):
        (environments / f"{name}.yaml").write_text("database_url: postgresql://db/app\n")
    assert completions(installed, tmp_path, "confiture stat") == ["status"]
    cutover = "confiture migrate schema-to-schema cutover"
    assert completions(installed, tmp_path, f"{cutover} --terminate-b") == ["--terminate-blockers"]
    assert completions(installed, tmp_path, f"{cutover} --target prod") == ["prod", "prod_new"]


#: An index that could not be reached, in the words of uv and of pip.
NO_INDEX = re.compile(r"Failed to fetch|Could not connect|dns error|Connection|Temporary failure|timed out|No matching")


@pytest.mark.parametrize("installer", ["pipx", "uv tool"])
def test_pipx_and_uv_install_the_command(wheel: Path, installer: str, tmp_path: Path) -> None:
    name, *group = installer.split()
    program = Path(sys.executable).parent / name
    if not program.exists():
        pytest.skip(f"{name} is not installed beside {sys.executable}; the extra dev contains it")
    folders = {
        "PIPX_HOME": "tools", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man",
        "UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin",
    }  # fmt: skip
    environment = {**clean_environment(), **{variable: str(tmp_path / f) for variable, f in folders.items()}}
    done = subprocess.run(
        [program, *group, "install", "--python", sys.executable, str(wheel)],
        env=environment, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    if done.returncode and NO_INDEX.search(done.stdout + done.stderr):
        pytest.skip(f"{installer} reaches no index of packages: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run_confiture(tmp_path / "bin", "--version", cwd=tmp_path).startswith("confiture ")
    manual = {"pipx": "man/man1/confiture.1", "uv tool": "tools/confiture/share/man/man1/confiture.1"}[installer]
    assert (tmp_path / manual).read_text() == (ROOT / "man/confiture.1").read_text()
