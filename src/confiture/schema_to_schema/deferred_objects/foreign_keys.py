"""Foreign keys during the run: NO ACTION, DEFERRABLE INITIALLY DEFERRED, whatever is declared (I-5.9, I-5.10).

An ON DELETE CASCADE would delete a child on the target that was moved to another parent before its old parent was
deleted. A key with an action therefore has an interim constraint with a name of its own: the declared key is added
beside it, NOT VALID, without a rename under the write pause. The interim is dropped later. A plain key, which has no
action, keeps its name; only its deferrability changes.

A partitioned table rejects NOT VALID before PostgreSQL 18. There the declared key is added NOT VALID to each leaf, and
the root's key, added when the interim is replaced, merges with the leaves' keys.

A key that references a partitioned table has a part for each partition there. Before PostgreSQL 18, VALIDATE
CONSTRAINT leaves the parts NOT VALID. Such a key is added whole: a plain one with the interim, one with an action
after the opening, in a statement that scans the rows under its lock.
"""

from __future__ import annotations

from confiture.journal.model import DeferredForeignKey
from confiture.postgres.session import Transaction
from confiture.schema_to_schema.deferred_objects import describe, statements
from confiture.sql import load
from confiture.types import TableRef

_SQL = load("constraints.sql")


# Off, and back -------------------------------------------------------------------------------------


def take_off(tx: Transaction, item: DeferredForeignKey) -> None:
    """Drop the declared key, or its interim when the status is ``interim``."""
    statements.drop_constraint(tx, item.table, item.standing)


def restore(tx: Transaction, item: DeferredForeignKey) -> None:
    """Add the declared key; every row is checked within the statement."""
    statements.add_constraint(tx, item.table, item.name, item.definition)
    _comment_on(tx, item)


def restore_not_valid(tx: Transaction, item: DeferredForeignKey) -> None:
    """Add the declared key, NOT VALID, for new rows only: a catalog change; :func:`validate_restored` ends it."""
    statements.add_constraint(tx, item.table, item.name, _not_valid(item))


def validate_restored(tx: Transaction, item: DeferredForeignKey) -> None:
    """Check every row under a key of :func:`restore_not_valid`, unless it is declared NOT VALID."""
    if item.validated and item.whole:
        statements.replace_constraint(tx, item.table, item.name, item.name, item.definition)
    elif item.validated:
        statements.validate_constraint(tx, item.table, item.name)
    _comment_on(tx, item)


# The interim ---------------------------------------------------------------------------------------


def add_interim(tx: Transaction, item: DeferredForeignKey) -> None:
    """Add the key as it stands until the cutover, not yet validated where the server permits that.

    :raises psycopg.errors.ForeignKeyViolation: when the server validates it now and a row has no parent.
    """
    late = "" if item.interim is None else _late(item)
    statements.add_constraint(tx, item.table, item.interim_name, (item.interim or item.definition) + late)
    if item.interim_name == item.name:
        _comment_on(tx, item)
    _free_names(tx, item)


def relax(tx: Transaction, item: DeferredForeignKey) -> None:
    """Put the interim in the place of the declared key, not yet validated where the server permits that."""
    if item.interim is None:
        return
    if not item.plain:
        statements.replace_constraint(tx, item.table, item.name, item.interim_name, item.interim + _late(item))
        _free_names(tx, item)
    elif not item.deferred:
        statements.alter_deferrability(tx, item.table, item.name, "DEFERRABLE INITIALLY DEFERRED")


def validate_interim(tx: Transaction, item: DeferredForeignKey) -> None:
    """Check every row under the interim.

    :raises psycopg.errors.ForeignKeyViolation: when a row has no parent.
    """
    statements.validate_constraint(tx, item.table, item.interim_name)


# From the interim to the declared key --------------------------------------------------------------


def declare(tx: Transaction, item: DeferredForeignKey) -> None:
    """Add the declared key, NOT VALID, beside its interim: a catalog change; :func:`drop_interim` ends it."""
    if item.interim is None or item.plain:
        return  # only deferrability differs
    if item.interim_name == item.name and not item.partitioned:
        # An older version recorded this item, and gave the interim the key's own name.
        statements.rename_constraint(tx, item.table, item.name, describe.interim_name(item.table, item.name))
    for table in _leaves(tx, item, None) if item.partitioned else (item.table,):
        statements.add_constraint(tx, table, item.name, _not_valid(item))
    if not item.partitioned:
        _comment_on(tx, item)


def validate_declared(tx: Transaction, item: DeferredForeignKey) -> None:
    """Check every row under the declared key beside its interim: this takes long and blocks no writer."""
    if item.interim is None or item.plain or not item.validated or item.whole:
        return
    for table in _leaves(tx, item, False) if item.partitioned else (item.table,):
        statements.validate_constraint(tx, table, item.name)


def drop_interim(tx: Transaction, item: DeferredForeignKey) -> None:
    """End what :func:`declare` began, after :func:`validate_declared`: drop the interim.

    Where no declared key stands beside the interim (plain keys, and the root of a partitioned table), the interim is
    replaced in one statement.
    """
    if item.interim is None or item.plain or item.partitioned:
        replace_interim(tx, item)
    else:
        statements.drop_constraint(tx, item.table, describe.interim_name(item.table, item.name))
        if item.whole and item.validated:
            statements.replace_constraint(tx, item.table, item.name, item.name, item.definition)
            _comment_on(tx, item)


def replace_interim(tx: Transaction, item: DeferredForeignKey) -> None:
    """Put the declared key in its interim's place in one statement, which scans the rows where the action differs."""
    if item.interim is None:
        return
    if not item.plain:
        statements.replace_constraint(tx, item.table, item.interim_name, item.name, item.definition)
        _comment_on(tx, item)
    elif not item.deferred:
        mode = "DEFERRABLE INITIALLY IMMEDIATE" if item.deferrable else "NOT DEFERRABLE"
        statements.alter_deferrability(tx, item.table, item.name, mode)


def _late(item: DeferredForeignKey) -> str:
    # A plain key that is added whole remains as it is: its parts are validated now, while the target is closed.
    now = item.partitioned or (item.whole and item.plain and item.validated)
    return "" if now else " NOT VALID"


def _not_valid(item: DeferredForeignKey) -> str:
    return item.definition.removesuffix(" NOT VALID") + " NOT VALID"


def _comment_on(tx: Transaction, item: DeferredForeignKey) -> None:
    statements.comment_on_constraint(tx, item.table, item.name, item.comment)


def _names(item: DeferredForeignKey, name: str) -> dict[str, str]:
    return {"name": name, "schema": item.table.schema, "table": item.table.name}


def _free_names(tx: Transaction, item: DeferredForeignKey) -> None:
    """Rename the parts of the interim, so that the parts of the declared key get the names they would have alone.

    A key that references a partitioned table has a constraint for each partition there, named by the server.
    """
    if item.interim_name == item.name:
        return
    parts = tx.pg.execute(_SQL["parts"], _names(item, item.interim_name)).fetchall()
    for n, (name,) in enumerate(parts, 1):
        statements.rename_constraint(tx, item.table, name, f"{item.interim_name}_{n}")


def _leaves(tx: Transaction, item: DeferredForeignKey, validated: bool | None) -> list[TableRef]:
    """The leaves that have a key of that name, by whether it is validated; None for those that have none.

    Empty where the root's key could not merge with the leaves' keys: :func:`drop_interim` scans the rows then.
    """
    if not item.by_leaf:
        return []
    rows = tx.pg.execute(_SQL["leaves"], _names(item, item.name)).fetchall()
    return [TableRef(schema, name) for schema, name, now in rows if now is validated]
