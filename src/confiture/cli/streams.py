"""Standard output and standard error: what happens when a character or a byte cannot be written there."""

from __future__ import annotations

import io
import os
import sys

from confiture.errors import DataFailure


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
    """Escape characters that the encoding of a stream lacks, and let no failure of standard error end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        # The buffer is shared: sys.__stderr__ stays open and usable.
        encoding = sys.stderr.encoding
        sys.stderr = _Stderr(sys.stderr.buffer, encoding=encoding, errors="backslashreplace", line_buffering=True)


def unwritten(error: OSError) -> DataFailure:
    """The error of a result that standard output did not accept. The rest of the output is discarded."""
    to_nowhere(sys.stdout.fileno())
    return DataFailure(
        "the result cannot be written to standard output; completed work is kept",
        why=error.strerror or str(error),
        fix="free space or redirect the output elsewhere, then run the same command again",
    )
