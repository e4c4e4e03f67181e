"""The plan and a preview of rows, as text and as JSON."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence

from confiture.plan.forecast import Forecast
from confiture.plan.forecast import as_json as forecast_as_json
from confiture.plan.model import Plan, TablePlan
from confiture.render.documents import SCHEMA_VERSION, PreviewDocument, Row
from confiture.render.forecast import facts as forecast_facts
from confiture.schema_to_schema.outcomes import Blocker
from confiture.types import NAMES_SHOWN, Json, byte_size, counted, grouped, in_plain_words, short_names, some

#: Tables that the list shows, the largest first.
TABLES_SHOWN = 20
#: Width of the summary's text.
COLUMNS = 80


def as_json(
    plan: Plan,
    blockers: Sequence[Blocker],
    following: str,
    table: TablePlan | None = None,
    forecast: Forecast | None = None,
) -> Json:
    """The plan as JSON (``schemas/plan.json``).

    :param blockers: sessions that setup would wait for now.
    :param following: the next command.
    :param table: print this table without the rest of the plan; None for the whole plan.
    :param forecast: None for a run that is set up already.
    """
    shown = plan
    if table is not None:
        reverse = tuple(t for t in plan.reverse if t.number == table.number)
        shown = Plan((table,), reverse, captured=plan.captured, ddl=plan.ddl)
    return {
        "schema_version": SCHEMA_VERSION,
        "hash": plan.hash,
        **shown.as_json(),
        "forecast": None if forecast is None or table is not None else forecast_as_json(forecast),
        "blockers": list(blockers),
        "next": following,
    }


def full(plan: Plan) -> str:
    """Every table with its strategy and key and the reasons for them, then sequences and views."""
    lines: list[str] = []
    for table in plan.tables:
        lines += one_table(table)
    for sequence in plan.sequences:
        origin = ", ".join([*map(str, sequence.sources), *(f"the largest {name}" for _, name in sequence.columns)])
        lines.append(in_plain_words(f"sequence {sequence.target} continues from {origin}"))
    lines += [
        in_plain_words(f"materialized view {view} is refreshed after the copy") for view in plan.materialized_views
    ]
    return "\n".join(lines)


def table_list(plan: Plan) -> str:
    """The largest tables, one a line, and the number of the others."""
    names = short_names(t.target for t in plan.tables)
    largest = sorted(plan.tables, key=lambda t: (-t.estimate_bytes, t.target))
    rows = [("TABLE", "ROWS", "SIZE", "STRATEGY", "KEY")]
    for table in largest[:TABLES_SHOWN]:
        key = ", ".join(k.source for k in table.key) or "none"
        rows.append((names[table.target], f"~{table.estimate:,}", byte_size(table.estimate_bytes), table.strategy, key))
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {count:>{widths[1]}}  {size:>{widths[2]}}  {strategy:<{widths[3]}}  {key}"
        for name, count, size, strategy, key in rows
    ]
    more = len(largest) - TABLES_SHOWN
    if more > 0:
        lines.append(f"and {counted(more, 'smaller table')}")
    return "\n".join(lines)


def summary(
    plan: Plan,
    *,
    captured: bool,
    blockers: Sequence[Blocker],
    following: str,
    created: str | None = None,
    forecast: Forecast | None = None,
) -> str:
    """The summary for the reader before the run; a reason that is equal for many tables is printed once.

    :param captured: whether the application's writes are captured.
    :param blockers: sessions that setup would wait for now.
    :param following: the next command.
    :param created: the database that setup would create, in words; None when the target exists.
    :param forecast: None for a run that is set up already.
    """
    tables = plan.tables
    size = byte_size(sum(t.estimate_bytes for t in tables))
    changed = [t for t in tables if t.where or any(p.source != p.target for p in t.columns)]
    facts = [("Tables", f"{len(tables):,}, about {counted(sum(t.estimate for t in tables), 'row')}, {size}")]
    facts += [("Target", created)] if created is not None else []
    facts += [("Strategy", f"{way}: {names}") for way, names in _by_reason(plan, _way)]
    facts += [("Mapped", f"renamed, computed or selected columns or rows: {_named(plan, changed)}")] if changed else []
    facts += [
        ("One chunk", f"{why}: {names}") for why, names in _by_reason(plan, lambda t: None if t.key else t.key_reason)
    ]
    facts += _under_lock(plan, captured=captured)
    facts += [("Rollback", line) for line in _rollback(plan, captured=captured)]
    facts += [
        ("Views", f"refreshed after the copy: {some(list(map(str, plan.materialized_views)), NAMES_SHOWN)}")
    ] * bool(plan.materialized_views)
    facts += [("Sequences", f"{len(plan.sequences):,} continue from their counterparts on the source")] * bool(
        plan.sequences
    )
    facts += forecast_facts(forecast) if forecast is not None else []
    facts += [("Note", in_plain_words(note)) for note in grouped(plan.notes, NAMES_SHOWN)]
    facts += [("Blocked", in_plain_words(f"setup would wait now for {blocker}")) for blocker in blockers]
    facts += [("Details", "--table NAME for one table, --all for every table"), ("Next", following)]
    return "\n".join(_line(name, text) for name, text in facts)


def _line(name: str, text: str) -> str:
    """A fact, wrapped; a command stays on one line, so that it can be copied."""
    if name == "Next":
        return f"{name:<10} {text}"
    return textwrap.fill(
        f"{name:<10} {text}", COLUMNS, subsequent_indent=" " * 11, break_long_words=False, break_on_hyphens=False
    )


def _under_lock(plan: Plan, *, captured: bool) -> list[tuple[str, str]]:
    if not captured:
        return []
    again = [t for t in plan.tables if t.recopied]
    if not again:
        return [("Lock", "the cutover copies only the last changes under its lock")]
    size = byte_size(sum(t.estimate_bytes for t in again))
    return [
        ("Lock", f"copied again under the cutover's lock, within --max-write-pause ({size}): {_named(plan, again)}")
    ]


def _rollback(plan: Plan, *, captured: bool) -> list[str]:
    if not captured:
        return ["not possible after the cutover: without capture no change of the target is logged"]
    if not plan.rollback_problems:
        return ["possible after the cutover, until cleanup"]
    reasons = _by_reason(plan, lambda t: t.rollback_problem)
    return [f"not possible after the cutover: {in_plain_words(why)}: {names}" for why, names in reasons] or [
        f"not possible after the cutover: {in_plain_words(plan.rollback_problems[0])}"
    ]


def _way(table: TablePlan) -> str:
    # The number of rows differs from table to table; the limit that it is compared with does not.
    return f"{table.strategy} ({re.sub('^[0-9,]+ rows?, ', '', table.strategy_reason)})"


def _by_reason(plan: Plan, reason: Callable[[TablePlan], str | None]) -> list[tuple[str, str]]:
    """Each reason with the number and some names of the tables that it holds for."""
    found: dict[str, list[TablePlan]] = {}
    for table in plan.tables:
        why = reason(table)
        if why is not None:
            found.setdefault(why, []).append(table)
    return [(why, _named(plan, those)) for why, those in found.items()]


def _named(plan: Plan, tables: Sequence[TablePlan]) -> str:
    """The number of tables, and some of their names unless they are all tables of the plan."""
    if len(tables) == len(plan.tables) > 1:
        return f"all {counted(len(tables), 'table')}"
    names = short_names(t.target for t in plan.tables)
    return f"{counted(len(tables), 'table')} ({some([names[t.target] for t in tables], NAMES_SHOWN)})"


def one_table(table: TablePlan) -> list[str]:
    """One table with the reasons for its strategy and its key."""
    key = ", ".join(k.source for k in table.key)
    walked = f"by ({key}), {table.key_reason}" if key else f"in one chunk: {table.key_reason}"
    size = f"about {counted(table.estimate, 'row')}, {byte_size(table.estimate_bytes)}"
    lines = [
        in_plain_words(f"{table.source} -> {table.target}: {size}"),
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
    back = f"not possible: {in_plain_words(table.rollback_problem)}" if table.rollback_problem else "possible"
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
