"""The plan and a preview of rows, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from confiture.plan.model import Plan, TablePlan
from confiture.render.documents import SCHEMA_VERSION, PreviewDocument, Row
from confiture.types import Json


def as_json(plan: Plan) -> Json:
    """The plan as JSON (``schemas/plan.json``)."""
    return {"schema_version": SCHEMA_VERSION, "hash": plan.hash, **plan.as_json()}


def text(plan: Plan) -> str:
    """Every table with its strategy and key and the reasons for them, then sequences, views and notes."""
    lines: list[str] = []
    for table in plan.tables:
        lines += _table(table)
    for sequence in plan.sequences:
        origin = ", ".join([*map(str, sequence.sources), *(f"the largest {name}" for _, name in sequence.columns)])
        lines.append(f"sequence {sequence.target} continues from {origin}")
    lines += [f"materialized view {view} is refreshed after the copy" for view in plan.materialized_views]
    lines += [f"note: {note}" for note in plan.notes]
    return "\n".join(lines)


def _table(table: TablePlan) -> list[str]:
    key = ", ".join(k.source for k in table.key)
    walked = f"by ({key}), {table.key_reason}" if key else f"in one chunk: {table.key_reason}"
    size = f"about {table.estimate:,} rows, {table.estimate_bytes / 2**20:,.1f} MiB"
    lines = [
        f"{table.source} -> {table.target}: {size}",
        f"  strategy  {table.strategy} ({table.strategy_reason}), {table.format}, chunks of {table.chunk_rows:,} rows",
        f"  walked    {walked}",
    ]
    for p in table.columns:
        if p.source is None:
            one_line = " ".join(p.expression.split())
            lines.append(f"  column    {p.target} = {one_line}")
        elif p.source != p.target:
            lines.append(f"  column    {p.target} <- {p.source}")
    if table.where:
        lines.append(f"  only      rows where {table.where}")
    if table.recopied:
        lines.append(
            "  changes   not captured: the table is copied again under the cutover's lock, within --max-write-pause"
        )
    back = f"not possible: {table.rollback_problem}" if table.rollback_problem else "possible"
    lines.append(f"  rollback  {back}")
    return lines


def preview_json(table: str, rows: Sequence[tuple[Row, Row]]) -> PreviewDocument:
    """Rows before and after the mapping, by column, as JSON (``schemas/preview.json``)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "table": table,
        "rows": [{"before": before, "after": after} for before, after in rows],
    }


def preview(table: str, rows: Sequence[tuple[Row, Row]]) -> str:
    """Rows before and after the mapping, one column per line."""
    lines: list[str] = []
    for number, (before, after) in enumerate(rows, 1):
        lines.append(f"{table}, row {number}")
        lines += [f"  before  {name} = {_shown(value)}" for name, value in before.items()]
        lines += [f"  after   {name} = {_shown(value)}" for name, value in after.items()]
    return "\n".join(lines) or f"{table} has no rows"


def _shown(value: str | None) -> str:
    return "NULL" if value is None else value if len(value) <= 200 else value[:197] + "..."
