"""The report of a sync, and its plan, as text of 80 columns and as JSON. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from confiture.render.documents import SCHEMA_VERSION, SyncDocument, SyncPlanDocument
from confiture.render.lines import wrapped
from confiture.sync.outcome import ColumnMasked, SyncPlan, SyncReport
from confiture.types import ALL_PERCENT, counted, duration, without_public

#: Columns of a table of text that are set to the right.
_RIGHT = frozenset({"ROWS", "COPIED", "ADDED", "VALUES", "IN SOURCE", "LIMIT", "VIOLATIONS"})


def text(report: SyncReport) -> str:
    """The report for people."""
    names = without_public(t.table for t in report.tables)
    lines = [
        f"synced {report.source} -> {report.target} in {duration(report.seconds)}, run {report.run}",
        "rows are of one snapshot" if report.consistent else "rows are of short snapshots (see --consistent)",
        "",
        *_grid(
            ("TABLE", "ROWS", "COPIED", "ADDED", "CHOSEN"),
            [(names[t.table], f"{t.rows:,}", f"{t.copied:,}", f"{t.added:,}", t.chosen) for t in report.tables],
        ),
        "",
        *_columns(report.columns, names),
        *_proof(report, names),
        *_foreign_keys(report, names),
    ]
    removed = sum(t.removed for t in report.tables)
    if removed:
        lines.append(f"{counted(removed, 'row')} removed whose parent the source no longer has")
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join(lines)


def _columns(found: Sequence[ColumnMasked], names: dict[str, str]) -> Iterator[str]:
    ruled = [c for c in found if c.why]
    if ruled:
        rows = [(f"{names.get(c.table, c.table)}.{c.column}", c.rule, c.why) for c in ruled]
        yield from _grid(("COLUMN", "RULE", "BECAUSE OF"), rows)
    kept: dict[str, list[str]] = {}
    for c in found:
        if not c.why:
            kept.setdefault(names.get(c.table, c.table), []).append(c.column)
    number = len(found) - len(ruled)
    yield f"{counted(number, 'column')} without a rule {'is' if number == 1 else 'are'} copied unchanged"
    for table, columns in kept.items():
        yield from wrapped("  ", f"{table}: {', '.join(columns)}")


def _proof(report: SyncReport, names: dict[str, str]) -> Iterator[str]:
    if not report.proof:
        yield "no masked column whose values could be looked for in the source"
        return
    yield ""
    rows = [
        (f"{names.get(p.table, p.table)}.{p.column}", f"{p.values:,}", f"{p.found:,}", _limit(p.limit_percent))
        for p in report.proof
    ]
    yield from _grid(("PROOF OF NO LEAK", "VALUES", "IN SOURCE", "LIMIT"), rows)
    yield "VALUES: distinct ones, without those that a rule chooses from its own list"


def _limit(percent: float) -> str:
    """The share of values that may occur in the source; of some rules, every value may."""
    return "none" if percent >= ALL_PERCENT else f"{percent:g} %"


def _foreign_keys(report: SyncReport, names: dict[str, str]) -> Iterator[str]:
    wrong = [k for k in report.foreign_keys if k.violations]
    rows = sum(k.rows for k in report.foreign_keys)
    keys = counted(len(report.foreign_keys), "foreign key")
    yield f"{keys} checked over {counted(rows, 'reference')}: {len(report.foreign_keys) - len(wrong)} hold"
    for key in wrong:
        yield f"  {names.get(key.table, key.table)} {key.name}: {key.violations:,} (declared NOT VALID)"


def as_json(report: SyncReport) -> SyncDocument:
    """The report for programs."""
    return cast(SyncDocument, {"schema_version": SCHEMA_VERSION, **report.as_json()})


def planned_text(planned: SyncPlan) -> str:
    """The plan for people."""
    names = without_public(t.table for t in planned.tables)
    rows = [(names[t.table], f"~{t.estimated_rows:,}", t.chosen) for t in planned.tables]
    lines = [*_grid(("TABLE", "ROWS", "CHOSEN"), rows), "", *_columns(planned.columns, names)]
    lines += [f"note: {note}" for note in planned.notes]
    return "\n".join((*lines, "nothing was changed (--dry-run); ROWS are estimates of whole tables"))


def planned_json(planned: SyncPlan) -> SyncPlanDocument:
    """The plan for programs."""
    return cast(SyncPlanDocument, {"schema_version": SCHEMA_VERSION, **planned.as_json()})


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines with aligned columns; the last one is not padded."""
    lines = [head, *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    for line in lines:
        cells = [
            cell.rjust(width) if title in _RIGHT else cell.ljust(width)
            for cell, width, title in zip(line, widths, head, strict=True)
        ]
        yield "  ".join(cells).rstrip()
