"""The triggers that a run has created in a database, found by their functions; and the partitions of a table.

A trigger is found by its function and never by its table: a table may have been renamed since, and a partition that was
detached keeps its own trigger.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import TableRef


@dataclass(frozen=True, slots=True)
class RunTrigger:
    """A trigger of the run, under the names that it and its table have now."""

    table: TableRef
    name: str


def find(tx: Transaction, schema: str, functions: str = "%") -> list[RunTrigger]:
    """The triggers whose functions are in the run's schema, by table and name.

    A trigger that a partition inherits is left out: it belongs to that of the partition's root.

    :param functions: the names of the functions, as a pattern of LIKE.
    """
    names = {"schema": schema, "functions": functions}
    rows = tx.pg.execute(load("run_triggers.sql")["run_triggers"], names).fetchall()
    return [RunTrigger(TableRef(schema_name, table), name) for schema_name, table, name in rows]


def tables(tx: Transaction, schema: str) -> list[TableRef]:
    """The tables that have triggers of the run, each once and in order of name."""
    return sorted({trigger.table for trigger in find(tx, schema)}, key=lambda ref: (ref.schema, ref.name))


def drop(tx: Transaction, trigger: RunTrigger) -> None:
    """Drop one trigger, with those that partitions inherit from it."""
    table = trigger.table.identifier
    tx.pg.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger.name), table))


def partitions(tx: Transaction, table: TableRef) -> list[TableRef]:
    """Every partition below a table, on each level."""
    name = table.identifier.as_string(tx.pg)
    return [TableRef(*row) for row in tx.pg.execute(load("run_triggers.sql")["partitions"], {"table": name}).fetchall()]
