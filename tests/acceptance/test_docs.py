"""The documentation is correct and complete: its commands run, its examples parse, and every option is described."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import typer.main

from confiture import errors, mapping, states
from confiture.cli import app
from confiture.sql import control_migrations
from conftest import ROOT, Confiture
from forked import until
from mutants import MUTANTS, Mutant
from projects import run_confiture
from servers import Databases

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
GUIDE = ROOT / "docs" / "guide.md"
IMAGES = ROOT / "docs" / "images"


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The code blocks of a page in these languages."""
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        if language in languages:
            yield body


def commands(page: Path, *languages: str) -> list[list[str]]:
    """The ``confiture`` commands of a page, as words. In a session, they stand behind a prompt."""
    lines = [
        line.removeprefix("$ ")
        for body in blocks(page, *languages)
        for line in body.splitlines()
        if line.startswith("$ ") or not body.startswith("$ ")
    ]
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
        yield path, command.called


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
    databases.adopt("prod_new")
    for body in blocks(GUIDE, "yaml", "sql"):
        name, _, text = body.partition("\n")
        path = tmp_path / name.lstrip("-# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for words in commands(GUIDE, "console"):
        done = confiture(*words, cwd=tmp_path, env={"PROD_URL": source.conninfo})
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


def test_the_commands_of_the_page_on_builds_run_as_written(
    databases: Databases, tmp_path: Path, confiture: Confiture
) -> None:
    page, database = ROOT / "docs" / "build.md", databases.make()
    for body in blocks(page, "yaml", "sql"):
        name, _, text = body.partition("\n")
        path = tmp_path / name.lstrip("-# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for words in commands(page, "console"):
        done = confiture(*words, cwd=tmp_path, env={"PROD_URL": database.conninfo})
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    assert database.value("SELECT count(*) FROM named") == 0


def test_the_commands_of_the_page_on_the_sync_run_as_written(
    databases: Databases, tmp_path: Path, confiture: Confiture
) -> None:
    page = ROOT / "docs" / "sync.md"
    for body in blocks(page, "yaml", "sql"):
        name, _, text = body.partition("\n")
        path = tmp_path / name.lstrip("-# ")
        if path.suffix in (".yaml", ".sql"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    rows = (
        "INSERT INTO customer SELECT n, 'user' || n || '@firm.ch', 'Anna ' || n, 'CH' FROM generate_series(1, 300) n;"
        "INSERT INTO orders SELECT n, 1 + n % 300, n FROM generate_series(1, 500) n; ANALYZE"
    )
    source = databases.cloned((tmp_path / "db/schema/10_shop.sql").read_text() + rows)
    environment = {
        "PRODUCTION_URL": source.conninfo,
        "LOCAL_URL": databases.make().conninfo,
        "CONFITURE_MASK_KEY": "the key of the tests, 32 bytes !",
    }
    for words in commands(page, "console"):
        done = confiture(*words, cwd=tmp_path, env=environment)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "text", [text for page in PAGES if page.stem in ("README", "mapping") for text in blocks(page, "yaml")]
)
def test_the_mapping_examples_are_valid(text: str) -> None:
    _, faults = mapping.parse(text, "mapping.md")
    assert faults == ()


def words(text: str) -> str:
    """The text without what differs between two runs: numbers, the run, the machine, and where lines are wrapped."""
    text = re.sub(r"\brun [0-9a-f]{8}\b", "run ID", re.sub(r"over from \S+ pid", "over from HOST pid", text))
    text = re.sub(r"\bseconds\b", "second", text)
    return " ".join(re.sub(r"\d[\d,.]*", "N", text).split())


def test_the_commands_of_the_readme_s_session_print_its_lines(databases: Databases, tmp_path: Path) -> None:
    """The demo's project with a hundredth of its rows, killed at a failpoint: the demo itself takes too long here."""
    _, *parts = re.split(r"^\$ confiture ", next(blocks(ROOT / "README.md", "console")), flags=re.M)
    demo = resources.files("confiture.demo")
    old = re.sub(r"\b([236]0+)00\b", r"\1", (demo / "old.sql").read_text(encoding="utf-8"))
    source = databases.cloned(old)
    databases.adopt("prod_new")
    with resources.as_file(demo / "project") as project:
        shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    environment = {"CONFITURE_DEMO_URL": source.conninfo, "COLUMNS": "80"}
    setup = "setup --source prod --target prod_new --mapping column_mapping.yaml --chunk-rows 100"
    run_confiture("migrate", "schema-to-schema", *setup.split(), cwd=tmp_path, env=environment, check=0)
    for part in parts:
        command, *lines = part.splitlines()
        kill = [line for line in lines if re.fullmatch(r"kill -9 \d+: \d+ chunks done, \d+ planned", line)]
        failpoint = {"CONFITURE_FAILPOINT": "copy.after_commit:6"} if kill else {}
        done = run_confiture(*command.split(), cwd=tmp_path, env={**environment, **failpoint})
        assert (done.returncode == -signal.SIGKILL) == bool(kill), f"{command}\n{done.stdout}\n{done.stderr}"
        if kill:
            ours = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{source.name}' AND application_name ~ '^confiture'"
            until(lambda query=ours: not source.rows(query), "the end of the sessions of the killed command")
        printed = words(done.stderr) + " " + words(done.stdout)
        for line in lines:
            if line and line not in kill:
                assert words(line) in printed, f"{command}: {line}\n{done.stdout}\n{done.stderr}"


def generator(name: str = "generate") -> ModuleType:
    """A module of ``docs/``: by default the one that draws the state diagram, which is also the hook of the site."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    return generate


def test_the_manual_page_matches_the_commands() -> None:
    manual = generator("generate_man")
    assert manual.page() == manual.PAGE.read_text(encoding="ascii"), "run: python docs/generate_man.py"


def test_man_prints_the_manual_page_without_a_warning() -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(ROOT / "man/confiture.1")],
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for path in LEAVES:
        assert f"confiture {' '.join(path)}" in done.stdout


def test_the_state_diagram_matches_the_states() -> None:
    generate = generator()
    assert generate.page() == generate.PAGE.read_text(encoding="utf-8"), "run: python docs/generate.py"


def test_the_site_draws_each_state_and_edge() -> None:
    drawn = generator().on_page_markdown(generator().PAGE.read_text(encoding="utf-8"))
    assert "```mermaid" not in drawn
    assert [state for state in states.STATES if f">{state}</text>" not in drawn] == []
    assert drawn.count("class='edge'") == len(states.EDGES)
    assert [edge for edge in states.EDGES if f">{edge.trigger}</tspan> {edge.why}</text>" not in drawn] == []


def test_the_site_nests_the_lists_of_the_pages() -> None:
    page = "- one\n  more\n  - nested\n\n  a paragraph\n- two\n\n```yaml\na:\n  b: 1\n```\n"
    wanted = "- one\n    more\n\n    - nested\n\n    a paragraph\n\n- two\n\n```yaml\na:\n  b: 1\n```\n"
    assert generator().on_page_markdown(page) == wanted


def test_the_navigation_of_the_site_has_every_page() -> None:
    pages = re.findall(r": (\w[\w-]*\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(pages) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_the_page_on_installing_lists_the_extras_for_users() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(settings["project"]["optional-dependencies"]) - {"bench", "dev", "docs"}
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").partition("## Extras")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == extras


SERVICES = sorted((ROOT / "docs").glob("provider-*.md"))


@pytest.mark.parametrize("page", SERVICES, ids=lambda page: page.stem)
def test_each_fact_about_a_managed_service_has_a_source(page: Path) -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page.read_text(encoding="utf-8"), re.M)
    questions = re.findall(r"^\| ([^|]+) \| ", SERVICES[0].read_text(encoding="utf-8"), re.M)
    assert [question for question, _, _ in rows] == questions
    ours = r"\[Confiture\]\(providers\.md#[\w-]+\)"  # advice of this project
    for question, fact, source in rows:
        assert (fact == "not stated") == (source == "not stated"), question
        sourced = re.fullmatch(rf"(\[[^]]+\]\(https://[^)]+\)(<br>)?)+|{ours}", source)
        assert source == "not stated" or sourced, question
    advice = page.read_text(encoding="utf-8").partition("\n## Before a run\n")[2]
    paragraphs = [text for text in re.split(r"\n\n|\n(?=- )", advice.strip()) if not text.endswith(":")]
    assert paragraphs
    assert [text for text in paragraphs if "](" not in text] == [], "each paragraph names its source"


def test_the_page_on_managed_services_lists_each_of_them() -> None:
    overview = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((provider-[\w-]+\.md)\) \|", overview)) == [page.name for page in SERVICES]


@pytest.mark.parametrize("name", ["states", "run"])
def test_the_dark_picture_differs_from_the_light_one_in_its_colours_only(name: str) -> None:
    light, dark = ((IMAGES / f"{name}-{theme}.svg").read_text(encoding="utf-8") for theme in ("light", "dark"))
    assert light != dark
    colour = re.compile(r"#[0-9a-f]{6}")
    assert colour.sub("", light) == colour.sub("", dark)
    assert ElementTree.fromstring(light).find("{*}desc") is not None


def test_the_picture_of_the_states_shows_each_state() -> None:
    names = [text.text for text in ElementTree.parse(IMAGES / "states-light.svg").iterfind(".//{*}text[@class='name']")]
    assert sorted(map(str, names)) == sorted(states.STATES)


def test_the_glossary_is_in_alphabetical_order_and_defines_each_term_once() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^- \*\*(.+?)\*\*:", page, re.M)
    assert terms == sorted(terms, key=str.casefold)
    assert len(terms) == len(set(terms))


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_a_page_begins_with_what_its_reader_can_do(page: Path) -> None:
    title, empty, first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert (title[:2], empty, first[:25]) == ("# ", "", "After reading this page, ")


def test_the_target_of_every_link_exists() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize(
    "page", [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_every_file_that_a_page_on_the_source_names_exists(page: Path) -> None:
    names = re.findall(r"`(?:src/confiture/)?([a-z_]+/[a-z_/]+\.(?:py|sql))`", page.read_text(encoding="utf-8"))
    assert len(names) > 5
    assert [n for n in names if not (ROOT / n).exists() and not (ROOT / "src" / "confiture" / n).exists()] == []


def test_the_documentation_lists_every_exit_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    codes = {c.exit_code for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.ConfitureError)}
    for code in codes | {0, 130, 143}:
        assert f"| {code} |" in page


def test_the_documentation_lists_every_control_table() -> None:
    page = (ROOT / "docs" / "journal.md").read_text(encoding="utf-8")
    text = "".join(m.text for m in control_migrations())
    renamed = dict(re.findall(r"ALTER TABLE confiture\.(\w+) RENAME TO (\w+)", text))
    tables = [renamed.get(t, t) for t in re.findall(r"CREATE TABLE confiture\.(\w+)", text)]
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
