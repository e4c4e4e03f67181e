"""The target holds no rows of anybody's before the load."""

from __future__ import annotations

from psycopg import sql

from confiture.catalog import Catalog, Table
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
            raise _not_ours(table, catalog)
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table.ref.identifier)
        row = tx.pg.execute(query).fetchone()
        if row is not None and row[0]:
            holding.append(str(table.ref))
    if holding:
        raise Refused(
            f"the target {catalog.identity.database} already holds rows",
            why=f"in {', '.join(holding[:5])}{' and more' if len(holding) > 5 else ''}",
            fix="name a new database as the target, or empty this one",
        )


def _not_ours(table: Table, catalog: Catalog) -> Refused:
    owner, role = quoted(table.owner), quoted(catalog.identity.role)
    return Refused(
        "missing privilege on the target",
        why=f"{table.ref} is there already and belongs to {owner}",
        fix=f"GRANT {owner} TO {role}",
    )
