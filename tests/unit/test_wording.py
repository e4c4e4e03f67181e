"""The words that the project does not use, each with the term to write in its place.

A line is exempt where it says ``wording: REASON``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

#: The pages for users, the source, and the tests.
PATHS = ("src", "docs", "examples", "tests", "benchmarks", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
SUFFIXES = {".py", ".md", ".sql"}
#: The longest name of a test, so that a line of pytest's output shows it whole.
NAME_LENGTH = 72
INSTEAD = {
    r"mend(s|ed|ing)?": "fix, repair",
    r"(serves?|served|goes|go|went|going) on": "continue, is still serving",
    r"(giv(e|es|en)|gave) up(?! after)": "abort, cancel",
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
    r"test (who|whoever|what|whatever)": "name the actor or the object",
    r"remember(s|ed|ing)?|forg[eo]t(s|ting|ten)?": "record, discard",
    r"touched": "changed",
    r"(brings?|brought|carr(y|ies|ied)) over": "apply",
    r"journaled": "resumable",
    r"inverse (mapping|views?)": "reverse",
    r"for ever|by then|half-?way|at hand": "name the moment",
    r"meanwhile(?![:=(,)])": "in between, at the same time",
    r"stumbles?|quicker|kept away|under way": "fail, faster, blocked, in progress",
    r"(say|says|said) so": "report, print, state",
    r"(pool|pooler|pool\W.{1,20}) (leads?|led) to": "point to",
}
PATTERN = re.compile("|".join(rf"(?P<w{n}>\b({words})\b)" for n, words in enumerate(INSTEAD)))
#: The name of a test, a function or a value, whose words are separated by underscores.
NAME = re.compile(r"\b[a-z]\w*_\w+")
#: A sentence, a title or a clause that begins with a pronoun for a person.
WHO = re.compile(r"(^|[:;.,(] ?|[\"'`] ?|-- |# |#: |\b(see|sees|know|knows|of|on|by) )[Ww]ho \w+(s|ed)\b")
#: A docstring or a comment that begins with a clause in place of a noun.
WHAT = re.compile(r"^\s*(\"\"\"|#:? |-- )(What|Who) \w")


def files() -> Iterator[Path]:
    """Every text of the project, except this list of words."""
    for root in (ROOT / name for name in PATHS):
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and path.suffix in SUFFIXES and path != Path(__file__).resolve():
                yield path


def avoided(line: str) -> list[str]:
    """The words of a line, and of the names in it, that the project does not use."""
    if "wording:" in line:
        return []
    clause = [f"{match[0].strip()!r}, write: a noun" for match in WHAT.finditer(line)]
    line = NAME.sub(lambda name: name[0].replace("_", " "), line)
    found = []
    for match in PATTERN.finditer(line):
        better = list(INSTEAD.values())[int((match.lastgroup or "w0")[1:])]
        found.append(f"{match[0]!r}, write: {better}")
    return found + clause + [f"{match[0]!r}, name the actor" for match in WHO.finditer(line)]


def test_each_text_uses_the_terms_of_the_field() -> None:
    found = []
    for path in files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found += [f"{path.relative_to(ROOT)}:{number}: {words}" for words in avoided(line)]
    assert found == [], "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "fix what differs, then go on",
        "the way back",
        "told: who waits longest",
        "def test_a_row_is_mended() -> None:",
        "no_way_back: str | None",
        '    """What a task returned."""',
        "-- Who runs the run",
        "see who runs it",
        "the pool leads to the target",
        "a change that was made meanwhile.",
    ],
)
def test_a_word_to_avoid_is_found(line: str) -> None:
    assert avoided(line)


def test_the_name_of_each_test_is_short() -> None:
    names = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(encoding="utf-8"), re.M)
        if len(name) > NAME_LENGTH
    ]
    assert names == [], "\n" + "\n".join(names)
