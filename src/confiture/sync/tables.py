"""The tables of a sync, as the copy reads them: inline, masked, in the snapshot that is held if there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from psycopg import sql

from confiture.copy.inline import Inline, Shape
from confiture.copy.run_table import RunTable
from confiture.journal.model import TableProgress
from confiture.masking import key
from confiture.masking.model import Kind, Masks
from confiture.plan.model import Plan, TablePlan
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.sync.selection import NONE
from confiture.types import TableRef


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of the source that the runner holds.

    :ivar files: of each table, when it was taken.
    """

    name: str
    files: Mapping[TableRef, tuple[int, ...]]


def jobs(
    context: Context, plan: Plan, states: Iterable[TableProgress], masks: Masks, snapshot: Snapshot | None = None
) -> dict[int, RunTable]:
    """How each table is read, by its number in the plan.

    :param states: of the tables, from the journal, which has their columns as planned.
    """
    shapes = {state.number: state.fingerprint or {} for state in states}
    return {t.number: _job(context, t, plan, shapes.get(t.number, {}), masks, snapshot) for t in plan.tables}


def _job(
    context: Context, table: TablePlan, plan: Plan, shape: Shape, masks: Masks, snapshot: Snapshot | None
) -> RunTable:
    rules = masks.of(table.source).values()
    own_sql = table.where not in (None, NONE) or any(m.rule.kind is Kind.SQL for m in rules)
    how = Inline(
        shape=shape,
        path=context.facts.source.search_path if own_sql else (),
        also=tuple(_also(table, plan)),
        snapshot=None if snapshot is None else snapshot.name,
        files=() if snapshot is None else snapshot.files.get(table.source, ()),
        prepare=settle if any(m.is_keyed for m in rules) else None,
        masked=any(m.is_masked for m in masks.masks),  # the condition of a table may read the rows of others
    )
    return RunTable(table, context.schema, inline=how)


def _also(table: TablePlan, plan: Plan) -> Iterator[TableRef]:
    """Other tables that the condition of a table reads: locked first, they are not seen as empty when rewritten."""
    for other in plan.tables:
        if other.source != table.source and other.source.identifier.as_string() in (table.where or ""):
            yield other.source


def settle(tx: Transaction) -> None:
    """Set what the expressions of the masks read, for the rest of the transaction.

    The settings are parameters, so that the text of no statement contains them. A worker process reads the key from
    its own environment, which it has from the runner.
    """
    settings = _settings(key.from_environment())
    calls = sql.SQL(", ").join(sql.SQL("pg_catalog.set_config(%s, %s, true)") for _ in range(len(settings) // 2))
    tx.pg.execute(sql.SQL("SELECT {}").format(calls), settings)


@cache
def _settings(secret: bytes) -> tuple[str, ...]:
    return tuple(part for item in key.settings(secret).items() for part in item)
