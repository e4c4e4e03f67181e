"""Requirements of capture for each source table: a key unless it is small, no inheritance.

docs/invariants.md, I-4.8 and I-5.16.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confiture.catalog_model import Catalog, Table
from confiture.plan.model import Plan, TablePlan

WAYS_OUT = (
    "fix these, exclude the tables with $omit, or stop the application and set up with --no-capture;"
    " nothing was changed"
)

_TOO_LARGE = (
    "it cannot be copied again in the cutover instead, being larger than --recopy-mb, partitioned, or at an end of"
    " a partitioned table's foreign key: add a key, or --no-capture"
)


def reasons(plan: Plan, source: Catalog) -> list[str]:
    """Each table whose changes cannot be captured, with the reason; empty when there is none."""
    found: list[str] = []
    for ref in dict.fromkeys(t.source for t in plan.tables):
        planned = [t for t in plan.tables if t.source == ref]
        found += _of_table(source.by_ref[ref], planned)
    return found


def _of_table(table: Table, planned: Sequence[TablePlan]) -> Iterator[str]:
    keyless = next((t for t in planned if not (t.key or t.recopied)), None)
    if keyless is not None:
        yield f"{table.ref} has no usable key: {keyless.key_reason}; {_TOO_LARGE}"
    if len({tuple(sorted(k.source for k in t.key)) for t in planned if t.key}) > 1:
        yield f"{table.ref} has several target tables with different keys: specify the same $key for each"
    if table.inherits or table.inherited_from:
        yield f"{table.ref} is part of an inheritance tree that is not partitioning"
