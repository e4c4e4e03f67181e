"""Connection poolers between the application and the databases, paused and redirected during a cutover.

A cutover uses only the :class:`Pooler` protocol. How poolers implement each method is their own concern. No I/O here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from confiture.errors import ConfitureError


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool of the command: the console's conninfo, the pool, and its file (None: as PgBouncer reports it)."""

    conninfo: str
    name: str
    config: Path | None = None


class Pooler(Protocol):
    """The poolers that the application connects through, as one. Each method may be repeated after a crash."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each one for messages and the journal, without secrets."""

    def check(self) -> None:
        """Check everything that the other methods need, without changing anything.

        :raises ConfitureError: one of the other methods would fail.
        """

    def pause(self, deadline: float) -> None:
        """Hold back new transactions and wait for the running ones. On failure some may be paused: resume them.

        :param deadline: a value of ``time.monotonic()``, in seconds.
        :raises CutoverAborted: transactions are still running at the deadline.
        """

    def redirect(self) -> Mapping[str, ConfitureError]:
        """Redirect connections to the new database, also after a restart of a pooler, and let transactions continue.

        :returns: the error of each pooler that is not redirected, by its name. It stays paused, and does not keep the
            others from being redirected.
        """

    def resume(self) -> None:
        """Let transactions continue, in the database that each pooler now points to. No effect where none is paused.

        :raises ConfitureError: the first error, after every pooler was tried.
        """
