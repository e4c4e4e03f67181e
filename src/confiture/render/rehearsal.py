"""A rehearsed cutover or rollback, as text and as JSON."""

from __future__ import annotations

from confiture.render.documents import RehearsalResult
from confiture.schema_to_schema.outcomes import Rehearsal


def said(found: Rehearsal, switch: str) -> str:
    """The outcome in one line.

    :param switch: ``cutover`` or ``rollback``.
    """
    verdict = "would be possible now" if found.problem is None else "would be aborted now"
    return f"a {switch} {verdict}; nothing has switched"


def text(found: Rehearsal) -> list[str]:
    """The expected write pause and its parts, then the sessions that block the lock now."""
    measured = "expected write pause" if found.complete else "measured before the problem"
    lines = [f"{measured}: {found.seconds:.3f} s after the lock is acquired"]
    lines += [f"  {p.seconds:8.3f} s  {p.name}" for p in found.parts]
    lines.append(f"each attempt to lock may block writers for a further {found.lock_timeout:g} s (--lock-timeout)")
    if not found.blockers:
        return [*lines, "no session blocks the lock now"]
    return [*lines, "blocking the lock now:", *(f"  {b}" for b in found.blockers)]


def as_json(found: Rehearsal) -> RehearsalResult:
    """The rehearsal as JSON; durations in seconds."""
    return {
        "expected_write_pause": found.seconds,
        "complete": found.complete,
        "parts": list(found.parts),
        "lock_timeout": found.lock_timeout,
        "blockers": list(found.blockers),
        "problem": None if found.problem is None else str(found.problem.what),
    }
