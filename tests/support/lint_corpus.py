"""The corpus of the linter: statements, each with the rules whose findings it must have, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confiture.lint import check, script
from confiture.lint.model import Finding
from confiture.lint.script import Script

FOLDER = Path(__file__).parent / "lint"
#: The tables that the statements change.
SCHEMA = (FOLDER / "schema.sql").read_text(encoding="utf-8")
_OUTSIDE = "-- confiture: no-transaction\n"


@dataclass(frozen=True)
class Case:
    """Statements of one file.

    :ivar rules: of the findings, in their order.
    :ivar transactional: whether they run in one transaction.
    :ivar fails: whether the server refuses them.
    :ivar since: the first major version of PostgreSQL that accepts them; 0 for every one.
    """

    name: str
    sql: str
    rules: tuple[str, ...]
    transactional: bool
    fails: bool
    since: int

    @property
    def text(self) -> str:
        """The file."""
        return self.sql if self.transactional else _OUTSIDE + self.sql

    @property
    def script(self) -> Script:
        """The file as the linter reads it."""
        return script.read(f"{self.name}.up.sql", self.text)


def _cases() -> Iterator[Case]:
    text = (FOLDER / "corpus.sql").read_text(encoding="utf-8")
    for part in re.split(r"^-- case: ", text, flags=re.MULTILINE)[1:]:
        name, *lines = part.strip().splitlines()
        marks = [line for line in lines if line.startswith("--")]
        found = next(line for line in marks if line.startswith("-- finds:")).partition(":")[2]
        since = next((int(line.partition(":")[2]) for line in marks if line.startswith("-- since:")), 0)
        yield Case(
            name,
            "\n".join(line for line in lines if line not in marks),
            tuple(rule.strip() for rule in found.split(",") if rule.strip()),
            "-- outside" not in marks,
            "-- fails" in marks,
            since,
        )


CASES = tuple(_cases())


def existing() -> Script:
    """The file that has created the tables."""
    return script.read("20200101000000_tables.up.sql", SCHEMA)


def found_in(case: Case) -> list[Finding]:
    """The findings of a case, after the file that has created the tables."""
    mine = case.script
    return [finding for finding in check.findings([existing(), mine]) if finding.file == mine.file]
