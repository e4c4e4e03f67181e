"""The values that a step accepts and returns. The module does no I/O, so that rendering can import it."""

from __future__ import annotations

from dataclasses import dataclass

from confiture.errors import CutoverAborted
from confiture.journal.model import Difference
from confiture.types import duration


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in seconds: waiting for the locks, in each attempt and in total; and the write pause.

    :ivar terminate_blockers: terminate the sessions that block an attempt.
    :ivar max_verification_age: seconds since the last complete verification began, at most; None for any.
    """

    lock_timeout: float = 0.5
    give_up_after: float = 30.0
    max_write_pause: float = 5.0
    terminate_blockers: bool = False
    max_verification_age: float | None = None


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits for reads of the target before the cutover.

    :ivar max_staleness: seconds that the target may be behind the source.
    :ivar give_up_after: seconds to wait until it is not.
    :ivar accept_stale: accept tables that have the rows of their copy until the cutover.
    """

    max_staleness: float = 30.0
    give_up_after: float = 30.0
    accept_stale: bool = False


@dataclass(frozen=True, slots=True)
class TableResult:
    """The rows of one table: both counts, and whether every checksum is equal.

    :ivar in_cutover: the table is copied again in the cutover, and compared only there.
    """

    source: str
    target: str
    source_rows: int
    target_rows: int
    equal: bool
    in_cutover: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a verification."""

    number: int
    tables: tuple[TableResult, ...]
    checks: dict[str, bool]
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether no row, checksum or check differs."""
        return not self.differences and all(t.equal for t in self.tables) and all(self.checks.values())


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session, or a prepared transaction, that holds a conflicting lock.

    :ivar pid: process ID; None for a prepared transaction.
    :ivar started: start of its server process in seconds since the epoch; None when not visible to this role.
    :ivar state: empty when not visible to this role, as are ``seconds`` (None) and ``query``.
    :ivar seconds: since its transaction began.
    :ivar query: the first characters of its statement, without secrets.
    :ivar kind: the server's ``backend_type``.
    :ivar gid: global identifier of a prepared transaction, else None.
    """

    pid: int | None
    started: str | None
    user: str
    application_name: str
    state: str
    seconds: float | None
    query: str
    kind: str
    gid: str | None

    def __str__(self) -> str:
        if self.gid is not None:
            name = self.gid.replace("'", "''")
            return f"the prepared transaction '{name}' of {self.user}"
        session = f"{self.user}, {self.application_name or 'no name'}, {self.state or 'state not visible to this role'}"
        age = "transaction age not visible to this role"
        if self.seconds is not None:
            age = f"in a transaction for {duration(self.seconds)}"
        return f"pid {self.pid} ({session}, {age}{f': {self.query}' if self.query else ''})"

    @property
    def can_be_ended(self) -> bool:
        """Whether it is a client's session; server workers and prepared transactions cannot be terminated."""
        return self.pid is not None and self.kind in ("client backend", "")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the write pause, and the seconds it took when it was rehearsed."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The measurements of a rehearsal.

    :ivar parts: of the write pause, in their order.
    :ivar blockers: the sessions that would block the lock now.
    :ivar lock_timeout: seconds that an attempt at the lock may delay writers before the pause begins.
    :ivar problem: why a switch that began now would be aborted; None when it would succeed.
    :ivar complete: whether every part was measured; else only those that precede the problem.
    """

    parts: tuple[Part, ...]
    blockers: tuple[Blocker, ...]
    lock_timeout: float
    problem: CutoverAborted | None = None
    complete: bool = True

    @property
    def seconds(self) -> float:
        """The expected write pause in seconds, from the moment the lock is acquired."""
        return sum(p.seconds for p in self.parts)
