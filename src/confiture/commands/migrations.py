"""``migrate up``, ``down``, ``baseline`` and ``generate``: incremental migrations of one database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from confiture.incremental import files


def generate(project: Path, name: str) -> tuple[Path, Path]:
    """Write the two files of a new migration; their paths.

    :raises UsageError: when the name cannot be that of a file, or a file cannot be written.
    """
    return files.generate(project / files.FOLDER, name, datetime.now(UTC))
