"""Standard output and standard error: what happens when a character or a byte cannot be written there."""

from __future__ import annotations

import codecs
import io
import os
import sys

from confiture.errors import DataFailure

#: Replacements of the symbols of the output where the encoding lacks them.
_SYMBOLS = {"✓": "OK", "✗": "FAILED", "→": "->", "≠": "!=", "…": "..."}
_ERRORS = "confiture.symbols"


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """An own symbol by what stands for it, another character by its number."""
    if isinstance(error, UnicodeEncodeError):
        symbol = _SYMBOLS.get(error.object[error.start])
        if symbol is not None:
            return symbol, error.start + 1
        # One character, because a symbol may follow.
        error.end = error.start + 1
    return codecs.backslashreplace_errors(error)


def to_nowhere(descriptor: int) -> None:
    """Discard what is written from now on: the interpreter flushes again at exit, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class _Stderr(io.TextIOWrapper):
    """Standard error that never stops a command: what cannot be written is discarded."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            to_nowhere(self.fileno())
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            to_nowhere(self.fileno())


def prepare() -> None:
    """Replace characters that the encoding of a stream lacks, and let no failure of standard error end a command."""
    codecs.register_error(_ERRORS, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        # The buffer is shared: sys.__stderr__ stays open and usable.
        encoding = sys.stderr.encoding
        sys.stderr = _Stderr(sys.stderr.buffer, encoding=encoding, errors=_ERRORS, line_buffering=True)


def unwritten(error: OSError) -> DataFailure:
    """The error of a result that standard output did not accept. The rest of the output is discarded."""
    to_nowhere(sys.stdout.fileno())
    return DataFailure(
        "the result cannot be written to standard output; completed work is kept",
        why=error.strerror or str(error),
        fix="free space or redirect the output elsewhere, then run the same command again",
    )
