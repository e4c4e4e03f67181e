"""The report of a sync, from the journal and the rows of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from confiture.journal import runs, table_plans
from confiture.plan.model import Plan
from confiture.postgres.retry import retry
from confiture.runner.context import Context
from confiture.sync import copying, proof, store
from confiture.sync.outcome import ColumnMasked, ColumnProven, ForeignKeyChecked, SyncReport, TableCopied
from confiture.sync.references import Checked
from confiture.types import Json, TableRef, quoted


def make(
    context: Context,
    plan: Plan,
    masked: tuple[ColumnMasked, ...],
    checked: Sequence[Checked],
    reasons: Mapping[str, str],
) -> SyncReport:
    """The report of a sync whose rows are complete.

    :param reasons: how the rows of each table were chosen, by the table's name.
    """
    run = context.run()
    with context.target.transaction(read_only=True) as tx:
        states = {s.target: s for s in table_plans.of_run(tx, context.run_id)}
        filled = runs.last_detail(tx, context.run_id, copying.REFERENCES_EVENT)
        proven = runs.last_detail(tx, context.run_id, proof.EVENT)
        now = runs.clock(tx)
    before = run.options.get("before") or {}
    tables = []
    for t in plan.tables:
        name, rows, copied = str(t.target), retry(partial(_count, context, t.target)), states[t.target].rows_done
        removed = sum(_number(filled, kind, t.target) for kind in ("orphans", "gone"))
        added = max(0, rows - copied - before.get(name, 0) + removed)
        tables.append(TableCopied(name, reasons.get(name, ""), rows, copied, added, removed))
    return SyncReport(
        run=run.short,
        source=run.source_name,
        target=run.target_name,
        consistent=bool(run.options.get("consistent")),
        seconds=(now - run.started_at).total_seconds(),
        tables=tuple(tables),
        columns=masked,
        foreign_keys=tuple(_key(c) for c in checked),
        proof=tuple(_proven(proven)),
        notes=tuple(run.options.get("notes") or ()),
    )


def _count(context: Context, table: TableRef) -> int:
    with context.target.transaction(read_only=True) as tx:
        return store.count(tx, table)


def _number(filled: Json, kind: str, table: TableRef) -> int:
    return int((filled.get(kind) or {}).get(str(table), 0))


def _key(checked: Checked) -> ForeignKeyChecked:
    key = checked.key
    return ForeignKeyChecked(str(key.table), quoted(key.name), str(key.references), checked.rows, checked.violations)


def _proven(detail: Json) -> list[ColumnProven]:
    found = detail.get("columns", ())
    return [ColumnProven(c["table"], c["column"], c["values"], c["found"], c["limit"]) for c in found]
