"""One migration to run, and the means for it."""

from __future__ import annotations

from dataclasses import dataclass

from confiture.ddl import Statement
from confiture.errors import Drained
from confiture.incremental.model import Direction, Migration, Script
from confiture.migrations.attempts import Patience
from confiture.migrations.blocking import Observer
from confiture.postgres.session import Session
from confiture.runner.context import Context

#: The server refuses a statement in a transaction: a command that runs alone, or a procedure that commits.
NOT_IN_TRANSACTIONS = ("25001", "2D000")


@dataclass(frozen=True, slots=True)
class Work:
    """A migration that is to be applied or reverted.

    :ivar statements: of the file that does it.
    :ivar out_of_order: whether a later migration is applied.
    """

    migration: Migration
    direction: Direction
    statements: tuple[Statement, ...]
    out_of_order: bool = False

    @property
    def script(self) -> Script:
        """The file that runs."""
        found = self.migration.script(self.direction)
        assert found is not None, "a migration without the file is not chosen"
        return found

    @property
    def version(self) -> int:
        """The version of the migration."""
        return self.migration.version

    def place(self, statement: Statement) -> str:
        """The file, line and column of a statement."""
        return f"{self.script.path.name}:{statement.line}:{statement.column}"


@dataclass(frozen=True, slots=True)
class Means:
    """The means to run migrations.

    :ivar session: runs the statements of the files.
    :ivar in_doubt: what to do with a statement of which nothing shows whether it is done: ``again``, ``done`` or None.
    """

    context: Context
    session: Session
    observer: Observer
    patience: Patience
    in_doubt: str | None = None

    def interrupted(self) -> Drained | None:
        """The error that ends a wait between two attempts after a signal; None without a signal."""
        stop = self.context.stop
        return stop.drained() if stop.signal_number is not None else None
