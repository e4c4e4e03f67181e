"""The page on the linter, and the error without its parser."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from confiture.commands import lint
from confiture.errors import UsageError
from confiture.lint.rules import FAMILIES, RULES, files
from confiture.lint.weights import LARGE_TABLE_BYTES, SMALL_TABLE_BYTES
from confiture.types import parsed_size
from conftest import ROOT
from lint_corpus import CASES

PAGE = (ROOT / "docs/lint.md").read_text(encoding="utf-8")


def test_the_page_lists_each_rule_with_its_level_and_its_source() -> None:
    rows = re.findall(r"^\| \[([a-z-]+)\]\((\S+)\) \| (\w+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [(rule.name, rule.url, str(rule.level), rule.summary) for rule in RULES.values()]


def test_no_two_rules_have_the_same_name() -> None:
    assert len(RULES) == sum(len(family.RULES) for family in (*FAMILIES, files))


def test_the_page_states_the_thresholds_and_the_size_of_the_corpus() -> None:
    assert parsed_size("16MiB") == SMALL_TABLE_BYTES
    assert parsed_size("10GB") == LARGE_TABLE_BYTES
    assert "up to 16 MiB" in PAGE
    assert "of 10 GB or more" in PAGE
    harmless = sum(not case.rules for case in CASES)
    assert f"has {len(CASES)} cases, of which {harmless} are harmless" in PAGE


@pytest.mark.parametrize(
    ("sql", "fix"),
    [
        ("", "correct the file: migrate up refuses it"),
        ("SELECT FROM WHERE", "correct the file: migrate up refuses it"),
        ("VACUUM t", "write above the statement: -- confiture: allow outside-transaction-only"),
    ],
)
def test_no_fault_of_a_file_is_to_be_allowed(tmp_path: Path, sql: str, fix: str) -> None:
    path = tmp_path / "20260101000001_a.up.sql"
    path.write_text(sql)
    error = lint.errors_found(lint.judge(tmp_path, [path], None, None))
    assert error is not None
    assert error.fix.endswith(fix)


def test_without_its_parser_the_command_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert extras["lint"] == [lint.PACKAGE]
    monkeypatch.setitem(sys.modules, "postgast", None)
    with pytest.raises(UsageError) as refused:
        lint.judge(tmp_path, [tmp_path / "a.sql"], None, None)
    assert f"pip install '{lint.PACKAGE}'" in refused.value.fix
