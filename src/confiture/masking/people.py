"""The columns that decide how far the dates of a row are shifted: those that identify the person. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from confiture.catalog_model import Table
from confiture.masking.groups import Place
from confiture.types import TableRef


def shift_columns(table: Table, tables: Mapping[TableRef, Table], masked: Collection[Place]) -> tuple[str, ...]:
    """The foreign key to the only table of persons that the table refers to, or its own primary key.

    A table of persons is one with masked columns besides its keys. If the table itself has no primary key and refers
    to no such table or to several, nothing identifies the person, and each date is shifted by itself.

    :param masked: the columns with a rule other than ``keep``.
    """
    persons = {
        key.columns
        for key in table.foreign_keys
        if key.references != table.ref and key.references in tables and _has_persons(tables[key.references], masked)
    }
    if len(persons) == 1:
        return next(iter(persons))
    return next((index.columns for index in table.indexes if index.is_primary), ())


def _has_persons(table: Table, masked: Collection[Place]) -> bool:
    keys = {column for index in table.indexes if index.is_primary for column in index.columns}
    linked = {column for key in table.foreign_keys for column in key.columns}
    return any(ref == table.ref and column not in keys | linked for ref, column in masked)
