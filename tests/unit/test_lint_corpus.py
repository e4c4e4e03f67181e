"""The linter finds what each statement of the corpus must have, and raises no false alarm."""

from __future__ import annotations

from collections import Counter

import pytest

from lint_corpus import CASES, Case, found_in


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_statement_has_exactly_its_findings(case: Case) -> None:
    assert sorted(finding.rule for finding in found_in(case)) == sorted(case.rules)


def test_each_case_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


def test_the_corpus_has_statements_with_findings_and_harmless_ones() -> None:
    harmless = [case for case in CASES if not case.rules]
    assert len(CASES) >= 120
    assert len(harmless) >= 60
