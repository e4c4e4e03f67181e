"""How many jobs the free connections of both sides permit. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from confiture.catalog_model import Identity
from confiture.plan.model import SOURCE_CONNECTIONS, TARGET_CONNECTIONS
from confiture.types import counted, quoted

#: Connections that each worker process needs to the source and to the target: its session, its watcher, and the foreign
#: server's session.
WORKER = 3, 1
#: Connections that each thread that compares rows needs.
COMPARING = 1, 1
#: Connections that each job of catch-up needs.
APPLYING = 1, 1
#: Connections that each index build needs.
BUILDING = 0, 1


def permitted(
    source: Identity, target: Identity, wanted: int, each: tuple[int, int], what: str = "job"
) -> tuple[int, str]:
    """As many jobs as wanted, or fewer, and one at least; with the reason why there are fewer, empty if there are not.

    The connections of the run itself are not free, whether they are open already or not.

    :param each: connections that a job needs to the source and to the target.
    :param what: a job, in the reason.
    """
    most, limit = min(_limits(source, target, each), default=(wanted, ""))
    found = max(1, min(wanted, most))
    return found, f"{counted(found, what)} at a time instead of {wanted}: {limit}" if found < wanted else ""


def _limits(source: Identity, target: Identity, each: tuple[int, int]) -> Iterator[tuple[int, str]]:
    here, there = each
    yield from _of_side("source", source, SOURCE_CONNECTIONS, here)
    yield from _of_side("target", target, TARGET_CONNECTIONS, there)
    if source.system_identifier == target.system_identifier:
        both = SOURCE_CONNECTIONS + TARGET_CONNECTIONS
        yield from _limit("the server", source.server_connections, both, here + there)
        if source.role == target.role and not target.superuser:
            yield from _limit(f"role {quoted(target.role)}", target.role_connections, both, here + there)


def _of_side(side: str, of: Identity, kept: int, each: int) -> Iterator[tuple[int, str]]:
    yield from _limit(f"the server of the {side}", of.server_connections, kept, each)
    if not of.superuser:
        yield from _limit(f"role {quoted(of.role)}", of.role_connections, kept, each)
        yield from _limit(f"the {side} {quoted(of.database)}", of.database_connections, kept, each)


def _limit(what: str, limit: tuple[int, int], kept: int, each: int) -> Iterator[tuple[int, str]]:
    most, used = limit
    if most >= 0 and each:
        free = max(most - used - kept, 0)
        yield free // each, f"{what} has {counted(free, 'connection')} to spare, and each needs {each}"
