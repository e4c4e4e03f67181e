"""Requirement for the target: its tables are empty before the copy."""

from __future__ import annotations

from psycopg import sql

from confiture import catalog
from confiture.errors import Refused
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction


def check(tx: Transaction) -> None:
    """:raises Refused: naming the first tables that hold rows."""
    # The plan refuses the missing privileges of all tables at once, and their policies.
    readable = [
        table.ref
        for table in catalog.outlines(tx)
        if table.kind != "f" and table.may_use_schema and table.may_select and not table.row_security
    ]
    rows = sql.SQL(", ").join(sql.SQL("EXISTS (SELECT FROM {})").format(ref.identifier) for ref in readable)
    filled = only_row(tx.pg.execute(sql.SQL("SELECT ARRAY[{}]::boolean[]").format(rows)))[0]
    holding = [str(ref) for ref, has_rows in zip(readable, filled, strict=True) if has_rows]
    if holding:
        raise Refused(
            f"the target {tx.pg.info.dbname} already holds rows",
            why=f"in {', '.join(holding[:5])}{' and more' if len(holding) > 5 else ''}",
            fix="specify a new database as the target, or empty this one",
        )
