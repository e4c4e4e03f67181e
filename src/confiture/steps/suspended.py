"""The application's triggers and rules while Confiture writes to their tables: disabled, and enabled as they were.

Triggers fire, and rules rewrite, for rows that have been through them on the other side already (I-5.14, I-11.1).
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from confiture.catalog import Table
from confiture.db import Transaction
from confiture.journal.progress import Deferred

#: By ``tgenabled`` and ``ev_enabled``; D is disabled.
_MODES = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}


def triggers(table: Table) -> Iterator[Deferred]:
    """The triggers of a table and its partitions that are not disabled; Confiture's own are among them."""
    for t in table.triggers:
        if t.enabled != "D":
            yield Deferred("trigger", t.table, t.name, t.definition, detail={"enabled": t.enabled})


def rules(table: Table) -> Iterator[Deferred]:
    """The rules ON INSERT, UPDATE and DELETE of a table and its partitions that are not disabled."""
    for r in table.rules:
        if r.enabled != "D":
            yield Deferred("rule", r.table, r.name, r.definition, detail={"enabled": r.enabled})


def disable(tx: Transaction, item: Deferred) -> None:
    """A trigger or rule off. A rule takes ACCESS EXCLUSIVE, a trigger SHARE ROW EXCLUSIVE."""
    _set(tx, item, "D")


def enable(tx: Transaction, item: Deferred) -> None:
    """A trigger or rule on again, as it was; the same locks."""
    _set(tx, item, (item.detail or {}).get("enabled", "O"))


def _set(tx: Transaction, item: Deferred, mode: str) -> None:
    # ONLY: each partition's is an item of its own, as it may be enabled otherwise than the root's.
    statement = sql.SQL("ALTER TABLE ONLY {} {} {} {}")
    kind = sql.SQL("RULE" if item.kind == "rule" else "TRIGGER")
    table = sql.Identifier(item.table.schema, item.table.name)
    tx.pg.execute(statement.format(table, sql.SQL(_MODES[mode]), kind, sql.Identifier(item.name)))
