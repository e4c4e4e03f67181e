"""The mutants fit the program: a mutant whose text has changed would break nothing."""

from __future__ import annotations

import pytest

from conftest import ROOT
from mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.rule)
def test_each_mutant_changes_a_text_that_occurs_once(mutant: Mutant) -> None:
    for path, old, new in ((mutant.path, mutant.old, mutant.new), *mutant.too):
        assert (ROOT / "src/confiture" / path).read_text(encoding="utf-8").count(old) == 1
        assert new != old
