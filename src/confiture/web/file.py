"""The page as a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from confiture.errors import UsageError


def write(path: Path, text: str, *, private: bool) -> None:
    """Write a file, which a reader sees either as it was before or complete.

    :param private: whether only this user may read it, because it contains values of rows.
    :raises UsageError: when it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text, private)
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(
            f"{path} cannot be written", why=why, fix="name a file in a folder that exists and that you may write to"
        ) from None


def _replace(path: Path, text: str, private: bool) -> None:
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".new", encoding="utf-8", delete=False
    ) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o600 if private else 0o666 & ~_umask())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _umask() -> int:
    """The process's mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
