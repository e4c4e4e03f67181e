"""The comparison of the linter with squawk: each difference has a reason, and the page shows it."""

from __future__ import annotations

import pytest

from conftest import ROOT
from lint_corpus import CASES
from squawk_differences import REASONS, VERSION, differs, found_by, squawk, table


@pytest.fixture(scope="module")
def theirs() -> dict[str, tuple[str, ...]]:
    program = squawk()
    if program is None:
        pytest.skip(f"squawk {VERSION} is not installed: pip install 'squawk-cli=={VERSION}.*'")
    return found_by(program)


def test_each_difference_from_squawk_has_a_reason(theirs: dict[str, tuple[str, ...]]) -> None:
    explained = {name for _, names in REASONS for name in names}
    differing = {case.name for case in CASES if differs(case, theirs[case.name])}
    assert differing - explained == set()
    assert explained - differing == set()


def test_the_page_shows_each_difference_from_squawk(theirs: dict[str, tuple[str, ...]]) -> None:
    assert table(theirs) in (ROOT / "docs" / "lint.md").read_text(encoding="utf-8")


def test_no_difference_has_two_reasons() -> None:
    names = [name for _, names in REASONS for name in names]
    assert len(names) == len(set(names))
    assert set(names) <= {case.name for case in CASES}
