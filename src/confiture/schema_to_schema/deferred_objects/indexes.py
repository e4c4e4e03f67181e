"""Indexes and unique, primary key and exclusion constraints: off while the target's tables are filled (I-3.11).

Those of a partition are items of their own. They are built on that partition alone, with their own names and
definitions, and then attached to the parent's.
"""

from __future__ import annotations

from collections.abc import Sequence

from confiture.journal.deferred_objects import Deferred
from confiture.postgres.session import Transaction
from confiture.schema_to_schema.deferred_objects import statements
from confiture.types import TableRef


def roots_first(items: Sequence[Deferred]) -> list[Deferred]:
    """The indexes and constraints among ``items``, those of partitions after the ones they are attached to."""
    found = [d for d in items if d.kind in ("index", "constraint")]
    return sorted(found, key=lambda d: int((d.detail or {}).get("level", 0)))


def take_off(tx: Transaction, item: Deferred) -> None:
    """Drop an index or constraint with all that is attached to it.

    :raises psycopg.errors.DependentObjectsStillExist: when another object needs it.
    """
    if item.kind == "constraint":
        statements.drop_constraint(tx, item.table, item.name)
    else:
        statements.drop_index(tx, TableRef(item.table.schema, item.name))


def restore(tx: Transaction, item: Deferred) -> None:
    """Build an index or constraint, attach it to its parent's, and set its comments.

    :raises psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation: when rows conflict.
    """
    detail, index = item.detail or {}, TableRef(item.table.schema, item.name)
    statements.use_tablespace(tx, detail.get("tablespace"))
    if item.kind == "index":
        statements.create_index(tx, item.definition)
    else:
        statements.add_constraint(tx, item.table, item.name, item.definition, only=True)
    for option, value in (o.split("=", 1) for o in detail.get("options", ())):
        statements.set_index_option(tx, index, option, value)
    if detail.get("parent"):
        statements.attach_index(tx, detail["parent"], index)
    if item.kind == "index":
        statements.comment_on_index(tx, index, item.comment)
    else:
        statements.comment_on_constraint(tx, item.table, item.name, item.comment)
    statements.comment_on_index(tx, index, detail.get("index_comment"))
