"""SQL kept as SQL: named blocks in files, with or without named holes, and the control schema's numbered migrations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import psycopg.sql

_BLOCK = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


@cache
def load(file: str) -> dict[str, bytes]:
    """The named blocks of ``file``: ``-- name: NAME``, a purpose line, a statement."""
    text = resources.files(__name__).joinpath(file).read_text(encoding="utf-8")
    return {name: body.strip().encode() for name, body in _BLOCK.findall(text)}


@cache
def template(file: str, block: str) -> psycopg.sql.SQL:
    """A named block of ``file`` with holes, without its purpose lines: the text of a statement, or of a part of one.

    :returns: what ``format`` is called on: it fills each hole ``{name}``. A literal brace is doubled in the file.
    :raises KeyError: when the file has no such block.
    """
    return psycopg.sql.SQL(re.sub(r"\A(?:--.*\n)+", "", load(file)[block].decode()))


@dataclass(frozen=True, slots=True)
class ControlMigration:
    """One numbered step of the control schema."""

    version: int
    name: str
    text: str


def control_migrations() -> tuple[ControlMigration, ...]:
    """The migrations of schema ``confiture`` in order, from the wheel or the repository."""
    root = Path(str(resources.files("confiture"))) / "migrations_state"
    if not root.is_dir():
        # An editable install leaves them at the repository's root.
        root = Path(__file__).resolve().parents[3] / "migrations_state"
    found = []
    for path in sorted(root.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        found.append(ControlMigration(int(number), name, path.read_text(encoding="utf-8")))
    return tuple(found)
