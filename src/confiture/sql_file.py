"""The text of an SQL file: UTF-8, without a zero byte."""

from __future__ import annotations

from pathlib import Path

from confiture.errors import UsageError


def read(path: Path) -> str:
    """The text of a file with its original line ends, without a byte order mark.

    :raises UsageError: the file cannot be read as UTF-8, or contains a zero byte.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise unreadable(str(path), error.strerror or "") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _not_text(path, line, "the line is not UTF-8") from None
    if "\0" in text:
        # libpq truncates a statement at the first zero byte, without an error.
        raise _not_text(path, text[: text.index("\0")].count("\n") + 1, "the line contains a zero byte")
    return text


def unreadable(name: str, why: str) -> UsageError:
    """The error for a file or folder that cannot be read."""
    return UsageError(f"{name} cannot be read", why=why, fix="make it readable, or remove it from the DDL")


def _not_text(path: Path, line: int, why: str) -> UsageError:
    return UsageError(f"{path}:{line} cannot be read", why=why, fix="save the file as UTF-8")
