"""The imports of a command when it starts, counted in modules and not in seconds."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer

from confiture.cli import app
from confiture.cli.command import Later
from confiture.cli.help_texts import SUMMARIES
from imported import modules_of, of_confiture

#: The libraries that only commands need, and rich, which draws their progress.
LIBRARIES = {"sqlalchemy", "psycopg", "yaml", "transitions", "tenacity", "rich", "jinja2", "starlette", "uvicorn"}
LIBRARIES |= {"networkx"}
#: The modules that print a help: four of the command line, the errors, the log and the package.
MODULES = 7


def commands() -> dict[str, Later]:
    top: Any = typer.main.get_command(app)
    migrate = top.commands["migrate"]
    groups = (top, migrate, migrate.commands["schema-to-schema"])
    return {found.key: found for group in groups for found in group.commands.values() if isinstance(found, Later)}


def test_help_validates_no_option() -> None:
    assert "pydantic" not in modules_of("--help")  # typer imports it to convert the first option's value


@pytest.mark.parametrize(
    "words", [("--help",), (), ("migrate", "schema-to-schema", "--help"), ("--version",), ("statsu",)], ids=" ".join
)
def test_help_imports_no_library_that_only_commands_need(words: tuple[str, ...]) -> None:
    imported = modules_of(*words)
    assert imported & LIBRARIES == set()
    assert len(of_confiture(imported)) <= MODULES, of_confiture(imported)


@pytest.mark.parametrize("words", ["confiture sta", "confiture migrate schema-to-schema ", "confiture --"])
def test_completing_the_name_of_a_command_imports_as_little(words: str) -> None:
    imported = modules_of(_CONFITURE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert imported & LIBRARIES == set()
    assert len(of_confiture(imported)) <= MODULES, of_confiture(imported)


def test_importing_the_entry_point_runs_no_command() -> None:
    program = "import sys, confiture.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, "--bogus"], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & LIBRARIES == set()


def test_a_summary_is_the_first_sentence_of_the_command() -> None:
    assert set(commands()) == set(SUMMARIES)
    for name, command in commands().items():
        assert (command.called.help or "").partition("\n\n")[0].replace("\n", " ") == SUMMARIES[name]
