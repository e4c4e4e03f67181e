"""How many jobs this machine and the free connections of both databases permit."""

from __future__ import annotations

import os

from confiture.catalog import identity
from confiture.plan import free_connections
from confiture.runner.context import Context


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def permitted(context: Context, wanted: int, each: tuple[int, int]) -> tuple[int, str]:
    """As many jobs as wanted, or fewer, and one at least; with the reason why there are fewer, empty if there are not.

    :param each: connections that a job needs to the source and to the target.
    """
    with context.source.transaction(read_only=True) as source, context.target.transaction(read_only=True) as target:
        return free_connections.permitted(identity(source), identity(target), wanted, each)
