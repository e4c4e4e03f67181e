"""The record of an object before it is taken off or relaxed: sufficient to restore it as declared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from confiture.catalog import Catalog, ForeignKey, Index, Table, Unvalidated
from confiture.journal.deferred_objects import Deferred
from confiture.types import TableRef


def index(found: Index) -> Deferred:
    """An index, or the unique, primary key or exclusion constraint it belongs to."""
    detail: dict[str, Any] = {
        "tablespace": found.tablespace,
        "level": found.level,
        "parent": found.parent and [found.parent.schema, found.parent.name],
    }
    if found.constraint_definition is None:
        return Deferred("index", found.table, found.name, found.definition, comment=found.comment, detail=detail)
    detail |= {"options": list(found.options), "index_comment": found.comment}
    definition, comment = found.constraint_definition, found.constraint_comment
    return Deferred("constraint", found.table, found.name, definition, comment=comment, detail=detail)


def triggers(table: Table) -> Iterator[Deferred]:
    """The triggers of a table and its partitions that are not disabled, including those of Confiture."""
    for t in table.triggers:
        if t.enabled != "D":
            yield Deferred("trigger", t.table, t.name, t.definition, detail={"enabled": t.enabled})


def rules(table: Table) -> Iterator[Deferred]:
    """The rules ON INSERT, UPDATE and DELETE of a table and its partitions that are not disabled."""
    for r in table.rules:
        if r.enabled != "D":
            yield Deferred("rule", r.table, r.name, r.definition, detail={"enabled": r.enabled})


def unvalidated(found: Catalog, tables: Iterable[TableRef]) -> list[Deferred]:
    """The CHECK and NOT NULL constraints NOT VALID of these tables, and of every domain; parents before children."""
    wanted = set(tables)
    of_tables = sorted((c for t in found.tables if t.ref in wanted for c in t.unvalidated), key=lambda c: c.level)
    return [*(_check(c, domain=True) for c in found.domain_checks), *(_check(c, domain=False) for c in of_tables)]


def _check(c: Unvalidated, *, domain: bool) -> Deferred:
    # An inherited constraint exists once its parent's does, so it comes last.
    detail = {"level": -1 if c.inherited else c.level, "domain": domain, "inherited": c.inherited}
    return Deferred("check", c.table, c.name, c.definition, comment=c.comment, detail=detail)


def publications(found: Catalog) -> Iterator[Deferred]:
    """The publications that would reject a DELETE by Confiture; their table reference is empty."""
    for p in found.publications:
        yield Deferred("publication", TableRef("", ""), p.name, p.publish)


def foreign_key(key: ForeignKey) -> Deferred:
    """A foreign key as declared, with the definition of its interim; ``interim`` is None when it stays as declared.

    In its detail: ``plain`` when the key has no action, so that its interim is the same constraint with another
    deferrability; ``by_leaf`` when the declared key of a partitioned table is added to each leaf first;
    ``interim_name`` when the interim is a constraint of its own.
    """
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
        detail["interim_name"] = interim_name(key.table, key.name)
    return Deferred("foreign_key", key.table, key.name, key.definition, interim, key.comment, detail)


def interim_name(table: TableRef, name: str) -> str:
    """The name of a foreign key's interim. It is its own, because the declared key is added beside it."""
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
