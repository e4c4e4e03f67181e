"""The results of running migrations. The module does no I/O, so that rendering can import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from confiture.incremental.model import Direction
from confiture.incremental.standing import Judged, Standing


@dataclass(frozen=True, slots=True)
class Done:
    """A migration that a command has applied or reverted.

    :ivar version: the digits YYYYMMDDHHMMSS of a UTC time.
    :ivar seconds: that this command took for it.
    """

    version: int
    name: str
    direction: Direction
    statements: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that a statement took, beyond those of the statements before it.

    :ivar relation: as SQL, with its schema.
    :ivar kind: such as ``table``.
    :ivar mode: as in ``LOCK TABLE``, such as ACCESS EXCLUSIVE.
    :ivar bytes: of the relation with its indexes.
    :ivar rows: about as many; None when the server has no estimate.
    """

    relation: str
    kind: str
    mode: str
    bytes: int
    rows: int | None


@dataclass(frozen=True, slots=True)
class Tried:
    """A statement of a migration.

    :ivar text: on one line, truncated.
    :ivar ran: whether it ran in the transaction that was rolled back.
    :ivar reason: why it did not run, or how it failed; empty where it ran.
    """

    line: int
    column: int
    text: str
    ran: bool
    seconds: float
    locks: tuple[Lock, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A migration whose statements were tried. ``transactional`` is whether they are one transaction."""

    version: int
    name: str
    direction: Direction
    transactional: bool
    statements: tuple[Tried, ...]


Severity = Literal["OK", "WARNING", "CRITICAL"]
#: Standings that need a person before the next command.
_CRITICAL = (Standing.EDITED, Standing.MISSING, Standing.OUT_OF_ORDER)


@dataclass(frozen=True, slots=True)
class Report:
    """The migrations of a target.

    :ivar target: as the operator named it.
    :ivar statements_done: by version, for an unfinished migration.
    :ivar at_work: host, process and command of the process that runs migrations now; None when none does.
    """

    target: str
    migrations: tuple[Judged, ...]
    statements_done: dict[int, int]
    at_work: str | None

    @property
    def severity(self) -> Severity:
        """CRITICAL when ``up`` would refuse or a migration is unfinished, WARNING when one is pending or runs."""
        found = {each.standing for each in self.migrations}
        if found & {*_CRITICAL} or (Standing.UNFINISHED in found and self.at_work is None):
            return "CRITICAL"
        return "WARNING" if found - {Standing.APPLIED} else "OK"
