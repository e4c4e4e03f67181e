"""Foreign keys while rows are brought over: NO ACTION and deferred, whatever they are declared (correctness.md, 5).

An ON DELETE CASCADE in place would cascade away a child that was moved to another parent before its old
parent's deletion. The declared key is put beside its substitute, not validated, and takes its place later.
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from confiture.catalog import ForeignKey
from confiture.db import Transaction
from confiture.journal.progress import Deferred
from confiture.projection import raw
from confiture.types import TableRef


def _table(ref: TableRef) -> sql.Identifier:
    return sql.Identifier(ref.schema, ref.name)


def described(key: ForeignKey) -> Deferred:
    """A key as it is declared, with what stands in for it; status ``off``."""
    detail: dict[str, Any] = {
        "partitioned": key.partitioned,
        "plain": key.no_action,
        "deferrable": key.is_deferrable,
        "deferred": key.is_deferred,
        "validated": key.validated,
        "references": [key.references.schema, key.references.name],
        "columns": list(key.columns),
        "ref_columns": list(key.ref_columns),
    }
    interim = None if key.kept_as_declared else _interim(key)
    return Deferred("foreign_key", key.table, key.name, key.definition, interim, key.comment, detail)


def _interim(key: ForeignKey) -> str:
    def names(columns: tuple[str, ...]) -> str:
        return ", ".join('"' + c.replace('"', '""') + '"' for c in columns)

    match = " MATCH FULL" if key.match_full else ""
    there = ".".join('"' + part.replace('"', '""') + '"' for part in (key.references.schema, key.references.name))
    return (
        f"FOREIGN KEY ({names(key.columns)}) REFERENCES {there} ({names(key.ref_columns)}){match}"
        " DEFERRABLE INITIALLY DEFERRED"
    )


def comment_on(tx: Transaction, item: Deferred) -> None:
    """Give the constraint its comment back."""
    if item.comment is not None:
        statement = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
        text = sql.Literal(item.comment)
        tx.pg.execute(statement.format(sql.Identifier(item.name), _table(item.table), text))


def replace(tx: Transaction, item: Deferred, definition: str) -> None:
    """Another definition in the key's place: in one statement, so never without one."""
    name = sql.Identifier(item.name)
    statement = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}, ADD CONSTRAINT {} {}")
    tx.pg.execute(statement.format(_table(item.table), name, name, raw(definition)))
    comment_on(tx, item)


def relax(tx: Transaction, item: Deferred) -> None:
    """The substitute in a declared key's place; not validated where that is possible."""
    detail = item.detail or {}
    if item.interim is None:
        return
    if not detail["plain"]:
        replace(tx, item, item.interim + ("" if detail["partitioned"] else " NOT VALID"))
    elif not detail["deferred"]:
        _defer(tx, item, "DEFERRABLE INITIALLY DEFERRED")


def validate(tx: Transaction, item: Deferred) -> None:
    """Have a key hold for every row."""
    statement = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
    tx.pg.execute(statement.format(_table(item.table), sql.Identifier(item.name)))


def declare(tx: Transaction, item: Deferred) -> None:
    """The declared action holds from here on, beside the substitute; :func:`settle` does the rest at leisure."""
    detail = item.detail or {}
    if item.interim is None or detail["plain"] or detail["partitioned"]:
        return  # only deferrability differs; or NOT VALID is refused, and rows would be scanned
    table, name = _table(item.table), sql.Identifier(item.name)
    tx.pg.execute(sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(table, name, _beside(item)))
    definition = item.definition.removesuffix(" NOT VALID") + " NOT VALID"
    tx.pg.execute(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, raw(definition)))


def validate_declared(tx: Transaction, item: Deferred) -> None:
    """Check every row under the declared key that stands beside its substitute: long, but it holds nobody up."""
    detail = item.detail or {}
    if item.interim is not None and detail["validated"] and not (detail["plain"] or detail["partitioned"]):
        validate(tx, item)


def settle(tx: Transaction, item: Deferred) -> None:
    """What :func:`declare` left, after :func:`validate_declared`: the substitute goes."""
    detail = item.detail or {}
    if item.interim is None or detail["plain"] or detail["partitioned"]:
        put_back(tx, item)
        return
    tx.pg.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(_table(item.table), _beside(item)))
    comment_on(tx, item)


def put_back(tx: Transaction, item: Deferred) -> None:
    """The declared key in its substitute's place, at once; rows are scanned where its action differs."""
    detail = item.detail or {}
    if item.interim is None:
        return
    if not detail["plain"]:
        replace(tx, item, item.definition)
    elif not detail["deferred"]:
        _defer(tx, item, "DEFERRABLE INITIALLY IMMEDIATE" if detail["deferrable"] else "NOT DEFERRABLE")


def _defer(tx: Transaction, item: Deferred, mode: str) -> None:
    statement = sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} {}")
    tx.pg.execute(statement.format(_table(item.table), sql.Identifier(item.name), sql.SQL(mode)))


def _beside(item: Deferred) -> sql.Identifier:
    """What the substitute is called while the declared key stands beside it."""
    return sql.Identifier("confiture_interim_" + item.name[:40])
