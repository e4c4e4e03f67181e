"""Requirement for the source: no row is larger than what a server can transfer.

Only tables are measured whose large values may add up to such a row, and which take a moment to scan: the large values
themselves are not read. In other tables, the copy names such a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from confiture.catalog_model import Catalog
from confiture.copy import large_row
from confiture.plan.model import Plan, TablePlan
from confiture.plan.projection import view_select
from confiture.postgres.retry import repeated
from confiture.postgres.session import Session
from confiture.postgres.yielding import yielding

#: Bytes of large values, compressed, that may be a row of 1 GB; and bytes of a table that is scanned.
LARGE_BYTES_LEAST, BYTES_MOST = 4 * 2**20, 128 * 2**20


def reasons(session: Session, plan: Plan, source: Catalog) -> Iterator[str]:
    """A row of each table that is too large, with the way out.

    :param session: of the source, for expressions of the operator.
    """
    for table in plan.tables:
        known = source.by_ref[table.source]
        if known.large_bytes >= LARGE_BYTES_LEAST and known.bytes <= BYTES_MOST:
            found = _largest(session, table)
            if found is not None and found.size > large_row.BYTES_MOST:
                key = ", ".join(f"{name} = {value}" for name, value in found.key.items()) or "without a key"
                form = "" if table.format == "binary" else " as text"
                yield (
                    f"a row of {table.source} ({key}) has {found.size:,} bytes{form}, more than the 1 GB that a server"
                    f" can transfer, in {found.place}: {large_row.FIX}"
                )


def _largest(session: Session, table: TablePlan) -> large_row.Largest | None:
    rows = view_select(table.source, table.only, table.keys_beside, table.columns, table.where)

    def read() -> large_row.Largest | None:
        with yielding(session), session.transaction(read_only=True) as tx:
            return large_row.largest(tx, table, sql.SQL("({})").format(rows))

    try:
        return repeated(read)
    except psycopg.Error:
        return None  # an expression of the mapping fails for a row: the copy names that row
