"""The values of incremental migrations: files, and the rows of the ledger."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path


class Direction(StrEnum):
    """Whether the file of a migration that applies it runs, or the one that reverts it."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Script:
    """One file of a migration.

    :ivar text: its contents without a byte order mark.
    :ivar transactional: whether all its statements are one transaction.
    """

    path: Path
    text: str
    transactional: bool

    @property
    def checksum(self) -> str:
        """The SHA-256 of the text in hexadecimal; a checkout with other line ends has the same."""
        return digest(self.text)


def digest(text: str) -> str:
    """The SHA-256 of a text in hexadecimal, with each CRLF as LF."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration as the files have it.

    :ivar version: the digits YYYYMMDDHHMMSS of a UTC time.
    :ivar down: None when it has no such file.
    """

    version: int
    name: str
    up: Script
    down: Script | None

    @property
    def label(self) -> str:
        """The version and the name, as its files begin."""
        return f"{self.version}_{self.name}"

    def script(self, direction: Direction) -> Script | None:
        """The file of a direction; None when there is none."""
        return self.up if direction is Direction.UP else self.down


@dataclass(frozen=True, slots=True)
class Entry:
    """The row of the ledger for one migration: its last execution.

    :ivar done: False while the statements of ``direction`` are not all done.
    :ivar down_checksum: of the file when the migration was applied; None without one.
    :ivar out_of_order: whether it was applied below a migration that was applied before.
    :ivar baseline: whether it was recorded without being run.
    :ivar run: the short name of the run.
    :ivar role: of the session that wrote it, as the server knows it.
    :ivar actor: user, host and process of the command.
    :ivar seconds: that its statements took; None for a baseline and while it is not done.
    """

    version: int
    name: str
    direction: Direction
    done: bool
    up_checksum: str
    down_checksum: str | None
    out_of_order: bool
    baseline: bool
    run: str
    role: str
    actor: str
    tool_version: str
    begun_at: datetime
    done_at: datetime | None
    seconds: float | None

    @property
    def label(self) -> str:
        """The version and the name, as its files begin."""
        return f"{self.version}_{self.name}"

    @property
    def applied(self) -> bool:
        """Whether the whole migration is applied."""
        return self.direction is Direction.UP and self.done

    @property
    def reverted(self) -> bool:
        """Whether the whole migration is reverted, so that it is pending again."""
        return self.direction is Direction.DOWN and self.done


@dataclass(frozen=True, slots=True)
class Progress:
    """The ledger's row for one statement of a migration that is not transactional.

    :ivar number: counts the statements of the file from 1.
    :ivar digest: of its text.
    :ivar done: False for the one that was begun and of which the ledger does not know whether it is done.
    """

    number: int
    digest: str
    done: bool
