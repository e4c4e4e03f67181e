"""Requirement for both sides: enough connections for the command that needs most (docs/privileges.md has the table)."""

from __future__ import annotations

from collections.abc import Iterator

from confiture.catalog_model import Identity
from confiture.errors import Refused
from confiture.plan.model import SOURCE_CONNECTIONS, TARGET_CONNECTIONS
from confiture.types import counted, quoted

#: Connections that each worker process needs to the source and to the target: its session, its watcher, and the foreign
#: server's session.
WORKER_CONNECTIONS = 3, 1
#: Connections that each thread that compares rows needs.
COMPARING_CONNECTIONS = 1, 1
_UNLIMITED = 10**6


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


def jobs(source: Identity, target: Identity, each: tuple[int, int]) -> tuple[int, str]:
    """How many jobs the free connections permit, and the limit that decides it.

    The connections of the runner itself are not free, whether they are open already or not.

    :param each: connections that a job needs to the source and to the target.
    """
    here, there = each
    shared = source.system_identifier == target.system_identifier
    found = [
        *_fitting("source", source, SOURCE_CONNECTIONS, here),
        *_fitting("target", target, TARGET_CONNECTIONS, there),
    ]
    if shared:
        both = SOURCE_CONNECTIONS + TARGET_CONNECTIONS
        found.append(_fit("the server", source.server_connections, both, here + there))
        if source.role == target.role and not source.superuser:
            found.append(_fit(f"role {quoted(source.role)}", source.role_connections, both, here + there))
    most, why = min(found)
    return max(most, 0), why


def _fitting(side: str, of: Identity, runner: int, each: int) -> Iterator[tuple[int, str]]:
    yield _fit(f"the server of the {side}", of.server_connections, runner, each)
    if not of.superuser:
        yield _fit(f"role {quoted(of.role)}", of.role_connections, runner, each)
        yield _fit(f"the {side} {quoted(of.database)}", of.database_connections, runner, each)


def _fit(what: str, limit: tuple[int, int], runner: int, each: int) -> tuple[int, str]:
    most, used = limit
    if most < 0:
        return _UNLIMITED, ""
    free = max(most - used - runner, 0)
    return free // each, f"{what} has {counted(free, 'connection')} to spare, and each job needs {each}"


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
