"""The words that the project does not use, each with the term to write in its place.

A line is exempt where it says ``wording: REASON``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

#: What users and operators read, and the source. The names of older tests still use some of the words.
PATHS = ("src", "docs", "examples", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
SUFFIXES = {".py", ".md", ".sql"}
INSTEAD = {
    r"mend(s|ed|ing)?": "fix, repair",
    r"(serves?|served|goes|go|went|going) on": "continue, is still serving",
    r"(giv(e|es|en)|gave) up": "abort, cancel",
    r"(some|no|any|every)body('s)?": "another session, no role, every role",
    r"in the way": "blocked by, blocking",
    r"not to be had|to be had|(was|is|are|were|be) not had": "could not be acquired, is not available",
    r"tells?|told": "report, print, state",
    r"even(s|ed)? out": "synchronise",
    r"(brings?|brought|comes?|going) home|way back": "reverse",
    r"(leads?|led) (over|back)": "redirect",
    r"anew": "again",
    r"lets? (in|go)": "permit, release",
    r"(holds?|held) (up|back)": "delay, block",
    r"minds": "tolerates",
    r"as ever": "as before",
    r"(has|have) not (CREATE|SELECT|USAGE)": "lacks the privilege",
}
PATTERN = re.compile("|".join(rf"(?P<w{n}>\b({words})\b)" for n, words in enumerate(INSTEAD)))
#: The name of a test that a page refers to.
TEST_NAME = re.compile(r"::test_\w+|`\w+/test_\w+\.py` .*")
#: A sentence, a title or a clause that begins with a pronoun for a person.
WHO = re.compile(r"(^|[:;.,(] ?|[\"'`] ?)[Ww]ho \w+(s|ed)\b")


def files() -> Iterator[Path]:
    """Every text of the project."""
    for root in (ROOT / name for name in PATHS):
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and path.suffix in SUFFIXES:
                yield path


def test_each_text_uses_the_terms_of_the_field() -> None:
    found = []
    for path in files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "wording:" in line:
                continue
            line = TEST_NAME.sub("", line)
            place = f"{path.relative_to(ROOT)}:{number}"
            for match in PATTERN.finditer(line):
                better = list(INSTEAD.values())[int((match.lastgroup or "w0")[1:])]
                found.append(f"{place}: {match[0]!r}, write: {better}")
            found += [f"{place}: {match[0]!r}, name the actor" for match in WHO.finditer(line)]
    assert found == [], "\n" + "\n".join(found)


@pytest.mark.parametrize("line", ["fix what differs, then go on", "the way back", "told: who waits longest"])
def test_a_word_to_avoid_is_found(line: str) -> None:  # wording: the words are the test's own
    assert PATTERN.search(line)
