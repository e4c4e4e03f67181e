"""Objects that are off or relaxed during a run, and every statement that changes one of them.

An object is an index, a constraint, a foreign key, a trigger, a rule, or a publication. Its definition stays in the
journal (on the target) or in the run's schema (on the source), recorded by the caller in the transaction that changes
the object. The status states what is in the database. On the source, a relaxed key has the status off until the
rollback declares it, and then interim.

======== ===================================================================== ======================================
status   in the database                                                       verbs that lead there
======== ===================================================================== ======================================
off      nothing; a trigger or rule is disabled, a publication publishes       ``take_off``
         nothing
interim  a foreign key as it stands until the cutover or the rollback: NO      ``relax`` (from back), ``add_interim``
         ACTION, DEFERRABLE INITIALLY DEFERRED                                 (from off)
back     the object as declared                                                ``restore`` (from off), ``declare`` and
                                                                               ``drop_interim``, or
                                                                               ``replace_interim`` (from interim)
======== ===================================================================== ======================================

``declare`` is for the opening, under the write pause: a catalog change that adds the declared key NOT VALID beside
its interim. ``validate_declared`` then checks the rows without blocking writers, and ``drop_interim`` ends the
transition. ``replace_interim`` does all of it in one statement, which scans the rows under its lock. A partitioned
table has its own path at each step: see :mod:`~confiture.schema_to_schema.deferred_objects.foreign_keys`.

The modules: ``describe`` builds the record of an object; ``statements`` holds each statement once;
``foreign_keys``, ``indexes`` and ``suspended`` hold the transitions of each kind. Callers decide when.
"""

from __future__ import annotations

from confiture.journal.model import Deferred, DeferredForeignKey, DeferredIndex
from confiture.postgres.session import Transaction
from confiture.schema_to_schema.deferred_objects import foreign_keys, indexes, suspended


def take_off(tx: Transaction, item: Deferred) -> None:
    """Remove or disable the object that stands by the item's status.

    :raises psycopg.errors.DependentObjectsStillExist: when another object needs an index or constraint.
    """
    if isinstance(item, DeferredForeignKey):
        foreign_keys.take_off(tx, item)
    elif isinstance(item, DeferredIndex):
        indexes.take_off(tx, item)
    else:
        suspended.take_off(tx, item)


def restore(tx: Transaction, item: Deferred) -> None:
    """Restore an object that is off as declared, with its comment.

    An index is built and a foreign key validated within the statement. For the other kinds this is a catalog change.
    """
    if isinstance(item, DeferredForeignKey):
        foreign_keys.restore(tx, item)
    elif isinstance(item, DeferredIndex):
        indexes.restore(tx, item)
    else:
        suspended.restore(tx, item)
