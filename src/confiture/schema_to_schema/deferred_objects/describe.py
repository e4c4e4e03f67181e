"""The record of an object before it is taken off or relaxed: sufficient to restore it as declared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from confiture.catalog_model import Catalog, ForeignKey, Index, Table, Unvalidated
from confiture.journal.model import (
    DeferredCheck,
    DeferredConstraint,
    DeferredForeignKey,
    DeferredIndex,
    DeferredPublication,
    DeferredRule,
    DeferredTrigger,
)
from confiture.types import TableRef


def index(found: Index) -> DeferredIndex:
    """An index, or the unique, primary key or exclusion constraint it belongs to."""
    if found.constraint_definition is None:
        return DeferredIndex(
            table=found.table,
            name=found.name,
            definition=found.definition,
            comment=found.comment,
            tablespace=found.tablespace,
            level=found.level,
            parent=found.parent,
            key=found.columns if found.is_key else (),
            statistics=found.statistics,
            clustered=found.clustered,
            replica_identity=found.replica_identity,
        )
    return DeferredConstraint(
        table=found.table,
        name=found.name,
        definition=found.constraint_definition,
        comment=found.constraint_comment,
        tablespace=found.tablespace,
        level=found.level,
        parent=found.parent,
        key=found.columns if found.is_key else (),
        statistics=found.statistics,
        clustered=found.clustered,
        replica_identity=found.replica_identity,
        options=found.options,
        index_comment=found.comment,
        index=found.definition if found.can_be_adopted else None,
    )


def triggers(table: Table) -> Iterator[DeferredTrigger]:
    """The triggers of a table and its partitions that are not disabled, including those of Confiture."""
    for t in table.triggers:
        if t.enabled != "D":
            yield DeferredTrigger(table=t.table, name=t.name, definition=t.definition, enabled=t.enabled)


def rules(table: Table) -> Iterator[DeferredRule]:
    """The rules ON INSERT, UPDATE and DELETE of a table and its partitions that are not disabled."""
    for r in table.rules:
        if r.enabled != "D":
            yield DeferredRule(table=r.table, name=r.name, definition=r.definition, enabled=r.enabled)


def unvalidated(found: Catalog, tables: Iterable[TableRef]) -> list[DeferredCheck]:
    """The CHECK and NOT NULL constraints NOT VALID of these tables, and of every domain; parents before children."""
    wanted = set(tables)
    of_tables = sorted((c for t in found.tables if t.ref in wanted for c in t.unvalidated), key=lambda c: c.level)
    return [*(_check(c, domain=True) for c in found.domain_checks), *(_check(c, domain=False) for c in of_tables)]


def _check(c: Unvalidated, *, domain: bool) -> DeferredCheck:
    # An inherited constraint exists once its parent's does, so it comes last.
    return DeferredCheck(
        table=c.table,
        name=c.name,
        definition=c.definition,
        comment=c.comment,
        level=-1 if c.inherited else c.level,
        domain=domain,
        inherited=c.inherited,
        valid_below=c.valid_below,
    )


def publications(found: Catalog) -> Iterator[DeferredPublication]:
    """The publications that would reject a DELETE by Confiture; their table reference is empty."""
    for p in found.publications:
        yield DeferredPublication(table=TableRef("", ""), name=p.name, definition=p.publish)


def foreign_key(key: ForeignKey) -> DeferredForeignKey:
    """A foreign key as declared, with the definition of its interim; ``interim`` is None when it stays as declared."""
    interim = None if key.kept_as_declared else _interim(key)
    return DeferredForeignKey(
        table=key.table,
        name=key.name,
        definition=key.definition,
        comment=key.comment,
        interim=interim,
        interim_name=key.name if interim is None or key.no_action else interim_name(key.table, key.name),
        partitioned=key.partitioned,
        by_leaf=key.partitioned and not key.to_partitioned,
        whole=key.to_partitioned and key.parts_stay_unvalidated,
        plain=key.no_action,
        deferrable=key.is_deferrable,
        deferred=key.is_deferred,
        validated=key.validated,
        references=key.references,
        columns=key.columns,
        ref_columns=key.ref_columns,
        period=key.period,
        operators=key.operators,
    )


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
