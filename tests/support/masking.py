"""Masked values as the servers compute them: a column of any type, a rule, and the values before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from confiture import catalog
from confiture.catalog_model import Catalog
from confiture.config import resolve
from confiture.masking import key, mask_file
from confiture.masking.assignment import assigned
from confiture.masking.model import Mask, Masks
from confiture.plan.projection import raw, wire_type
from confiture.postgres.profile import profile_sql
from confiture.postgres.session import Session
from conftest import ROOT
from servers import TestDatabase

KEY = b"a key for the tests of masking"


def catalog_of(database: TestDatabase) -> Catalog:
    """The catalog of a database."""
    with Session(resolve(database.conninfo, ROOT), "test") as session, session.transaction() as tx:
        return catalog.read(tx)


def masks_of(
    database: TestDatabase, text: str, allowed: Iterable[str] = (), *, target: TestDatabase | None = None
) -> Masks:
    """The masks by a file, which must have no faults."""
    file, faults = mask_file.parse(text, "mask.yaml")
    source = catalog_of(database)
    masks, others = assigned(source, source if target is None else catalog_of(target), file, allowed)
    assert [str(fault) for fault in (*faults, *others)] == []
    return masks


def faults_of(
    database: TestDatabase, text: str, allowed: Iterable[str] = (), *, target: TestDatabase | None = None
) -> list[str]:
    """The faults of a file for a database."""
    file, faults = mask_file.parse(text, "mask.yaml")
    source = catalog_of(database)
    _, others = assigned(source, source if target is None else catalog_of(target), file, allowed)
    return [str(fault) for fault in (*faults, *others)]


def evaluated(database: TestDatabase, masks: Sequence[Mask], key_value: bytes = KEY) -> list[tuple[Any, ...]]:
    """The masked values of the columns of one table, as text, cast as the copy does, in the order of the rows."""
    table = catalog_of(database).by_ref[masks[0].table]
    items = [
        sql.SQL("((\n{}\n)::{})::text").format(raw(mask.expression), raw(wire_type(table.known_column(mask.column))[0]))
        for mask in masks
    ]
    query = sql.SQL("SELECT {} FROM {} ORDER BY ctid").format(sql.SQL(", ").join(items), table.ref.identifier)
    with database.connect(autocommit=False) as connection:
        connection.execute(profile_sql(None, "", "10s"))
        pass_key(connection, key_value)
        return connection.execute(query).fetchall()


def pass_key(connection: psycopg.Connection[Any], key_value: bytes = KEY) -> None:
    """Give a session the settings of a key."""
    for name, value in key.settings(key_value).items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def masked(database: TestDatabase, type_: str, rule: str, values: Sequence[Any]) -> list[str | None]:
    """The masked texts of values that a column ``c`` of this type stores."""
    with database.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS one")
        connection.execute(f"CREATE TABLE one (c {type_})".encode())
        with connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO one VALUES (%s::text::{type_})".encode(), [(value,) for value in values])
    masks = masks_of(database, f"one: {{c: {rule}}}")
    return [row[0] for row in evaluated(database, masks.masks)]
