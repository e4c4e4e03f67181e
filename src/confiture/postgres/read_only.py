"""Whether a server accepts writes by its configuration, which the sessions of Confiture do not follow (I-9.11)."""

from __future__ import annotations

from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.sql import load

WHAT = "the target's server accepts no writes"
WHY = "its configuration has default_transaction_read_only = on: managed services do so when the storage is nearly full"
FIX = "enlarge the storage or free space, or switch the setting off; then run the same command again"


def by_server(tx: Transaction) -> bool:
    """Whether the configuration of the server makes transactions read-only; a setting of the role or database is none.

    Supabase and Azure set it when the storage is nearly full.
    https://supabase.com/docs/guides/platform/database-size
    https://learn.microsoft.com/en-us/azure/postgresql/flexible-server/concepts-storage
    """
    (found,) = only_row(tx.pg.execute(load("read_only.sql")["by_server"]))
    return bool(found)
