"""A connection pooler in front of the application, held and re-pointed while the databases change roles.

The cutover knows it as a :class:`Gate`; what stands behind one is its own affair.
"""

from __future__ import annotations

from typing import Protocol


class Pooler(Protocol):
    """What the application's connections pass through. Each act may be repeated after a crash."""

    @property
    def name(self) -> str:
        """For people and the journal; no secret in it."""

    def check(self) -> None:
        """Everything that later acts need.

        :raises ConfitureError: when one of them would fail; nothing was changed.
        """

    def pause(self, deadline: float) -> None:
        """Hold new transactions back and wait for those under way; opened again when it fails.

        :param deadline: by ``time.monotonic()``.
        :raises CutoverAborted: when transactions are under way still.
        """

    def repoint(self) -> None:
        """Lead to the new database, now and after a restart of the pooler."""

    def resume(self) -> None:
        """Let transactions go on, to wherever it leads; nothing to do where it is not held."""
