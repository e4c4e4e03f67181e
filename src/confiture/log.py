"""Diagnostics for operators on stderr: what was repeated and why. They are not part of a command's result.

This module imports nothing of Confiture.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

_LOGGER = logging.getLogger("confiture")


class _Stderr(logging.Handler):
    """One line of key=value pairs per record, on the standard error that the process has at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        at = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        values = {"timestamp": at, "level": record.levelname.lower(), "event": record.getMessage()}
        values |= getattr(record, "values", {})
        print(" ".join(f"{name}={value!r}" for name, value in values.items()), file=sys.stderr)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Log:
    """Events with their values by name.

    :ivar notice: prints one line, with and without ``--verbose``; a worker process sends it to its runner instead.
    """

    def __init__(self) -> None:
        self.notice: Callable[[str], None] = _print

    def info(self, event: str, **values: object) -> None:
        """Print an event when ``--verbose`` was given."""
        _LOGGER.info("%s", event, extra={"values": values})


def configure(*, verbose: bool) -> None:
    """Print every event with ``verbose``, and warnings only without it."""
    _LOGGER.setLevel(logging.DEBUG if verbose else logging.WARNING)


_LOGGER.addHandler(_Stderr())
_LOGGER.propagate = False
for _library in ("psycopg", "psycopg.pool", "sqlalchemy", "py.warnings"):
    # Its messages describe the inside of a connection that was lost. The error of the command names the loss itself.
    logging.getLogger(_library).addHandler(logging.NullHandler())
    logging.getLogger(_library).propagate = False
configure(verbose=False)
log = Log()
