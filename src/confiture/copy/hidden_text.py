"""Errors without the values of rows: the server quotes the value that it cannot cast, and a function any value.

A source that masks values computes them from the clear ones, so that the text of its errors may show these. An error
is written to the journal of the target, to the log and to the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

#: Classes of SQLSTATE whose messages, as the server itself raises them, name objects and settings and no value.
_OF_OBJECTS = frozenset(("08", "0A", "23", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57"))
_DATA, _SYNTAX = "22", "42"
#: From the first quotation mark of any language of the server to the last.
_QUOTED = re.compile(
    "[\"'\u00ab\u00bb\u2018-\u201f\u300c-\u300f].*[\"'\u00ab\u00bb\u2018-\u201f\u300c-\u300f]", re.DOTALL
)
_NOT_SHOWN = "the text of the error is not shown, because it may contain a value of a row; the server's log has it"


@contextmanager
def hiding() -> Iterator[None]:
    """Raise an error of the block whose text may show a value as one of the same kind without it."""
    try:
        yield
    except psycopg.Error as error:
        text = _text(error)
        if text is None:
            raise
        raise _with_text(error, text) from None


def _text(error: psycopg.Error) -> str | None:
    """The text that may be shown; None for the error's own."""
    state = error.diag.sqlstate or error.sqlstate
    if state is None:
        return None  # the connection itself: no value was read
    message = error.diag.message_primary or str(error)
    by_function = (error.diag.source_file or "").startswith("pl")  # such as pl_exec.c: a RAISE has any SQLSTATE
    if by_function or (state[:2] == _SYNTAX and error.diag.context):  # a statement that a function has composed
        return _NOT_SHOWN
    if state[:2] == _DATA:
        return _QUOTED.sub('"***"', message)
    return None if state[:2] in _OF_OBJECTS else _NOT_SHOWN


def _with_text(error: psycopg.Error, text: str) -> psycopg.Error:
    made = type(error)(text)
    made.sqlstate = error.diag.sqlstate or error.sqlstate
    return made
