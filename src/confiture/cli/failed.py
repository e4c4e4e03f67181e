"""The end of a command that failed: what is printed, and the exit code."""

from __future__ import annotations

import errno
import traceback

import psycopg

from confiture.cli import exit_codes, streams, terminal
from confiture.errors import ConfitureError
from confiture.postgres.failure import failure


def report(raised: BaseException, *, verbose: bool) -> int:
    """Print an error in up to three lines.

    :param verbose: print the details too.
    :returns: the exit code.
    """
    lost = isinstance(raised, OSError) and raised.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)
    error = streams.unwritten(raised) if lost and isinstance(raised, OSError) else raised
    terminal.print_error(_described(error), verbose=verbose)
    code = exit_codes.of_error(error)
    if verbose and code == exit_codes.INTERNAL_ERROR and not isinstance(error, ConfitureError):
        traceback.print_exc()
    return code


def _described(error: BaseException) -> ConfitureError:
    """The error with an explanation for the operator."""
    if isinstance(error, ConfitureError):
        return error
    if isinstance(error, psycopg.Error):
        return failure(error, "running the command")
    if isinstance(error, KeyboardInterrupt):
        return ConfitureError("interrupted")
    return ConfitureError(
        f"internal error: {type(error).__name__}",
        why="this is a defect of Confiture; completed work is kept",
        fix="rerun the command with --verbose and report its complete output",
    )
