"""The values of the linter: rules, findings and the statements to write instead. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from confiture.lint.locks import Lock, Work
from confiture.types import TableRef

_PAGES = "https://www.postgresql.org/docs/current/"


class Level(StrEnum):
    """The weight of a finding. Only an error changes the exit code."""

    error = "error"
    warning = "warning"
    note = "note"


@dataclass(frozen=True)
class Rule:
    """A rule.

    :ivar name: in kebab-case, for ``-- confiture: allow NAME``.
    :ivar level: of its findings, where nothing is known of the size of the table.
    :ivar summary: the statement that the rule finds, in a few words.
    :ivar page: of PostgreSQL's documentation, without the address that all share.
    """

    name: str
    level: Level
    summary: str
    page: str

    @property
    def url(self) -> str:
        """The page of PostgreSQL's documentation."""
        return _PAGES + self.page


@dataclass(frozen=True)
class Step:
    """Statements of one migration of a safe sequence.

    :ivar sql: the statements, each with its semicolon.
    :ivar transactional: whether they run in one transaction; else the first line is ``-- confiture: no-transaction``.
    :ivar before: what has to be true before this step, for a comment; empty for nothing.
    """

    sql: str
    transactional: bool = True
    before: str = ""


@dataclass(frozen=True)
class Draft:
    """The judgement of a rule on one statement, before the size of the table is weighed.

    :ivar rule: that is violated.
    :ivar reason: one sentence.
    :ivar steps: the safe sequence; empty where there is none.
    :ivar table: whose lock and work are stated; None where the statement concerns no table.
    :ivar lock: that the statement takes on the table; None where it takes none that matters.
    :ivar work: that it does under the lock.
    :ivar offset: of the part of the statement, in bytes; 0 for its beginning.
    :ivar level: where it differs from that of the rule.
    """

    rule: Rule
    reason: str
    steps: tuple[Step, ...] = ()
    table: TableRef | None = None
    lock: Lock | None = None
    work: Work = Work.none
    offset: int = 0
    level: Level | None = None


@dataclass(frozen=True)
class Size:
    """The size of a table, with its indexes and TOAST table.

    :ivar size_bytes: of all files of the table.
    :ivar rows: an estimate; None where the table was never analyzed.
    """

    size_bytes: int
    rows: int | None


@dataclass(frozen=True)
class Finding:
    """A finding, as it is reported.

    :ivar rule: the name of the rule.
    :ivar level: after the size of the table is weighed.
    :ivar file: as it was named.
    :ivar line: of the part of the statement, from 1.
    :ivar column: in characters, from 1.
    :ivar statement: on one line, truncated.
    :ivar table: that the lock concerns; None for no table.
    :ivar lock: the lock mode; None where there is none that matters.
    :ivar blocks: what the lock blocks; None without a lock.
    :ivar work: ``none``, ``rows``, ``scan``, ``build`` (of an index) or ``rewrite``: the work under the lock.
    :ivar reason: one sentence.
    :ivar size: of the table in the database; None where no database is named or it lacks the table.
    :ivar weighed: the reason for the level, where a database is named; None for the default level.
    :ivar instead: the safe sequence as SQL; None where there is none.
    :ivar page: of PostgreSQL's documentation.
    """

    rule: str
    level: Level
    file: str
    line: int
    column: int
    statement: str
    table: str | None
    lock: str | None
    blocks: str | None
    work: Work
    reason: str
    size: Size | None
    weighed: str | None
    instead: str | None
    page: str


def script(steps: Iterable[Step]) -> str | None:
    """A safe sequence as SQL, with a comment before each migration where there are several; None for no steps."""
    listed = tuple(steps)
    if not listed:
        return None
    if len(listed) == 1 and listed[0].transactional and not listed[0].before:
        return listed[0].sql
    return "\n".join(f"{_heading(number, step)}\n{step.sql}" for number, step in enumerate(listed, 1))


def _heading(number: int, step: Step) -> str:
    kind = "" if step.transactional else ", with the first line: -- confiture: no-transaction"
    before = f" ({step.before})" if step.before else ""
    return f"-- migration {number}{before}{kind}"
