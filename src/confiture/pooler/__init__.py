"""A connection pooler between the application and the databases, paused and redirected during a cutover.

A cutover uses only the :class:`Pooler` protocol. How a pooler implements each method is its own concern. No I/O here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pool:
    """The options of the command: the console's conninfo, the pool, and its file (None: as PgBouncer reports it)."""

    conninfo: str
    name: str
    config: Path | None = None


class Pooler(Protocol):
    """The pooler that the application connects to. Each method may be repeated after a crash."""

    @property
    def name(self) -> str:
        """The name for messages and the journal, without secrets."""

    def check(self) -> None:
        """Check everything that the other methods need, without changing anything.

        :raises ConfitureError: one of the other methods would fail.
        """

    def pause(self, deadline: float) -> None:
        """Hold back new transactions and wait for the running ones; on failure the pooler is resumed.

        :param deadline: a value of ``time.monotonic()``, in seconds.
        :raises CutoverAborted: transactions are still running at the deadline.
        """

    def repoint(self) -> None:
        """Redirect connections to the new database, durably: also after a restart of the pooler."""

    def resume(self) -> None:
        """Let transactions continue, in the database that the pooler now points to. No effect if it is not paused."""
