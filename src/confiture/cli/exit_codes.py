"""The exit code of every command: the errors' own codes, those of signals, and the severity that ``status`` reports."""

from __future__ import annotations

import signal

import psycopg

from confiture.errors import ConfitureError, Drained
from confiture.postgres.failures import failure
from confiture.status.facts import Severity

#: The codes that a shell reports for a process that SIGINT or SIGPIPE ended.
INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + signal.SIGPIPE
#: A defect of Confiture.
INTERNAL_ERROR = 1


def of_error(error: BaseException) -> int:
    """The exit code of a command that ended with ``error``; each class of ``confiture.errors`` has its own."""
    if isinstance(error, Drained):
        return 128 + error.signal_number
    if isinstance(error, ConfitureError):
        return error.exit_code
    if isinstance(error, psycopg.Error):
        return failure(error, "running the command").exit_code
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else INTERNAL_ERROR


def of_status(severity: Severity) -> int:
    """The exit code of ``status``, as monitoring systems expect it: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."""
    return int(severity)
