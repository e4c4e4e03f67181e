"""A rehearsed cutover, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from confiture.schema_to_schema.rehearse import Rehearsal


def text(found: Rehearsal) -> list[str]:
    """The pause and its parts, then who is in the way now."""
    lines = [f"expected write pause: {found.seconds:.3f} s, once the lock is had"]
    lines += [f"  {p.seconds:8.3f} s  {p.name}" for p in found.parts]
    lines.append(f"each try at the lock may hold writers up for {found.lock_timeout:g} s more (--lock-timeout)")
    if not found.blockers:
        return [*lines, "nobody is in the way of the lock now"]
    return [*lines, "in the way of the lock now:", *(f"  {b}" for b in found.blockers)]


def as_json(found: Rehearsal) -> dict[str, Any]:
    """Everything a program may want to know; seconds."""
    return {
        "expected_write_pause": found.seconds,
        "parts": [asdict(p) for p in found.parts],
        "lock_timeout": found.lock_timeout,
        "blockers": [asdict(b) for b in found.blockers],
    }
