"""Errors of the driver, translated into errors that name an object and the next command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from confiture.postgres.failures import failure


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Translate a server error of the block that no inner code has translated.

    :param doing: the activity, for the message: ``running {doing}``.
    """
    try:
        yield
    except psycopg.Error as error:
        raise failure(error, f"running {doing}") from error
