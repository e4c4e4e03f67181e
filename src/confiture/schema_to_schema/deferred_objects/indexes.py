"""Indexes and unique, primary key and exclusion constraints: off while the target's tables are filled (I-3.11).

Those of a partition are items of their own. They are built on that partition alone, with their own names and
definitions, and then attached to the parent's.
"""

from __future__ import annotations

from collections.abc import Sequence

from confiture.journal.model import Deferred, DeferredConstraint, DeferredIndex
from confiture.postgres.session import Transaction
from confiture.schema_to_schema.deferred_objects import statements
from confiture.types import TableRef


def roots_first(items: Sequence[Deferred]) -> list[DeferredIndex]:
    """The indexes and constraints among ``items``, those of partitions after the ones they are attached to."""
    return sorted((d for d in items if isinstance(d, DeferredIndex)), key=lambda d: d.level)


def take_off(tx: Transaction, item: DeferredIndex) -> None:
    """Drop an index or constraint with all that is attached to it.

    :raises psycopg.errors.DependentObjectsStillExist: when another object needs it.
    """
    if isinstance(item, DeferredConstraint):
        statements.drop_constraint(tx, item.table, item.name)
    else:
        statements.drop_index(tx, TableRef(item.table.schema, item.name))


def restore(tx: Transaction, item: DeferredIndex) -> None:
    """Build an index or constraint, attach it to its parent's, and set its comments.

    :raises psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation: when rows conflict.
    """
    index = TableRef(item.table.schema, item.name)
    statements.use_tablespace(tx, item.tablespace)
    if isinstance(item, DeferredConstraint):
        statements.add_constraint(tx, item.table, item.name, item.definition, only=True)
        for option, value in (o.split("=", 1) for o in item.options):
            statements.set_index_option(tx, index, option, value)
    else:
        statements.create_index(tx, item.definition)
    if item.parent is not None:
        statements.attach_index(tx, item.parent, index)
    if isinstance(item, DeferredConstraint):
        statements.comment_on_constraint(tx, item.table, item.name, item.comment)
        statements.comment_on_index(tx, index, item.index_comment)
    else:
        statements.comment_on_index(tx, index, item.comment)
