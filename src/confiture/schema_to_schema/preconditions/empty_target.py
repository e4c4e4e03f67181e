"""Requirement for the target: its tables are empty before the copy."""

from __future__ import annotations

from psycopg import sql

from confiture.catalog_model import Catalog
from confiture.errors import Refused
from confiture.postgres.session import Transaction


def check(tx: Transaction, catalog: Catalog) -> None:
    """:raises Refused: naming the first tables that hold rows."""
    holding = []
    for table in catalog.tables:
        # The plan refuses the missing privileges of all tables at once, and their policies.
        if table.kind == "f" or not (table.may_use_schema and table.may_select) or table.row_security:
            continue
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
