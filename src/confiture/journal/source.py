"""The schema of the run: what Confiture records on the source itself, in the transaction that it describes.

Every table of the schema is created, read and written here, except the log tables of capture, the facts of the
fingerprint and the large objects. The target's schema of the same name has the tables ``storage``, ``fingerprint`` and
``large_object``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from psycopg import sql

from confiture.errors import Held
from confiture.journal.model import AnyDeferred, Deferred, DeferredStatus, deferred_as_json, deferred_from_json
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import TableRef

#: The tables of the schema, in the order in which they are dropped: without the fence there is no run.
TABLES = ("deferred_object", "storage", "passes", "fingerprint", "fence")
#: The tables of the target's schema.
TARGET_TABLES = ("fingerprint", "storage", "large_object")


def _statement(block: str, schema: str) -> sql.Composed:
    return sql.SQL(load("run_schema.sql")[block].decode()).format(schema=sql.Identifier(schema))


def table(schema: str, name: str) -> sql.Identifier:
    """A table of the run's schema, for a statement that joins it or is stored with it.

    :param name: one of :data:`TABLES` or :data:`TARGET_TABLES`.
    """
    return sql.Identifier(schema, name)


# The schema ----------------------------------------------------------------------------------------


def create(tx: Transaction, schema: str, epoch: int) -> None:
    """Create the source's schema with its tables, unless it exists; both are there when ``tx`` commits, or neither.

    :param epoch: of the runner; the fence begins with it.
    """
    row = tx.pg.execute("SELECT to_regnamespace(quote_ident(%s))", (schema,)).fetchone()
    if row is not None and row[0] is not None:
        return
    for block in ("schema", *reversed(TABLES)):
        tx.pg.execute(_statement(block, schema))
    tx.pg.execute(sql.SQL("INSERT INTO {} (epoch) VALUES ({})").format(table(schema, "fence"), sql.Literal(epoch)))


def create_table(tx: Transaction, schema: str, name: str) -> None:
    """Create one table of the schema, which exists.

    :param name: one of :data:`TABLES`.
    """
    tx.pg.execute(_statement(name, schema))


def create_on_target(tx: Transaction, schema: str) -> None:
    """Create the target's schema with its tables; harmless to repeat."""
    for block in ("schema", *TARGET_TABLES):
        tx.pg.execute(_statement(block, schema))


def exists(tx: Transaction, schema: str) -> bool:
    """Whether the source has the run's fence, and with it the other tables."""
    row = tx.pg.execute("SELECT to_regclass(quote_ident(%s) || '.fence')", (schema,)).fetchone()
    return row is not None and row[0] is not None


def drop_tables(tx: Transaction, schema: str, names: Sequence[str], *, if_exist: bool = False) -> None:
    """Drop tables of the schema; the schema itself stays."""
    form = sql.SQL("DROP TABLE IF EXISTS {}" if if_exist else "DROP TABLE {}")
    for name in names:
        tx.pg.execute(form.format(table(schema, name)))


def views(tx: Transaction, schema: str) -> list[str]:
    """The names of the views in the schema."""
    query = "SELECT viewname FROM pg_catalog.pg_views WHERE schemaname = %s"
    return [row[0] for row in tx.pg.execute(query, (schema,)).fetchall()]


def drop_views(tx: Transaction, schema: str) -> None:
    """Drop every view in the schema."""
    for name in views(tx, schema):
        tx.pg.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(schema, name)))


# The fence -----------------------------------------------------------------------------------------


def fence(tx: Transaction, schema: str, epoch: int) -> None:
    """Hold the source's copy of the fence until the transaction ends (docs/invariants.md, I-7.2).

    :raises Held: when it does not carry the runner's own epoch.
    """
    query = sql.SQL("SELECT epoch FROM {} WHERE epoch = {} FOR SHARE").format(
        table(schema, "fence"), sql.Literal(epoch)
    )
    if tx.pg.execute(query).fetchone() is None:
        raise Held(
            "another runner has taken this run over",
            why=f"the source's fence {schema}.fence no longer has epoch {epoch}",
            fix="see which process runs it: confiture status",
        )


def epoch(tx: Transaction, schema: str) -> int:
    """The fence's epoch; 0 before the schema exists."""
    if not exists(tx, schema):
        return 0
    row = tx.pg.execute(sql.SQL("SELECT epoch FROM {}").format(table(schema, "fence"))).fetchone()
    return 0 if row is None else int(row[0])


def raise_epoch(tx: Transaction, schema: str, epoch: int) -> None:
    """Raise the fence's epoch where it is lower; nothing before the schema exists."""
    if exists(tx, schema):
        statement = sql.SQL("UPDATE {} SET epoch = {epoch} WHERE epoch < {epoch}")
        tx.pg.execute(statement.format(table(schema, "fence"), epoch=sql.Literal(epoch)))


def plan_hash(tx: Transaction, schema: str) -> str | None:
    """The hash of the plan that the views were created for; None until they are complete."""
    row = tx.pg.execute(sql.SQL("SELECT plan_hash FROM {}").format(table(schema, "fence"))).fetchone()
    return None if row is None else row[0]


def set_plan_hash(tx: Transaction, schema: str, value: str | None) -> None:
    """Record the plan that the views were created for; None while they are replaced."""
    tx.pg.execute(sql.SQL("UPDATE {} SET plan_hash = {}").format(table(schema, "fence"), sql.Literal(value)))


# Passes --------------------------------------------------------------------------------------------


class ReversePass(NamedTuple):
    """The last reverse pass that the source has; 0 before the first.

    :ivar target_lsn: the target's WAL position at that pass; None before the first.
    """

    number: int
    target_lsn: str | None


def last_pass(tx: Transaction, schema: str) -> int:
    """The last catch-up pass that the source has; 0 before the first."""
    row = tx.pg.execute(sql.SQL("SELECT number FROM {}").format(table(schema, "passes"))).fetchone()
    return int(row[0]) if row is not None else 0


def set_last_pass(tx: Transaction, schema: str, number: int) -> None:
    """Record a catch-up pass in the transaction that deletes its log rows."""
    tx.pg.execute(sql.SQL("UPDATE {} SET number = {}").format(table(schema, "passes"), sql.Literal(number)))


def last_reverse_pass(tx: Transaction, schema: str) -> ReversePass:
    """The last reverse pass that the source has."""
    query = sql.SQL("SELECT reverse, target_lsn::text FROM {}").format(table(schema, "passes"))
    row = tx.pg.execute(query).fetchone()
    return ReversePass(0, None) if row is None else ReversePass(int(row[0]), row[1])


def count_reverse_pass(tx: Transaction, schema: str, known: int, lsn: str | None) -> int | None:
    """Number a reverse pass in the transaction that holds its rows; None where one side has lost a pass.

    :param known: the last reverse pass that the target has.
    :param lsn: the target's WAL position now.
    """
    row = tx.pg.execute(_statement("count_reverse_pass", schema), {"known": known, "lsn": lsn}).fetchone()
    return None if row is None else int(row[0])


# Storages ------------------------------------------------------------------------------------------


def add_storage(tx: Transaction, schema: str, ref: TableRef) -> None:
    """Record the current storage of a table."""
    tx.pg.execute(_statement("add_storage", schema), (ref.identifier.as_string(tx.pg),))


def storages(tx: Transaction, schema: str) -> set[str]:
    """The recorded storages, as text."""
    rows = tx.pg.execute(sql.SQL("SELECT filenode::text FROM {}").format(table(schema, "storage"))).fetchall()
    return {row[0] for row in rows}


# Deferred objects ---------------------------------------------------------------------------------


def add(tx: Transaction, schema: str, item: Deferred) -> None:
    """Record ``item`` in the transaction that disables or drops it; harmless to repeat."""
    statement = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING")
    values = (item.kind, item.table.schema, item.table.name, item.name, json.dumps(deferred_as_json(item)))
    tx.pg.execute(statement.format(table(schema, "deferred_object")), values)


def items(tx: Transaction, schema: str, kind: type[AnyDeferred]) -> tuple[AnyDeferred, ...]:
    """The objects of one kind that are disabled or dropped, by name."""
    statement = sql.SQL("SELECT item FROM {} WHERE kind = %s ORDER BY schema_name, table_name, name")
    rows = tx.pg.execute(statement.format(table(schema, "deferred_object")), (kind.kind,)).fetchall()
    found = (deferred_from_json(row[0]) for row in rows)
    return tuple(item for item in found if isinstance(item, kind))


def set_status(tx: Transaction, schema: str, item: Deferred, status: DeferredStatus) -> None:
    """Record the new status of ``item`` in the transaction that changes it."""
    statement = sql.SQL(
        "UPDATE {} SET item = item || jsonb_build_object('status', %s::text)"
        " WHERE (kind, schema_name, table_name, name) = (%s, %s, %s, %s)"
    ).format(table(schema, "deferred_object"))
    tx.pg.execute(statement, (status, item.kind, item.table.schema, item.table.name, item.name))


def discard(tx: Transaction, schema: str, item: Deferred) -> None:
    """Discard ``item`` in the transaction that restores it."""
    statement = sql.SQL("DELETE FROM {} WHERE (kind, schema_name, table_name, name) = (%s, %s, %s, %s)")
    tx.pg.execute(
        statement.format(table(schema, "deferred_object")), (item.kind, item.table.schema, item.table.name, item.name)
    )
