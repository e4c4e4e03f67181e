"""Publications FOR ALL TABLES on the source would send their subscribers the run's own tables as well (I-4.11)."""

from __future__ import annotations

from confiture.errors import Refused
from confiture.postgres.session import Transaction
from confiture.types import quoted


def check(source: Transaction, *, accepted: bool) -> None:
    """:raises Refused: naming each publication that includes tables created later, unless accepted."""
    rows = source.pg.execute("SELECT pubname FROM pg_publication WHERE puballtables ORDER BY pubname").fetchall()
    if rows and not accepted:
        names = ", ".join(quoted(name) for (name,) in rows)
        raise Refused(
            f"the source publishes all its tables: {names}",
            why="the run's own tables (its log of changed keys) would be published as well: a subscriber without them"
            " stops with an error",
            fix="publish tables by name or by schema instead,"
            " or confirm that subscribers tolerate the extra tables: --accept-publication",
        )
