"""The catalogs of both sides as a sync needs them: what the source lacks, or may not show, is left out and noted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from psycopg import IsolationLevel

from confiture import catalog
from confiture.catalog_model import Catalog, Table
from confiture.postgres.retry import retry
from confiture.postgres.session import Session
from confiture.postgres.yielding import yielding
from confiture.sql import load
from confiture.types import TableRef, counted, some

#: Names that a note lists.
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Sides:
    """Both catalogs.

    :ivar source: with what can be read; ``target``: as it is, or as its DDL builds it.
    :ivar notes: what is not copied, and why.
    """

    source: Catalog
    target: Catalog
    notes: tuple[str, ...]


def read_source(session: Session) -> tuple[Catalog, tuple[str, ...]]:
    """The catalog of the source, with the tables and sequences that a sync can read, and notes about the others.

    The transaction is read-only. Privileges that only a cutover needs, and event triggers, do not matter.
    """

    def read() -> tuple[Catalog, frozenset[TableRef]]:
        with yielding(session), session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx:
            found = catalog.read(tx)
            unlogged = tx.pg.execute(load("sync.sql")["unlogged"]).fetchall() if found.identity.in_recovery else []
            return found, frozenset(TableRef(schema, name) for schema, name in unlogged)

    found, unlogged = retry(read)
    notes = [*_left_out(found, unlogged)]
    kept = tuple(replace(t, may_lock=True) for t in found.tables if t.kind != "f" and t.ref not in unlogged)
    sequences = tuple(s for s in found.sequences if s.may_select)
    return replace(found, tables=kept, sequences=sequences, event_triggers=()), tuple(notes)


def _left_out(found: Catalog, unlogged: Collection[TableRef]) -> list[str]:
    foreign = [str(t.ref) for t in found.tables if t.kind == "f"]
    hidden = [str(s.ref) for s in found.sequences if not s.may_select]
    absent = [str(t.ref) for t in found.tables if t.ref in unlogged]
    large = found.identity.large_objects
    notes = []
    if foreign:
        notes.append(f"foreign tables of the source are not copied: {some(foreign, SHOWN)}")
    if absent:
        notes.append(f"unlogged tables, which a standby does not have, are not copied: {some(absent, SHOWN)}")
    if hidden:
        notes.append(
            f"sequences of the source that its role may not read: {some(hidden, SHOWN)}; they continue after the"
            " largest value that is copied"
        )
    if large:
        notes.append(f"{counted(large, 'large object')} of the source: large objects are not copied")
    return notes


def matched(source: Catalog, target: Catalog, chosen: Collection[TableRef]) -> tuple[tuple[Table, Table], ...]:
    """The tables that both sides have by the same name, as far as they are chosen: source and target."""
    there = {t.ref: t for t in target.tables if t.kind != "f"}
    return tuple((t, there[t.ref]) for t in source.tables if t.ref in chosen and t.ref in there)


def unmatched(source: Catalog, target: Catalog, chosen: Collection[TableRef]) -> list[str]:
    """Notes about the tables and columns that only one side has."""
    there = {t.ref for t in target.tables if t.kind != "f"}
    missing = [str(t.ref) for t in source.tables if t.ref in chosen and t.ref not in there]
    columns = [
        f"{a.ref}.{c.name}"
        for a, b in matched(source, target, chosen)
        for c in a.columns
        if (same := b.column(c.name)) is None or (same.generated and not c.generated)
    ]
    notes = []
    if missing:
        notes.append(f"tables of the source that the target lacks are not copied: {some(missing, SHOWN)}")
    if columns:
        notes.append(f"columns of the source that the target lacks or computes are not copied: {some(columns, SHOWN)}")
    return notes
