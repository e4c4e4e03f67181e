"""The outcome of a sync: what was copied, how each column was masked, and what was proven. It has no value of a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter

from confiture.masking.model import Masks
from confiture.plan.model import Plan
from confiture.types import Count, Json, ShortId


@dataclass(frozen=True, slots=True)
class TableCopied:
    """A table of the sync; numbers of rows.

    :ivar rows: in the target now.
    :ivar chosen: how its rows were chosen.
    :ivar copied: by their choice; ``added``: because other rows refer to them.
    :ivar removed: copied rows whose parent the source does not have any more, or that it has deleted since.
    """

    table: str
    chosen: str
    rows: Count
    copied: Count
    added: Count
    removed: Count


@dataclass(frozen=True, slots=True)
class ColumnMasked:
    """A column and its rule.

    :ivar rule: ``keep`` for a column that is copied as it is.
    :ivar why: the origin of the rule; empty for a column without one.
    """

    table: str
    column: str
    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class ForeignKeyChecked:
    """A foreign key that was checked by a query of its own, besides the server's validation."""

    table: str
    name: str
    references: str
    rows: Count
    violations: Count


@dataclass(frozen=True, slots=True)
class ColumnProven:
    """The proof for one masked column: distinct values of the result, and those that the source has too."""

    table: str
    column: str
    values: Count
    found: Count
    limit_percent: float


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The whole report.

    :ivar run: the short name of the run.
    :ivar consistent: whether every row is of one snapshot.
    :ivar seconds: since the sync began, interruptions included.
    :ivar notes: what was not copied, and why.
    """

    run: ShortId
    source: str
    target: str
    consistent: bool
    seconds: float
    tables: tuple[TableCopied, ...]
    columns: tuple[ColumnMasked, ...]
    foreign_keys: tuple[ForeignKeyChecked, ...]
    proof: tuple[ColumnProven, ...]
    notes: tuple[str, ...]

    def as_json(self) -> Json:
        """The form that the journal stores and the command prints."""
        return dict(_form().dump_python(self, mode="json"))


@dataclass(frozen=True, slots=True)
class TablePlanned:
    """A table that a sync copies.

    :ivar estimated_rows: of the whole table on the source; 0 for a table of which only referenced rows are copied.
    :ivar chosen: how its rows are chosen.
    :ivar where: the condition of its rows; None for all rows.
    """

    table: str
    estimated_rows: Count
    chosen: str
    where: str | None


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The effect that a sync would have.

    :ivar notes: what is not copied, and why.
    """

    tables: tuple[TablePlanned, ...]
    columns: tuple[ColumnMasked, ...]
    notes: tuple[str, ...]

    def as_json(self) -> Json:
        """The form that --dry-run prints."""
        return dict(_plan_form().dump_python(self, mode="json"))


@cache
def _plan_form() -> TypeAdapter[SyncPlan]:
    return TypeAdapter(SyncPlan)


@cache
def _form() -> TypeAdapter[SyncReport]:
    return TypeAdapter(SyncReport)


def columns(plan: Plan, masks: Masks) -> tuple[ColumnMasked, ...]:
    """Every column that is copied, with its rule; a column without one is kept."""
    found = []
    for table in plan.tables:
        rules = masks.of(table.source)
        for p in table.columns:
            mask = rules.get(p.target)
            rule, why = ("keep", "") if mask is None else (str(mask.rule), mask.why)
            found.append(ColumnMasked(str(table.target), p.target, rule, why))
    return tuple(found)
