"""The commands of all media: the same options, exit codes and form of errors, command by command."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import typer.main

from confiture.cli import app
from projects import call_confiture, error

MOVE = ("migrate", "schema-to-schema")
#: Commands that hold a run: they announce its events.
HOLDING = {
    ("sync",),
    *(("migrate", command) for command in ("up", "down", "baseline")),
    *((*MOVE, step) for step in ("setup", "migrate", "verify", "cutover", "rollback", "cleanup")),
    *((*MOVE, step) for step in ("run", "follow", "abort")),
}
#: Commands without a database, or without a document of JSON.
WITHOUT_TARGET = {("build",), ("demo",), ("init",), ("schema",), ("migrate", "generate")}
WITHOUT_JSON = {("demo",), ("grants",), ("init",), ("schema",), ("serve",)}
#: Commands that exit as monitoring plugins do.
MONITORING = {("status",), ("migrate", "status")}
#: Further arguments that a command requires.
MORE: dict[tuple[str, ...], tuple[str, ...]] = {
    (*MOVE, "preview"): ("--table", "item"),
    (*MOVE, "throttle"): ("--off",),
    ("grants",): ("--viewer", "someone"),
    ("migrate", "baseline"): ("20260101000001",),
    ("sync",): ("--from", "prod"),
    **{(*MOVE, step): ("--source", "prod") for step in ("setup", "plan", "run")},
}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from leaves(below, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command.called


COMMANDS = dict(leaves(typer.main.get_command(app)))
WITH_TARGET = sorted(set(COMMANDS) - WITHOUT_TARGET)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose environment ``prod`` names a server that does not answer."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    for name in ("prod", "other"):
        file = tmp_path / f"db/environments/{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"database_url: postgresql://me@127.0.0.1:{port}/{name}\n")
    (tmp_path / "db/migrations").mkdir()
    (tmp_path / "db/schema").mkdir()
    (tmp_path / "db/schema/item.sql").write_text("CREATE TABLE item (id int PRIMARY KEY);\n")
    for direction in ("up", "down"):
        (tmp_path / f"db/migrations/20260101000001_a.{direction}.sql").write_text("SELECT 1;\n")
    return tmp_path


def options(path: tuple[str, ...]) -> set[str]:
    return {name for parameter in COMMANDS[path].params for name in parameter.opts if name.startswith("--")}


def target_option(path: tuple[str, ...]) -> str:
    return "--to" if path == ("sync",) else "--target"


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=" ".join)
def test_each_command_has_the_options_that_all_of_its_kind_have(path: tuple[str, ...]) -> None:
    found = options(path)
    assert ("--hook" in found) == (path in HOLDING)
    assert ("--format" in found) == (path not in WITHOUT_JSON)
    assert ("--project" in found) == (path not in {("demo",), ("schema",)})
    assert (target_option(path) in found) == (path not in WITHOUT_TARGET)


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=" ".join)
def test_an_unknown_option_is_a_usage_error_of_each_command(path: tuple[str, ...], tmp_path: Path) -> None:
    done = call_confiture(*path, "--no-such-option", cwd=tmp_path, env={}, check=3 if path in MONITORING else 2)
    assert done.stdout == ""
    assert "Usage: confiture" in done.stderr
    assert "--no-such-option" in done.stderr


@pytest.mark.parametrize("path", WITH_TARGET, ids=" ".join)
def test_an_unknown_environment_is_named_by_each_command(path: tuple[str, ...], folder: Path) -> None:
    given = (target_option(path), "othr", *MORE.get(path, ()))
    env = {"CONFITURE_MASK_KEY": "the key of the tests, 32 bytes !"}
    code = 3 if path in MONITORING | {(*MOVE, step) for step in ("setup", "plan", "run")} else 2
    done = call_confiture(*path, *given, cwd=folder, env=env, check=code)
    if path in {(*MOVE, step) for step in ("setup", "plan", "run")}:
        return  # the database may be one to create: the server is asked
    assert "'othr'" in error(done)
    assert "did you mean other?" in error(done)


@pytest.mark.parametrize("path", sorted(set(WITH_TARGET) - {("serve",)}), ids=" ".join)
def test_a_server_that_does_not_answer_is_exit_code_3_of_each_command(path: tuple[str, ...], folder: Path) -> None:
    given = (target_option(path), "other", *MORE.get(path, ()))
    env = {"CONFITURE_MASK_KEY": "the key of the tests, 32 bytes !"}
    done = call_confiture(*path, *given, cwd=folder, env=env, check=3)
    assert "cannot connect to" in (done.stdout + done.stderr)


@pytest.mark.parametrize(
    "name", sorted(f.name for f in (resources.files("confiture") / "schemas").iterdir() if f.name.endswith(".json"))
)
def test_each_document_has_a_version_that_is_required(name: str) -> None:
    schema = json.loads((resources.files("confiture") / "schemas" / name).read_text(encoding="utf-8"))
    assert "schema_version" in schema["required"]
