"""Installing and upgrading the control schema: numbered SQL, each step in its own row of a ledger."""

from __future__ import annotations

import sqlalchemy as sa

from confiture import __version__
from confiture.db import Transaction
from confiture.errors import Refused
from confiture.journal.tables import migration, state_edge
from confiture.sql import control_migrations
from confiture.states import EDGES


def version(tx: Transaction) -> int | None:
    """The journal's version in this database; None when there is no journal."""
    row = tx.pg.execute("SELECT pg_catalog.to_regclass('confiture.migration')").fetchone()
    if row is None or row[0] is None:
        return None
    found: int | None = tx.sa.execute(sa.select(sa.func.max(migration.c.version))).scalar_one()
    return found


def newest() -> int:
    """The journal version this tool writes."""
    return control_migrations()[-1].version


def install(tx: Transaction) -> None:
    """Bring the control schema to this tool's version; nothing to do when it is there.

    Runs inside the caller's transaction: after a crash the schema is wholly there or absent.

    :raises Refused: when the journal was written by a newer tool.
    """
    have = version(tx) or 0
    refuse_newer(have)
    for step in control_migrations():
        if step.version > have:
            tx.pg.execute(step.text.encode())
            row = {"version": step.version, "name": step.name, "tool_version": __version__}
            tx.sa.execute(sa.insert(migration).values(row))
    known = {(r.from_state, r.to_state) for r in tx.sa.execute(sa.select(state_edge))}
    for edge in EDGES:
        if (edge.source, edge.target) not in known:
            row = {"from_state": edge.source, "to_state": edge.target, "fired_by": edge.trigger}
            tx.sa.execute(sa.insert(state_edge).values(row))


def refuse_newer(have: int | None) -> None:
    """:raises Refused: when the journal is newer than this tool."""
    if have is not None and have > newest():
        raise Refused(
            f"the journal in the target has version {have}, this confiture {__version__} knows {newest()}",
            why="a newer confiture wrote it; an older one could misread it",
            fix="install the confiture that wrote it, or a newer one",
        )
