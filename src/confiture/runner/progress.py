"""Where a step reports its progress: a terminal, a log, or nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Activity(StrEnum):
    """What a step does with the rows of a table, or has done with all of them."""

    COPYING = "copying"
    COPIED = "copied"
    COMPARING = "comparing"
    COMPARED = "compared"

    @property
    def ended(self) -> bool:
        """Whether every row of the table is done."""
        return self in (Activity.COPIED, Activity.COMPARED)


class Progress(Protocol):
    """Where a step says how far it is; a terminal, a log, or nothing."""

    def say(self, text: str) -> None:
        """A whole line, once."""

    def table(self, name: str, done: int, total: int, activity: Activity) -> None:
        """Rows done of an estimated total of one table."""


class Silent:
    """A Progress that reports nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def table(self, name: str, done: int, total: int, activity: Activity) -> None:
        """Nothing."""
