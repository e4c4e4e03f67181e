"""The outcome of a verification, as text and as JSON."""

from __future__ import annotations

from confiture.render.documents import VerificationResult
from confiture.schema_to_schema.outcomes import Result
from confiture.types import without_public

#: Differences that the text shows; the file has all of them.
SHOWN = 20

_TITLES = {
    "foreign_keys": ("Foreign key integrity verified", "Foreign keys have orphans"),
    "constraints": ("Constraints and indexes valid", "Constraints or indexes are not valid"),
    "large_objects": ("Large objects equal", "Large objects differ"),
    "sequences": ("Sequences ahead of their data", "Sequences are behind"),
}


def text(result: Result) -> str:
    """What agrees, what does not, and the first differences."""
    names = without_public([t.target for t in result.tables])
    counts = all(t.source_rows == t.target_rows for t in result.tables)
    lines = [f"{_mark(counts)} Row counts {'match' if counts else 'differ'}"]
    for t in result.tables:
        if t.in_cutover:
            lines.append(f"  → {names[t.target]}: compared in the cutover, where it is copied again")
            continue
        sign = "=" if t.source_rows == t.target_rows else "≠"
        lines.append(f"  → {names[t.target]}: {t.source_rows:,} (source) {sign} {t.target_rows:,} (target)")
    rows = all(t.equal for t in result.tables)
    lines.append(f"{_mark(rows)} Checksum verification {'passed' if rows else 'failed'}")
    lines += [f"  → {names[t.target]} differs" for t in result.tables if not t.equal]
    for name, good in result.checks.items():
        lines.append(f"{_mark(good)} {_TITLES[name][0 if good else 1]}")
    if "sequences" not in result.checks:
        lines.append("→ Sequences advance while the application writes; the cutover sets them under its lock")
    for d in result.differences[:SHOWN]:
        key = ", ".join(f"{k}={v}" for k, v in (d.key or {}).items())
        values = f": {_shown(d.source_value)} (source) ≠ {_shown(d.target_value)} (target)" if d.column_name else ""
        lines.append(f"  {d.subject} {key} {d.column_name or ''} {d.kind}{values}".replace("  ", " ").rstrip())
    if len(result.differences) > SHOWN:
        lines.append(f"  and {len(result.differences) - SHOWN:,} more")
    return "\n".join(lines)


def _mark(good: bool) -> str:
    return "✓" if good else "✗"


def _shown(value: str | None) -> str:
    """A value in quotes, so that NULL, an empty text and the text NULL differ."""
    return "NULL" if value is None else f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"


def as_json(result: Result) -> VerificationResult:
    """The verification as JSON (``schemas/verification.json``)."""
    return {
        "number": result.number,
        "equal": result.equal,
        "tables": list(result.tables),
        "checks": result.checks,
        "differences": list(result.differences),
    }
