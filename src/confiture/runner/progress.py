"""Where a step reports its progress: a terminal, a log, or nothing."""

from __future__ import annotations

from typing import Protocol

from confiture.types import Activity


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
