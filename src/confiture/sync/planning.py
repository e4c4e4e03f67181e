"""The plan of a sync: tables and columns matched by name, masked and chosen, by the planner of every copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from confiture.catalog_model import Catalog, Column, Table
from confiture.copy import inline
from confiture.copy.inline import Shape
from confiture.errors import Fault, FaultyInput, Refused
from confiture.mapping import ColumnMapping, TableMapping
from confiture.mapping import Mapping as ColumnMap
from confiture.masking.model import Masks
from confiture.plan import privileges
from confiture.plan.model import Options, Plan
from confiture.plan.planner import Planner
from confiture.postgres.retry import retry
from confiture.postgres.session import Session
from confiture.postgres.yielding import yielding
from confiture.sync import sides
from confiture.sync.selection import NONE, Selection
from confiture.types import TableRef, grouped
from confiture.yaml_nodes import Name, Position

if TYPE_CHECKING:
    from confiture.sync.sides import Sides

_AT = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan of a sync, with the facts that belong to it.

    :ivar selections: the rows of each table that are chosen.
    :ivar target: the catalog of the target, or that of its DDL.
    :ivar shapes: the columns of each table of the source that are read, as they are now.
    :ivar notes: what is not copied, and other facts for the operator.
    """

    plan: Plan
    masks: Masks
    selections: Mapping[TableRef, Selection]
    target: Catalog
    shapes: Mapping[TableRef, Shape]
    notes: tuple[str, ...]

    @property
    def emptied(self) -> frozenset[TableRef]:
        """The tables of the target that are filled from the beginning. Others get the rows that are referred to."""
        return frozenset(t.target for t in self.plan.tables if t.where != NONE)


def plan(both: Sides, masks: Masks, selections: Mapping[TableRef, Selection]) -> tuple[Plan, tuple[str, ...]]:
    """The plan, and notes about what it leaves out; nothing is read or changed.

    :param selections: of the tables that are copied; other tables are left out.
    :raises FaultyInput: when the values of a column do not fit, or a column of the target gets no value.
    :raises Refused: naming what cannot be copied.
    """
    pairs = sides.matched(both.source, both.target, selections.keys())
    wanted = {source.ref for source, _ in pairs}
    mapping = ColumnMap(
        tables=tuple(_entry(a, b, masks, selections[a.ref]) for a, b in pairs),
        omit=tuple(_name(t.ref) for t in both.source.tables if t.ref not in wanted),
        large_objects="leave",
    )
    planner = Planner(both.source, both.target, mapping, {}, Options(strategy="copy", capture=False))
    found = planner.plan()
    if planner.faults:
        raise FaultyInput(
            "the tables of source and target do not fit together",
            [Fault("", 0, 0, fault.message, _hint(fault)) for fault in planner.faults],
            fix="change the target's DDL, or give the column a rule with sql: in the mask file; nothing was changed",
        )
    if planner.missing and len(planner.refusals) == len(planner.missing):
        raise privileges.refusal(planner.missing)
    if planner.refusals:
        raise Refused("the sync is refused", why="\n".join(grouped(planner.refusals)), fix="nothing was changed")
    filled = {p.target for p in found.tables}
    notes = [n for n in planner.notes if not _is_of_a_move(n) and not _of_other(n, both, filled)]
    return found, (*both.notes, *sides.unmatched(both.source, both.target, selections.keys()), *notes)


def _is_of_a_move(note: str) -> bool:
    """Whether a note of the planner is about a part of a move that a sync does not have, or notes by itself."""
    return note.startswith("comments, views, functions") or "large object" in note


def _of_other(note: str, both: Sides, filled: set[TableRef]) -> bool:
    """Whether a note says that a table stays empty which the sync leaves as it is."""
    others = (t.ref for t in both.target.tables if t.ref not in filled)
    return any(note == f"{ref} has no table on the source and stays empty" for ref in others)


def _hint(fault: Fault) -> str:
    return "" if "transform" in fault.hint or "$omit" in fault.hint else fault.hint


def _name(ref: TableRef) -> Name:
    return Name(ref.schema, ref.name, _AT)


def _entry(source: Table, target: Table, masks: Masks, selection: Selection) -> TableMapping:
    rules = masks.of(source.ref)
    columns = [
        ColumnMapping(c.name, c.name, rules[c.name].expression, None, False, _AT)
        for c in target.columns
        if not c.generated and source.column(c.name) is not None and c.name in rules and rules[c.name].is_masked
    ]
    omitted = tuple((c.name, _AT) for c in source.columns if _is_left(c, target.column(c.name)))
    return TableMapping(_name(target.ref), None, selection.where, None, "copy", omitted, tuple(columns), _AT)


def _is_left(column: Column, same: Column | None) -> bool:
    """Whether a column of the source is not copied: the target lacks it, or computes it."""
    return same is None or (bool(same.generated) and not column.generated)


def shapes(session: Session, plan: Plan) -> Mapping[TableRef, Shape]:
    """The columns that the plan reads, as they are now on the source."""

    def read() -> dict[TableRef, Shape]:
        with yielding(session), session.transaction(read_only=True) as tx:
            found = {t.source: inline.shape(tx, t.source) for t in plan.tables}
        return {t.source: _of(found[t.source], t.where, _reads(t.columns, t.keys_beside)) for t in plan.tables}

    return retry(read)


def _reads(columns: Sequence[object], key: Sequence[str]) -> frozenset[str]:
    return frozenset(key) | {name for p in columns for name in getattr(p, "reads", ())}


def _of(found: Shape, where: str | None, reads: frozenset[str]) -> Shape:
    """All columns where a condition may read any of them, else those that the SELECT reads."""
    return dict(found) if where not in (None, NONE) else {n: v for n, v in found.items() if n in reads}


def without_estimates(plan: Plan) -> Plan:
    """The plan with the tables of which only referenced rows are copied, without an estimate of their rows."""
    tables = (replace(t, estimate=0, estimate_bytes=0) if t.where == NONE else t for t in plan.tables)
    return replace(plan, tables=tuple(tables))
