"""Requirement for the target: its tables are empty before the copy."""

from __future__ import annotations

from psycopg import sql

from confiture.catalog_model import Catalog, Table
from confiture.errors import Refused
from confiture.postgres.session import Transaction
from confiture.types import quoted


def check(tx: Transaction, catalog: Catalog) -> None:
    """:raises Refused: naming the first tables that hold rows."""
    holding = []
    for table in catalog.tables:
        if table.kind == "f":
            continue
        if not table.may_use_schema or not (table.owned or table.may_select):
            raise _other_owner(table, catalog)
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table.ref.schema, table.ref.name))
        row = tx.pg.execute(query).fetchone()
        if row is not None and row[0]:
            holding.append(str(table.ref))
    if holding:
        raise Refused(
            f"the target {catalog.identity.database} already holds rows",
            why=f"in {', '.join(holding[:5])}{' and more' if len(holding) > 5 else ''}",
            fix="specify a new database as the target, or empty this one",
        )


def _other_owner(table: Table, catalog: Catalog) -> Refused:
    owner, role = quoted(table.owner), quoted(catalog.identity.role)
    return Refused(
        "missing privilege on the target",
        why=f"{table.ref} exists already and belongs to {owner}",
        fix=f"GRANT {owner} TO {role}",
    )
