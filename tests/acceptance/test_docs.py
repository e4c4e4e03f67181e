"""The documentation is correct and complete: its commands run, its examples parse, and every option is described."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from confiture import errors, mapping
from confiture.cli import app
from confiture.sql import control_migrations
from conftest import ROOT, Confiture
from mutants import MUTANTS, Mutant
from servers import Databases

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
GUIDE = ROOT / "docs" / "guide.md"


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The code blocks of a page in these languages."""
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        if language in languages:
            yield body


def commands(page: Path, *languages: str) -> list[list[str]]:
    """The ``confiture`` commands of a page, split into arguments."""
    lines = (line for body in blocks(page, *languages) for line in body.splitlines())
    words = (shlex.split(line, comments=True) for line in lines)
    found = []
    for line in words:
        if "confiture" in line:
            found.append(line[line.index("confiture") + 1 :])
    return found


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command of the tool with the path of names that leads to it."""
    for name, below in getattr(command, "commands", {}).items():
        yield from leaves(below, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


LEAVES = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_the_documentation_describes_every_command_and_option(path: tuple[str, ...]) -> None:
    assert path[-1] in TEXT
    options = [opt for p in LEAVES[path].params for opt in p.opts if opt.startswith("--") and opt != "--help"]
    missing = [option for option in options if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", TEXT)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_exists(page: Path) -> None:
    for words in commands(page, "console", "sh"):
        if words[:1] in (["--version"], ["--help"]):
            continue
        path = next((p for p in LEAVES if tuple(words[: len(p)]) == p), None)
        assert path is not None, words
        known = {opt for p in LEAVES[path].params for opt in p.opts} | {"--verbose"}
        assert {w.partition("=")[0] for w in words if w.startswith("--")} <= known, words


def test_the_commands_of_the_guide_run_as_written(databases: Databases, tmp_path: Path, confiture: Confiture) -> None:
    source = databases.cloned(
        "CREATE TABLE tb_user (id serial PRIMARY KEY, username text NOT NULL UNIQUE, settings_json text);"
        "INSERT INTO tb_user (username, settings_json) SELECT 'u' || n, '{}' FROM generate_series(1, 50) n"
    )
    databases.forget("prod_new")
    for body in blocks(GUIDE, "yaml", "sql"):
        name, _, text = body.partition("\n")
        path = tmp_path / name.lstrip("-# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for words in commands(GUIDE, "console"):
        done = confiture(*words, cwd=tmp_path, env={"PROD_URL": source.conninfo})
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("text", list(blocks(ROOT / "docs" / "mapping.md", "yaml")))
def test_the_mapping_examples_are_valid(text: str) -> None:
    _, faults = mapping.parse(text, "mapping.md")
    assert faults == ()


def test_the_state_diagram_matches_the_states() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.page() == generate.PAGE.read_text(encoding="utf-8"), "run: python docs/generate.py"


def test_the_target_of_every_link_exists() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_documentation_lists_every_exit_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    codes = {c.exit_code for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.ConfitureError)}
    for code in codes | {0, 130, 143}:
        assert f"| {code} |" in page


def test_the_documentation_lists_every_control_table() -> None:
    page = (ROOT / "docs" / "journal.md").read_text(encoding="utf-8")
    tables = re.findall(r"CREATE TABLE confiture\.(\w+)", "".join(m.text for m in control_migrations()))
    assert [t for t in tables if f"`{t}`" not in page] == []


def test_the_page_on_reliability_lists_every_mutant() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    row = r"^\| (.+?) \| `(?:integration|acceptance|unit)/test_\w+\.py`(?: `\w+`)? \|$"
    section = page.partition("## One safeguard at a time")[2]
    assert re.findall(row, section, re.MULTILINE) == [mutant.rule for mutant in MUTANTS]


# The invariants ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeldBy:
    """The tests and mutants that the page on invariants names for a rule.

    :ivar text: the whole entry ``Held by``.
    :ivar tests: each as ``path`` or ``path::name``.
    """

    text: str
    tests: tuple[str, ...]
    mutants: tuple[str, ...]


def held_by() -> dict[str, HeldBy]:
    """Each rule of the page on invariants, by its number."""
    page = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
    parts = re.split(r"^- \*\*(I-\d+\.\d+) ", page, flags=re.M)[1:]
    found = {}
    for number, body in zip(parts[::2], parts[1::2], strict=True):
        (text,) = re.findall(r"^  - Held by:(.*?)(?=^\S|^$|\Z)", body, re.M | re.S)
        names = [" ".join(name.split()) for name in re.findall(r"`([^`]+)`", text)]
        tests = tuple(name for name in names if name.startswith("tests/"))
        assert number not in found, f"{number} occurs twice"
        found[number] = HeldBy(text, tests, tuple(name for name in names if name not in tests))
    return found


HELD = held_by()


def exists(test: str) -> bool:
    path, _, name = test.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
    return bool(text) and (not name or f"\ndef {name}(" in text)


def must_fail(mutant: Mutant, test: str) -> bool:
    """Whether the mutant names this test as one that must fail."""
    path, *options = mutant.tests
    only = options[1] if options[:1] == ["-k"] else ""
    file, _, name = test.partition("::")
    return path == file and bool(name) and only in name


@pytest.mark.parametrize("number", HELD)
def test_the_tests_and_mutants_of_each_invariant_exist(number: str) -> None:
    rule = HELD[number]
    assert [test for test in rule.tests if not exists(test)] == []
    assert ("no test" in rule.text) == (not rule.tests)
    assert ("no mutant" in rule.text) == (not rule.mutants)
    known = {mutant.rule: mutant for mutant in MUTANTS}
    assert [name for name in rule.mutants if name not in known] == []
    assert [name for name in rule.mutants if not any(must_fail(known[name], test) for test in rule.tests)] == []


def test_every_referenced_invariant_is_documented() -> None:
    paths = [path for folder in ("src", "tests", "docs", "migrations_state") for path in (ROOT / folder).rglob("*.*")]
    for path in [*paths, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        if path.suffix in (".py", ".md", ".sql"):
            numbers = set(re.findall(r"\bI-\d+\.\d+", path.read_text(encoding="utf-8")))
            assert sorted(numbers - set(HELD)) == [], path
