"""What was set aside on the source: its user triggers and foreign keys while changes come home.

Recorded in the source itself, in the transaction that sets them aside, so that no crash can part the two.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from psycopg import sql

from confiture.journal.deferred_objects import Deferred
from confiture.postgres.session import Transaction
from confiture.types import TableRef


def _aside(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "aside")


def create(tx: Transaction, schema: str) -> None:
    """The table of it, in the run's schema on the source."""
    tx.pg.execute(
        sql.SQL(
            "CREATE TABLE {} (kind text, schema_name text, table_name text, name text, item jsonb NOT NULL,"
            " PRIMARY KEY (kind, schema_name, table_name, name))"
        ).format(_aside(schema))
    )


def add(tx: Transaction, schema: str, item: Deferred) -> None:
    """Record ``item`` in the transaction that sets it aside; harmless to repeat."""
    statement = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING").format(_aside(schema))
    tx.pg.execute(statement, (item.kind, item.table.schema, item.table.name, item.name, json.dumps(asdict(item))))


def items(tx: Transaction, schema: str, kind: str) -> tuple[Deferred, ...]:
    """What is set aside, by name."""
    statement = sql.SQL("SELECT item FROM {} WHERE kind = %s ORDER BY schema_name, table_name, name")
    rows = tx.pg.execute(statement.format(_aside(schema)), (kind,)).fetchall()
    return tuple(Deferred(**{**row[0], "table": TableRef(**row[0]["table"])}) for row in rows)


def set_status(tx: Transaction, schema: str, item: Deferred, status: str) -> None:
    """Record where ``item`` now stands, in the transaction that put it there."""
    statement = sql.SQL(
        "UPDATE {} SET item = item || jsonb_build_object('status', %s::text)"
        " WHERE (kind, schema_name, table_name, name) = (%s, %s, %s, %s)"
    ).format(_aside(schema))
    tx.pg.execute(statement, (status, item.kind, item.table.schema, item.table.name, item.name))


def forget(tx: Transaction, schema: str, item: Deferred) -> None:
    """``item`` is as it was, from the same transaction on."""
    statement = sql.SQL("DELETE FROM {} WHERE (kind, schema_name, table_name, name) = (%s, %s, %s, %s)")
    tx.pg.execute(statement.format(_aside(schema)), (item.kind, item.table.schema, item.table.name, item.name))
