"""Errors of the driver, translated into errors that name an object and the next command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from confiture.postgres.failures import failure


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Server errors that nobody nearer has told, told with what was being done."""
    try:
        yield
    except psycopg.Error as error:
        raise failure(error, f"running {doing}") from error
