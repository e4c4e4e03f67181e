"""Requirement for both sides: enough connections for the command that needs most (docs/privileges.md has the table)."""

from __future__ import annotations

from collections.abc import Iterator

from confiture.catalog_model import Identity
from confiture.errors import Refused
from confiture.plan.model import SOURCE_CONNECTIONS, TARGET_CONNECTIONS
from confiture.types import quoted


def check(source: Identity, target: Identity | None) -> None:
    """Sessions of Confiture that are open already are not counted: they are those of this run.

    :param target: None when it does not exist yet.
    :raises Refused: naming each limit that is too low, and how to raise it.
    """
    reasons = list(_reasons("source", source, SOURCE_CONNECTIONS, target, TARGET_CONNECTIONS))
    if target is not None:
        reasons += [
            r for r in _reasons("target", target, TARGET_CONNECTIONS, source, SOURCE_CONNECTIONS) if r not in reasons
        ]
    if reasons:
        raise Refused("there are too few connections for the run", why="\n".join(reasons), fix="nothing was changed")


def _reasons(side: str, here: Identity, needed: int, other: Identity | None, others: int) -> Iterator[str]:
    shared = other is not None and other.system_identifier == here.system_identifier
    both = needed + others if shared else needed
    of_role = both if shared and other is not None and other.role == here.role else needed
    role, name = quoted(here.role), quoted(here.database)
    if not here.superuser and _exceeds(here.role_connections, of_role):
        yield (
            f"role {role} may have {_limit(here.role_connections)}, and the run needs {of_role}:"
            f" ALTER ROLE {role} CONNECTION LIMIT {_enough(here.role_connections, of_role)}"
        )
    if not here.superuser and _exceeds(here.database_connections, needed):
        yield (
            f"the {side} {name} may have {_limit(here.database_connections)}, and the run needs {needed}:"
            f" ALTER DATABASE {name} CONNECTION LIMIT {_enough(here.database_connections, needed)}"
        )
    if _exceeds(here.server_connections, both):
        yield (
            f"the server of the {side} has {_limit(here.server_connections)} for this role, and the run needs {both}:"
            " end sessions there, or raise max_connections and restart it"
        )


def _exceeds(limit: tuple[int, int], needed: int) -> bool:
    most, used = limit
    return 0 <= most < used + needed


def _limit(limit: tuple[int, int]) -> str:
    most, used = limit
    return f"{most} connection{'s' if most != 1 else ''}, of which {used} {'is' if used == 1 else 'are'} in use"


def _enough(limit: tuple[int, int], needed: int) -> int:
    return limit[1] + needed
