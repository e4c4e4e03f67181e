"""Foreign keys during the run: NO ACTION, DEFERRABLE INITIALLY DEFERRED, whatever is declared (I-5.9, I-5.10).

An ON DELETE CASCADE would delete a child on the target that was moved to another parent before its old parent
was deleted. A key with an action therefore has a substitute, whose name is its own from the start: the declared
key is then added next to it, NOT VALID, without a rename under the write pause. The substitute is dropped later.
A key without an action (plain) keeps its name; only its deferrability changes. Before PostgreSQL 18 a partitioned
table refuses NOT VALID: the declared key is added to each leaf, and the root's key then takes the leaves' keys over.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from psycopg import sql

from confiture.catalog import ForeignKey
from confiture.journal.deferred_objects import Deferred
from confiture.plan.projection import raw
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import TableRef


def _table(ref: TableRef) -> sql.Identifier:
    return sql.Identifier(ref.schema, ref.name)


def described(key: ForeignKey) -> Deferred:
    """A key as it is declared, with what stands in for it; status ``off``."""
    detail: dict[str, Any] = {
        "partitioned": key.partitioned,
        "by_leaf": key.partitioned and not key.to_partitioned,
        "plain": key.no_action,
        "deferrable": key.is_deferrable,
        "deferred": key.is_deferred,
        "validated": key.validated,
        "references": [key.references.schema, key.references.name],
        "columns": list(key.columns),
        "ref_columns": list(key.ref_columns),
        "period": key.period,
        "operators": [asdict(o) for o in key.operators],
    }
    interim = None if key.kept_as_declared else _interim(key)
    if interim is not None and not key.no_action:
        detail["interim_name"] = _interim_name(key.table, key.name)
    return Deferred("foreign_key", key.table, key.name, key.definition, interim, key.comment, detail)


def _interim_name(table: TableRef, name: str) -> str:
    """The substitute's name: its own, because the declared name is added next to it at the opening."""
    text = "\0".join((table.schema, table.name, name))
    return f"confiture_interim_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _interim(key: ForeignKey) -> str:
    def names(columns: tuple[str, ...]) -> str:
        found = ['"' + c.replace('"', '""') + '"' for c in columns]
        if key.period:
            found[-1] = f"PERIOD {found[-1]}"
        return ", ".join(found)

    match = " MATCH FULL" if key.match_full else ""
    there = ".".join('"' + part.replace('"', '""') + '"' for part in (key.references.schema, key.references.name))
    return (
        f"FOREIGN KEY ({names(key.columns)}) REFERENCES {there} ({names(key.ref_columns)}){match}"
        " DEFERRABLE INITIALLY DEFERRED"
    )


def comment_on(tx: Transaction, item: Deferred) -> None:
    """Give the declared constraint its comment back."""
    if item.comment is not None:
        statement = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
        text = sql.Literal(item.comment)
        tx.pg.execute(statement.format(sql.Identifier(item.name), _table(item.table), text))


def _replace(tx: Transaction, item: Deferred, old: str, new: str, definition: str) -> None:
    """Another definition in the key's place: in one statement, so never without one."""
    statement = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}, ADD CONSTRAINT {} {}")
    names = sql.Identifier(old), sql.Identifier(new)
    tx.pg.execute(statement.format(_table(item.table), *names, raw(definition)))


def free_names(tx: Transaction, item: Deferred) -> None:
    """Rename what belongs to the substitute, so that the declared key's parts get the names they would have alone.

    A key that references a partitioned table has a constraint for each partition there, named by the server.
    """
    if item.interim_name == item.name:
        return
    names = {"name": item.interim_name, "schema": item.table.schema, "table": item.table.name}
    for n, (name,) in enumerate(tx.pg.execute(load("constraints.sql")["parts"], names).fetchall(), 1):
        rename = sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}")
        new = sql.Identifier(f"{item.interim_name}_{n}")
        tx.pg.execute(rename.format(_table(item.table), sql.Identifier(name), new))


def drop(tx: Transaction, item: Deferred) -> None:
    """Take the key off, or its substitute, by the item's status."""
    statement = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
    tx.pg.execute(statement.format(_table(item.table), sql.Identifier(item.standing)))


def relax(tx: Transaction, item: Deferred) -> None:
    """The substitute in a declared key's place; not validated where that is possible."""
    detail = item.detail or {}
    if item.interim is None:
        return
    if not detail["plain"]:
        late = "" if detail["partitioned"] else " NOT VALID"
        _replace(tx, item, item.name, item.interim_name, item.interim + late)
        free_names(tx, item)
    elif not detail["deferred"]:
        _defer(tx, item, "DEFERRABLE INITIALLY DEFERRED")


def validate(tx: Transaction, item: Deferred) -> None:
    """Have the key's substitute hold for every row."""
    _validate(tx, item.table, item.interim_name)


def _validate(tx: Transaction, table: TableRef, name: str) -> None:
    tx.pg.execute(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(_table(table), sql.Identifier(name)))


def declare(tx: Transaction, item: Deferred) -> None:
    """Add the declared key, NOT VALID, next to its substitute: a catalog change; :func:`settle` does the rest."""
    detail = item.detail or {}
    if item.interim is None or detail["plain"]:
        return  # only deferrability differs
    if item.interim_name == item.name and not detail["partitioned"]:
        # An older version recorded it, and gave the substitute the key's own name.
        rename = sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}")
        name = sql.Identifier(_interim_name(item.table, item.name))
        tx.pg.execute(rename.format(_table(item.table), sql.Identifier(item.name), name))
    definition = raw(item.definition.removesuffix(" NOT VALID") + " NOT VALID")
    for table in _leaves(tx, item, None) if detail["partitioned"] else (item.table,):
        statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
        tx.pg.execute(statement.format(_table(table), sql.Identifier(item.name), definition))
    if not detail["partitioned"]:
        comment_on(tx, item)


def _leaves(tx: Transaction, item: Deferred, validated: bool | None) -> list[TableRef]:
    """The leaves that have a key of that name, by whether it is validated; None for those that have none.

    Empty where the root's key could not take the leaves' keys over: it scans the rows then, in :func:`settle`.
    """
    if not (item.detail or {}).get("by_leaf"):
        return []
    names = {"name": item.name, "schema": item.table.schema, "table": item.table.name}
    rows = tx.pg.execute(load("constraints.sql")["leaves"], names).fetchall()
    return [TableRef(schema, name) for schema, name, now in rows if now is validated]


def validate_declared(tx: Transaction, item: Deferred) -> None:
    """Check every row under the declared key next to its substitute: long, but it blocks no writer."""
    detail = item.detail or {}
    if item.interim is None or detail["plain"] or not detail["validated"]:
        return
    for table in _leaves(tx, item, False) if detail["partitioned"] else (item.table,):
        _validate(tx, table, item.name)


def drop_interim_key(tx: Transaction, item: Deferred) -> None:
    """What :func:`declare` left, after :func:`validate_declared`: drop the substitute."""
    detail = item.detail or {}
    if item.interim is None or detail["plain"] or detail["partitioned"]:
        put_back(tx, item)
        return
    name = sql.Identifier(_interim_name(item.table, item.name))
    tx.pg.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(_table(item.table), name))


def put_back(tx: Transaction, item: Deferred) -> None:
    """The declared key in its substitute's place, in one statement; rows are scanned where its action differs."""
    detail = item.detail or {}
    if item.interim is None:
        return
    if not detail["plain"]:
        _replace(tx, item, item.interim_name, item.name, item.definition)
        comment_on(tx, item)
    elif not detail["deferred"]:
        _defer(tx, item, "DEFERRABLE INITIALLY IMMEDIATE" if detail["deferrable"] else "NOT DEFERRABLE")


def _defer(tx: Transaction, item: Deferred, mode: str) -> None:
    statement = sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} {}")
    tx.pg.execute(statement.format(_table(item.table), sql.Identifier(item.name), sql.SQL(mode)))
