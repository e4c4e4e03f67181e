"""Every error that a user can see: what happened, why (with the object's name), and what to do next.

Each class has its exit code. ``cli/exit_codes.py`` has the codes of all other outcomes.
This module imports nothing of Confiture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ConfitureError(Exception):
    """An error that is printed in up to three lines.

    :param what: what happened, in one line.
    :param why: the reason, in one line, with the object's name.
    :param fix: what the operator does next, in one line (a command, a GRANT).
    :param detail: further details, printed with ``--verbose``.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.detail = detail

    def lines(self) -> list[str]:
        """The lines to print, without empty lines."""
        return [line for line in (self.what, self.why, self.fix) if line]

    def __reduce__(self) -> tuple[object, ...]:
        # A worker process sends its error to the runner. Not every class is created from its message alone.
        return (_as_sent, (type(self), self.args), self.__dict__)


def _as_sent(kind: type[ConfitureError], arguments: tuple[object, ...]) -> ConfitureError:
    return kind.__new__(kind, *arguments)


class UsageError(ConfitureError):
    """The command line or a configuration file is not valid."""

    exit_code = 2


#: For a file that the YAML parser rejects, whose own words do not name the cause.
SYNTAX_HINT = "check quotes, brackets, colons and indentation near this place; indent with spaces"


class Fault:
    """One fault of an input file, with its line and column (both from 1); of no file if ``file`` is empty."""

    __slots__ = ("column", "file", "hint", "line", "message")

    def __init__(self, file: str, line: int, column: int, message: str, hint: str = "") -> None:
        self.file = file
        self.line = line
        self.column = column
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.file else ""
        return f"{place}{self.message} ({self.hint})" if self.hint else f"{place}{self.message}"

    def __repr__(self) -> str:
        return f"Fault({self!s})"


class FaultyInput(UsageError):
    """An input file has faults; the error lists all of them."""

    def __init__(self, what: str, faults: Sequence[Fault], *, fix: str = "") -> None:
        super().__init__(what, why="\n".join(str(f) for f in faults), fix=fix)
        self.faults = tuple(faults)


class CannotConnect(ConfitureError):
    """A server cannot be reached, or rejects the login."""

    exit_code = 3


class Refused(ConfitureError):
    """A precondition is not met. Nothing was changed."""

    exit_code = 4


class MissingPrivileges(Refused):
    """The roles of one side or of both lack privileges; each reason ends with the statement that grants one."""

    @property
    def reasons(self) -> list[str]:
        """The reasons, one for each line."""
        return self.why.splitlines()


class Blocked(Refused):
    """A fact blocks the run until it is resolved; it is stored as the run's ``blocked_reason``.

    :param step: the step that continues the run, with its options and without ``--target``; None for the same command.
    :param restart: names of source tables whose target tables ``step`` copies again.
    """

    def __init__(
        self, what: str, *, why: str = "", fix: str = "", step: str | None = None, restart: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.step = step
        self.restart = restart


class DataFailure(ConfitureError):
    """A statement or a row failed. Completed work is kept."""

    exit_code = 5


class Held(ConfitureError):
    """Another command holds the run, or a lock could not be acquired in time."""

    exit_code = 6


class GaveWay(Held):
    """Work was cancelled because a session of the application was waiting for its locks. None of it was committed."""


class DifferencesFound(ConfitureError):
    """A verification found differences."""

    exit_code = 7


class CutoverAborted(ConfitureError):
    """A cutover or a rollback was aborted before its point of no return; the same database is still serving."""

    exit_code = 8


class CutoverUnfinished(ConfitureError):
    """A cutover or a rollback stopped after its point of no return. The same command finishes it."""

    exit_code = 9


class WaitedOut(ConfitureError):
    """``status --wait`` timed out."""

    exit_code = 124


class Drained(ConfitureError):
    """A signal stopped the command at a checkpoint.

    :param signal_number: the signal; the exit code is 128 plus this number.
    """

    def __init__(self, what: str, *, signal_number: int, fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.signal_number = signal_number
