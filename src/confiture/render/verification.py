"""The outcome of a verification, as text and as JSON."""

from __future__ import annotations

from confiture.render.documents import VerificationResult
from confiture.schema_to_schema.outcomes import Result, TableResult
from confiture.types import counted, in_plain_words, without_public

#: Tables that the text shows one a line; of more tables, those that are equal are one line.
TABLES_SHOWN = 10
#: Differences that the text shows; the file has all of them.
SHOWN = 20

_TITLES = {
    "foreign_keys": ("Foreign key integrity verified", "Foreign keys have orphans"),
    "constraints": ("Constraints and indexes valid", "Constraints or indexes are not valid"),
    "large_objects": ("Large objects equal", "Large objects differ"),
    "sequences": ("Sequences ahead of their data", "Sequences are behind"),
}


def text(result: Result) -> str:
    """The checks that pass or fail, and the first differences. Of many tables, those that are equal are one line."""
    names = without_public([t.target for t in result.tables])
    counts = all(t.source_rows == t.target_rows for t in result.tables)
    lines = [f"{_mark(counts)} Row counts {'match' if counts else 'differ'}"]
    grouped = [t for t in result.tables if _plain(t)] if len(result.tables) > TABLES_SHOWN else []
    lines += [_counts(names[t.target], t) for t in result.tables if t not in grouped]
    if grouped:
        noun = "table" if len(grouped) == len(result.tables) else "other table"
        rows = sum(t.source_rows for t in grouped)
        lines.append(f"  → {counted(len(grouped), noun)}: {rows:,} (source) = {rows:,} (target)")
    differ = [names[t.target] for t in result.tables if not t.equal]
    lines.append(f"{_mark(not differ)} Checksum verification {'failed' if differ else 'passed'}")
    lines += [f"  → {name} differs" for name in differ[:TABLES_SHOWN]]
    lines += [f"  → {counted(len(differ) - TABLES_SHOWN, 'more table')}"] if len(differ) > TABLES_SHOWN else []
    for name, good in result.checks.items():
        lines.append(f"{_mark(good)} {_TITLES[name][0 if good else 1]}")
    if "sequences" not in result.checks:
        lines.append("→ Sequences advance while the application writes; the cutover sets them under its lock")
    for d in result.differences[:SHOWN]:
        key = ", ".join(f"{k}={v}" for k, v in (d.key or {}).items())
        values = f": {_shown(d.source_value)} (source) ≠ {_shown(d.target_value)} (target)" if d.column_name else ""
        words = filter(None, (in_plain_words(d.subject), key, d.column_name, f"{d.kind}{values}"))
        lines.append(f"  {' '.join(words)}")
    if len(result.differences) > SHOWN:
        lines.append(f"  and {len(result.differences) - SHOWN:,} more")
    return "\n".join(lines)


def _plain(table: TableResult) -> bool:
    """Whether nothing of the table has to be read."""
    return table.equal and not table.in_cutover and table.source_rows == table.target_rows


def _counts(name: str, table: TableResult) -> str:
    if table.in_cutover:
        return f"  → {name}: compared in the cutover, where it is copied again"
    sign = "=" if table.source_rows == table.target_rows else "≠"
    return f"  → {name}: {table.source_rows:,} (source) {sign} {table.target_rows:,} (target)"


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
