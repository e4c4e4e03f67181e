"""The statements that change constraints, indexes, triggers, rules and publications: each stands here once."""

from __future__ import annotations

from psycopg import sql

from confiture.plan.projection import raw
from confiture.postgres.session import Transaction
from confiture.types import TableRef

# Constraints ---------------------------------------------------------------------------------------


def add_constraint(
    tx: Transaction, owner: TableRef, name: str, definition: str, *, only: bool = False, domain: bool = False
) -> None:
    """Add a constraint by its definition as ``pg_get_constraintdef`` prints it.

    :param only: not on the table's partitions.
    :param domain: ``owner`` is a domain.
    """
    statement = sql.SQL("ALTER {} {} ADD CONSTRAINT {} {}")
    tx.pg.execute(
        statement.format(_kind(only=only, domain=domain), owner.identifier, sql.Identifier(name), raw(definition))
    )


def drop_constraint(tx: Transaction, owner: TableRef, name: str, *, domain: bool = False) -> None:
    """Drop a constraint, never with CASCADE."""
    statement = sql.SQL("ALTER {} {} DROP CONSTRAINT {}")
    tx.pg.execute(statement.format(_kind(domain=domain), owner.identifier, sql.Identifier(name)))


def replace_constraint(tx: Transaction, table: TableRef, old: str, new: str, definition: str) -> None:
    """Drop one constraint and add another in one statement, so that the table is never without one of them."""
    statement = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}, ADD CONSTRAINT {} {}")
    names = sql.Identifier(old), sql.Identifier(new)
    tx.pg.execute(statement.format(table.identifier, *names, raw(definition)))


def validate_constraint(tx: Transaction, table: TableRef, name: str) -> None:
    """Check every row against a constraint that is NOT VALID; writers are not blocked."""
    statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
    tx.pg.execute(statement.format(table.identifier, sql.Identifier(name)))


def alter_deferrability(tx: Transaction, table: TableRef, name: str, mode: str) -> None:
    """:param mode: such as ``DEFERRABLE INITIALLY DEFERRED`` or ``NOT DEFERRABLE``."""
    statement = sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} {}")
    tx.pg.execute(statement.format(table.identifier, sql.Identifier(name), raw(mode)))


def rename_constraint(tx: Transaction, table: TableRef, old: str, new: str) -> None:
    """Rename a constraint: a catalog change."""
    statement = sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}")
    tx.pg.execute(statement.format(table.identifier, sql.Identifier(old), sql.Identifier(new)))


def comment_on_constraint(
    tx: Transaction, owner: TableRef, name: str, comment: str | None, *, domain: bool = False
) -> None:
    """Set a constraint's comment; nothing to do when None."""
    if comment is not None:
        of = sql.SQL("DOMAIN " if domain else "")
        statement = sql.SQL("COMMENT ON CONSTRAINT {} ON {}{} IS {}")
        tx.pg.execute(statement.format(sql.Identifier(name), of, owner.identifier, sql.Literal(comment)))


def _kind(*, only: bool = False, domain: bool = False) -> sql.SQL:
    return sql.SQL("DOMAIN" if domain else "TABLE ONLY" if only else "TABLE")


#: The ends of a definition, the longest first.
_DEFERRABLE = ("DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE")

# Indexes -------------------------------------------------------------------------------------------


def create_index(tx: Transaction, definition: str) -> None:
    """Create an index by its definition as ``pg_get_indexdef`` prints it."""
    tx.pg.execute(raw(definition))


def drop_index(tx: Transaction, index: TableRef) -> None:
    """Drop an index with the partitions' indexes that are attached to it, never with CASCADE."""
    tx.pg.execute(sql.SQL("DROP INDEX {}").format(index.identifier))


def attach_index(tx: Transaction, parent: TableRef, index: TableRef) -> None:
    """Attach a partition's index to that of its parent table."""
    tx.pg.execute(sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(parent.identifier, index.identifier))


def set_index_option(tx: Transaction, index: TableRef, option: str, value: str) -> None:
    """Set a storage parameter of an index."""
    statement = sql.SQL("ALTER INDEX {} SET ({} = {})")
    tx.pg.execute(statement.format(index.identifier, sql.Identifier(option), sql.Literal(value)))


def adopt_index(tx: Transaction, table: TableRef, name: str, definition: str) -> None:
    """Add a unique or primary key constraint to the index of the same name: a catalog change.

    :param definition: of the constraint, as ``pg_get_constraintdef`` prints it. Only its kind and its deferrability are
        used, because the index has the columns.
    """
    kind = "PRIMARY KEY" if definition.startswith("PRIMARY KEY") else "UNIQUE"
    late = next((f" {mode}" for mode in _DEFERRABLE if definition.endswith(f" {mode}")), "")
    statement = sql.SQL("ALTER TABLE ONLY {} ADD CONSTRAINT {} {} USING INDEX {}{}")
    index = sql.Identifier(name)
    tx.pg.execute(statement.format(table.identifier, index, sql.SQL(kind), index, sql.SQL(late)))


def set_index_statistics(tx: Transaction, index: TableRef, column: int, target: int) -> None:
    """Set the statistics target of a column of an index, by the column's number."""
    statement = sql.SQL("ALTER INDEX {} ALTER COLUMN {} SET STATISTICS {}")
    tx.pg.execute(statement.format(index.identifier, sql.Literal(column), sql.Literal(target)))


def cluster_on(tx: Transaction, table: TableRef, name: str) -> None:
    """Have CLUSTER use an index."""
    tx.pg.execute(sql.SQL("ALTER TABLE ONLY {} CLUSTER ON {}").format(table.identifier, sql.Identifier(name)))


def identify_by(tx: Transaction, table: TableRef, name: str) -> None:
    """Make an index the replica identity of its table."""
    statement = sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY USING INDEX {}")
    tx.pg.execute(statement.format(table.identifier, sql.Identifier(name)))


def comment_on_index(tx: Transaction, index: TableRef, comment: str | None) -> None:
    """Set an index's comment; nothing to do when None."""
    if comment:
        tx.pg.execute(sql.SQL("COMMENT ON INDEX {} IS {}").format(index.identifier, sql.Literal(comment)))


def use_memory(tx: Transaction, memory: int, workers: int) -> None:
    """The limits of index builds in the rest of the transaction.

    :param memory: KiB of maintenance_work_mem; ``workers``: max_parallel_maintenance_workers.
    """
    statement = sql.SQL("SET LOCAL maintenance_work_mem = {}; SET LOCAL max_parallel_maintenance_workers = {}")
    tx.pg.execute(statement.format(sql.Literal(f"{memory}kB"), sql.Literal(workers)))


def use_tablespace(tx: Transaction, tablespace: str | None) -> None:
    """The tablespace of indexes created in the rest of the transaction; nothing to do when None."""
    if tablespace:
        tx.pg.execute(sql.SQL("SET LOCAL default_tablespace = {}").format(sql.Literal(tablespace)))


# Triggers, rules and publications ------------------------------------------------------------------

#: By ``tgenabled`` and ``ev_enabled``; D is disabled.
_MODES = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}


def set_enabled(tx: Transaction, table: TableRef, kind: str, name: str, mode: str) -> None:
    """Enable or disable a trigger or a rule of a table.

    ``ONLY``: each partition's trigger is an item of its own, because its mode may differ from the root's.

    :param kind: ``trigger`` or ``rule``.
    :param mode: ``O``, ``A``, ``R`` or ``D``, as in ``tgenabled``.
    """
    statement = sql.SQL("ALTER TABLE ONLY {} {} {} {}")
    what = sql.SQL("RULE" if kind == "rule" else "TRIGGER")
    tx.pg.execute(statement.format(table.identifier, sql.SQL(_MODES[mode]), what, sql.Identifier(name)))


def set_publish(tx: Transaction, publication: str, operations: str) -> None:
    """Set what a publication publishes; nothing to do if it was dropped during the run.

    :param operations: such as ``insert, update, delete, truncate``; empty for none.
    """
    if tx.pg.execute("SELECT FROM pg_publication WHERE pubname = %s", (publication,)).fetchone() is None:
        return
    statement = sql.SQL("ALTER PUBLICATION {} SET (publish = {})")
    tx.pg.execute(statement.format(sql.Identifier(publication), sql.Literal(operations)))
