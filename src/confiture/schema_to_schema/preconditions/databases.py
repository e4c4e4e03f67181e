"""Both databases as such: two of them, writable, durable (I-5.4), with room for a schema of the run's own."""

from __future__ import annotations

from confiture.catalog import Identity
from confiture.errors import Refused
from confiture.types import quoted


def check(source: Identity, target: Identity | None, *, accept_fsync_off: bool = False) -> None:
    """:param target: None when it is not there yet.

    :raises Refused: naming the database and the way out.
    """
    if target is not None and source.same_database(target):
        raise Refused(
            "source and target are one database",
            why=f"both are {source.database} of the server {source.system_identifier}",
            fix="name another target; a new name makes a new database beside the source",
        )
    for side, database in (("source", source), ("target", target)):
        if database is None:
            continue
        if database.in_recovery:
            raise Refused(
                f"the {side} is a standby",
                why=f"{database.database} is in recovery; confiture needs a schema of its own there",
                fix="name the primary",
            )
        if not database.fsync and not accept_fsync_off:
            raise Refused(
                f"the {side}'s server runs with fsync=off",
                why="after a crash of that server, what was recorded as done could be gone",
                fix="set fsync=on there, or accept the risk with --accept-fsync-off",
            )
        _refuse_rights(side, database)


def _refuse_rights(side: str, database: Identity) -> None:
    rights = {"CREATE": database.may_create, "TEMPORARY": database.may_temp or side == "target"}
    missing = ", ".join(name for name, there in rights.items() if not there)
    if missing:
        name, role = quoted(database.database), quoted(database.role)
        raise Refused(
            f"missing privilege on the {side}",
            why=f"role {role} has not {missing} on database {name}; the run needs a schema of its own there",
            fix=f"GRANT {missing} ON DATABASE {name} TO {role}",
        )
