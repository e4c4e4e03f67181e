"""Every error a user can meet: what happened, why (with the object's name), what to do.

The exit code belongs to the class, so that a command's outcome can be read off its raise.
This module imports nothing of Confiture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ConfitureError(Exception):
    """An error told in up to three lines.

    :param what: one line, what happened.
    :param why: one line, the reason, naming the object.
    :param fix: one line, what the operator does next (a command, a GRANT).
    :param detail: anything longer, shown with ``--verbose``.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.detail = detail

    def lines(self) -> list[str]:
        """The lines to print, those that are empty left out."""
        return [line for line in (self.what, self.why, self.fix) if line]


class UsageError(ConfitureError):
    """A command line or a configuration file that cannot be acted on."""

    exit_code = 2


class Fault:
    """One fault of an input file, with its place (1-based line and column)."""

    __slots__ = ("column", "file", "hint", "line", "message")

    def __init__(self, file: str, line: int, column: int, message: str, hint: str = "") -> None:
        self.file = file
        self.line = line
        self.column = column
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{place} ({self.hint})" if self.hint else place

    def __repr__(self) -> str:
        return f"Fault({self!s})"


class FaultyInput(UsageError):
    """A file with faults, all of them reported at once."""

    def __init__(self, what: str, faults: Sequence[Fault], *, fix: str = "") -> None:
        super().__init__(what, why="\n".join(str(f) for f in faults), fix=fix)
        self.faults = tuple(faults)


class CannotConnect(ConfitureError):
    """A server that cannot be reached, or does not let us in."""

    exit_code = 3


class Refused(ConfitureError):
    """A precondition refuses: nothing was changed."""

    exit_code = 4


class Blocked(Refused):
    """A fact that blocks the run until it is resolved; stored as the run's ``blocked_reason``.

    :param step: the step with its options that continues, without ``--target``; None where the same command continues.
    :param restart: names of source tables of which ``step`` copies the targets again.
    """

    def __init__(
        self, what: str, *, why: str = "", fix: str = "", step: str | None = None, restart: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.step = step
        self.restart = restart


class DataFailure(ConfitureError):
    """SQL or data failed; what is done stays done."""

    exit_code = 5


class Held(ConfitureError):
    """Another runner holds the run, or a lock was not had in time."""

    exit_code = 6


class GaveWay(Held):
    """Work was cancelled because a session of the application waited for its locks; nothing of it was committed."""


class DifferencesFound(ConfitureError):
    """Verification found rows that differ."""

    exit_code = 7


class CutoverAborted(ConfitureError):
    """The cutover was given up before its point of no return: the source serves on."""

    exit_code = 8


class CutoverUnfinished(ConfitureError):
    """The cutover stopped after its point of no return: the same command ends it."""

    exit_code = 9


class WaitedOut(ConfitureError):
    """``--wait`` ran out."""

    exit_code = 124


class Drained(ConfitureError):
    """Stopped at a checkpoint because a signal asked for it.

    :param signal_number: the signal; the exit code is 128 plus it.
    """

    def __init__(self, what: str, *, signal_number: int, fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.signal_number = signal_number
