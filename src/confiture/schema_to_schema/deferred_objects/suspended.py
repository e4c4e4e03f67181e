"""Triggers, rules, unvalidated constraints and publications: off while Confiture writes (I-5.14, I-11.1).

Triggers fire, and rules rewrite, for rows that have passed them on the other side already. A constraint that is NOT
VALID rejects an old row that violates it when that row is copied or applied again. A publication that publishes
deletes rejects those of a table without a replica identity.

Locks: a trigger takes SHARE ROW EXCLUSIVE, a rule or constraint ACCESS EXCLUSIVE, a publication none on a table.
"""

from __future__ import annotations

from confiture.journal.model import (
    Deferred,
    DeferredCheck,
    DeferredPublication,
    DeferredRule,
    DeferredTrigger,
)
from confiture.postgres.session import Transaction
from confiture.schema_to_schema.deferred_objects import statements


def take_off(tx: Transaction, item: Deferred) -> None:
    """Disable a trigger or rule, drop a constraint, or set a publication to publish nothing."""
    if isinstance(item, DeferredPublication):
        statements.set_publish(tx, item.name, "")
    elif isinstance(item, DeferredTrigger | DeferredRule):
        statements.set_enabled(tx, item.table, item.kind, item.name, "D")
    elif isinstance(item, DeferredCheck) and not item.inherited:
        statements.drop_constraint(tx, item.table, item.name, domain=item.domain)
        # Rows of these tables must not violate theirs, and the restored constraint merges with them without a scan.
        for below in item.valid_below:
            statements.add_constraint(tx, below.table, below.name, below.definition)
            statements.comment_on_constraint(tx, below.table, below.name, below.comment)


def restore(tx: Transaction, item: Deferred) -> None:
    """Undo :func:`take_off`: the object as it was, a constraint NOT VALID; a catalog change."""
    if isinstance(item, DeferredPublication):
        statements.set_publish(tx, item.name, item.definition)
    elif isinstance(item, DeferredTrigger | DeferredRule):
        statements.set_enabled(tx, item.table, item.kind, item.name, item.enabled)
    elif isinstance(item, DeferredCheck):
        # An inherited constraint came back with its parent's. Only its comment is its own.
        if not item.inherited:
            statements.add_constraint(tx, item.table, item.name, item.definition, domain=item.domain)
        statements.comment_on_constraint(tx, item.table, item.name, item.comment, domain=item.domain)
