"""Indexes and unique, primary key and exclusion constraints: off while the target's tables are filled (I-3.11).

Those of a partition are items of their own. They are built on that partition alone, with their own names and
definitions, and then attached to the parent's.
"""

from __future__ import annotations

from collections.abc import Sequence

from confiture.journal.model import Deferred, DeferredConstraint, DeferredIndex
from confiture.postgres.session import Transaction
from confiture.schema_to_schema.deferred_objects import statements
from confiture.sql import load
from confiture.types import TableRef

_SQL = load("constraints.sql")


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
    """Build an index or constraint and finish it.

    :raises psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation: when rows conflict.
    """
    build(tx, item)
    finish(tx, item)


def build(tx: Transaction, item: DeferredIndex) -> None:
    """Build the index; its table may be read, and other indexes be built on it. Nothing to do if it is built.

    :raises psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation: when rows conflict.
    """
    index = _index_of(item)
    statements.use_tablespace(tx, item.tablespace)
    if item.statement is None:
        statements.add_constraint(tx, item.table, item.name, item.definition, only=True)
    elif not _is_built(tx, item):
        statements.create_index(tx, item.statement)
    for column, target in item.statistics:
        statements.set_index_statistics(tx, index, column, target)


def finish(tx: Transaction, item: DeferredIndex) -> None:
    """Add the constraint to an index that is built, attach the index to its parent's, and set marks and comments.

    A catalog change. For a constraint or a mark it locks the table, also against another build.
    """
    index = _index_of(item)
    if isinstance(item, DeferredConstraint) and item.index is not None:
        statements.adopt_index(tx, item.table, item.name, item.definition)
    elif isinstance(item, DeferredConstraint):
        for option, value in (o.split("=", 1) for o in item.options):
            statements.set_index_option(tx, index, option, value)
    if item.parent is not None:
        statements.attach_index(tx, item.parent, index)
    if item.clustered:
        statements.cluster_on(tx, item.table, item.name)
    if item.replica_identity:
        statements.identify_by(tx, item.table, item.name)
    if isinstance(item, DeferredConstraint):
        statements.comment_on_constraint(tx, item.table, item.name, item.comment)
        statements.comment_on_index(tx, index, item.index_comment)
    else:
        statements.comment_on_index(tx, index, item.comment)


def _index_of(item: DeferredIndex) -> TableRef:
    return TableRef(item.table.schema, item.name)


def _is_built(tx: Transaction, item: DeferredIndex) -> bool:
    """Whether the index exists, from an attempt that ended before :func:`finish`; one that is not valid is dropped."""
    values = {"schema": item.table.schema, "name": item.name, "statement": item.statement}
    found = tx.pg.execute(_SQL["built"], values).fetchone()
    if found == (False,):
        statements.drop_index(tx, _index_of(item))
    return found == (True,)
