"""What capture needs of each source table: a key, plain inheritance, and its owner's rights."""

from __future__ import annotations

from confiture.catalog import Catalog
from confiture.errors import Refused
from confiture.plan import Plan
from confiture.types import quoted


def check(plan: Plan, source: Catalog) -> None:
    """:raises Refused: naming every table whose changes cannot be captured, and why."""
    reasons = []
    for ref in dict.fromkeys(t.source for t in plan.tables):
        table = source.by_ref[ref]
        planned = [t for t in plan.tables if t.source == ref]
        if not all(t.key for t in planned):
            reasons.append(f"{ref} has no usable key: {next(t.key_reason for t in planned if not t.key)}")
        elif len({tuple(sorted(k.source for k in t.key)) for t in planned}) > 1:
            reasons.append(f"{ref} feeds several targets that walk it by different keys: give them one $key")
        if table.inherits or table.inherited_from:
            reasons.append(f"{ref} is part of an inheritance tree that is not partitioning")
        if not (table.owned or source.identity.superuser):
            reasons.append(f"{ref} belongs to {quoted(table.owner)}: GRANT {quoted(table.owner)} TO the source's role")
    if reasons:
        raise Refused(
            "writes cannot be captured",
            why="\n".join(reasons),
            fix="mend these, leave the tables behind with $omit, or stop the application and set up without --capture",
        )
