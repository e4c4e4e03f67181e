"""Requirements for both databases: different, writable, durable (I-5.4)."""

from __future__ import annotations

from confiture.catalog_model import Identity
from confiture.errors import Refused
from confiture.postgres import read_only
from confiture.postgres.session import Session


def check(source: Identity, target: Identity | None, *, accept_fsync_off: bool = False) -> None:
    """:param target: None when it does not exist yet.

    :raises Refused: naming the database and the next step.
    """
    if target is not None and source.same_database(target):
        raise Refused(
            "source and target are one database",
            why=f"both are {source.database} of the server {source.system_identifier}",
            fix="specify another target; with a new name, setup creates a database",
        )
    for side, database in (("source", source), ("target", target)):
        if database is None:
            continue
        if database.in_recovery:
            raise Refused(
                f"the {side} is a standby",
                why=f"{database.database} is in recovery; the run creates a schema there",
                fix="specify the primary",
            )
        if not database.fsync and not accept_fsync_off:
            raise Refused(
                f"the {side}'s server runs with fsync=off",
                why="a crash of that server can lose committed data",
                fix="set fsync=on there, or accept the risk with --accept-fsync-off",
            )


def refuse_read_only(target: Session) -> None:
    """:raises Refused: when the configuration of the target's server makes transactions read-only (I-9.11)."""
    with target.transaction(read_only=True) as tx:
        if read_only.by_server(tx):
            raise Refused(read_only.WHAT, why=read_only.WHY, fix=read_only.FIX)
