"""The hooks of deploy/hooks/, with programs that record how they were called in place of kubectl and systemctl."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from confiture import secret_values
from confiture.config import Database
from confiture.runner.hooks import environment_of_hook, run_command
from conftest import ROOT

HOOKS = ROOT / "deploy" / "hooks"
OLD = Database("prod", "host=old.example.com port=5433 user=mover dbname=app password=canary")
NEW = Database("prod_new", "host=new.example.com port=5434 user=mover dbname='app new' password=canary")


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to which each program appends its arguments, one call per line; kubectl prints them, too."""
    log = tmp_path / "calls"
    for name in ("kubectl", "systemctl"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\ntest "$4" != "${{FAILS-none}}" && echo "$*"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    # A secret of another test that is part of the folder's name would remove it from PATH.
    monkeypatch.setattr(secret_values, "used", lambda: frozenset())
    return log


def run_hook(name: str, *arguments: str, source: Database = OLD, target: Database = NEW, **more: str) -> int:
    environment = environment_of_hook("7f3a2b1c", source, target) | more
    return run_command([str(HOOKS / name), *arguments], environment, 60)


def test_the_hook_of_kubernetes_writes_the_address_and_restarts_the_pods(recorded: Path) -> None:
    assert run_hook("kubernetes-configmap.sh", "shop", "app-database", "web") == 0
    calls = recorded.read_text().splitlines()
    create = next(call for call in calls if " create " in call)
    assert create.startswith("kubectl --namespace shop create configmap app-database ")
    for part in ("PGHOST=new.example.com", "PGPORT=5434", "PGDATABASE=app new", "--dry-run=client"):
        assert part in create
    assert sorted(calls)[0] == "kubectl --namespace shop apply --filename=-"
    assert [call for call in calls if "rollout" in call] == [
        "kubectl --namespace shop rollout restart deployment/web",
        "kubectl --namespace shop rollout status deployment/web --timeout=5m",
    ]
    assert "canary" not in recorded.read_text()


def test_the_hook_of_kubernetes_fails_with_kubectl(recorded: Path) -> None:
    assert run_hook("kubernetes-configmap.sh", "shop", "app-database", "web", FAILS="status") != 0


def test_the_hook_of_a_service_replaces_its_file_and_can_be_repeated(tmp_path: Path, recorded: Path) -> None:
    file = tmp_path / "database.env"
    arguments = ("environment-file.sh", str(file), "shop")
    assert run_hook(*arguments) == run_hook(*arguments) == 0
    assert file.read_text() == "PGHOST=new.example.com\nPGPORT=5434\nPGDATABASE=app new\n"
    assert run_hook(*arguments, source=NEW, target=OLD) == 0  # of a rollback
    assert file.read_text() == "PGHOST=old.example.com\nPGPORT=5433\nPGDATABASE=app\n"
    assert recorded.read_text().splitlines() == ["systemctl restart shop"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "calls", "database.env"]


@pytest.mark.parametrize("name", sorted(path.name for path in HOOKS.iterdir()))
def test_each_hook_is_a_valid_program_that_the_page_names(name: str) -> None:
    subprocess.run(["sh", "-n", str(HOOKS / name)], check=True)
    assert (HOOKS / name).stat().st_mode & 0o111
    assert f"deploy/hooks/{name}" in (ROOT / "docs" / "notifications.md").read_text(encoding="utf-8")
