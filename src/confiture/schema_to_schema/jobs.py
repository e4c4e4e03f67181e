"""How many chunks are copied at the same time, and where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import ceil

from confiture.catalog import identity
from confiture.journal.model import TableProgress
from confiture.plan.model import Plan
from confiture.runner.context import Context
from confiture.runner.workers import Here, Pool, Processes
from confiture.schema_to_schema.preconditions import connections
from confiture.types import counted

#: Bytes for which one more process is worth its start, where the operator has not set the number.
BYTES_PER_PROCESS = 64 * 2**20


def pool(context: Context, plan: Plan, left: Sequence[TableProgress], asked: int | None) -> Pool:
    """The workers for the tables that are not copied yet.

    :param asked: the number that the operator wants; None for one per core, fewer for few bytes.
    """
    sizes = {t.number: t.estimate_bytes for t in plan.tables}
    size = sum(sizes[s.number] for s in left)
    wanted = min(cores(), ceil(size / BYTES_PER_PROCESS)) if asked is None else asked
    if wanted <= 1 or not left:
        return Here(context)
    with context.source.transaction(read_only=True) as source, context.target.transaction(read_only=True) as target:
        most, why = connections.workers(identity(source), identity(target))
    if most < wanted:
        if asked is not None:
            context.progress.say(f"{counted(max(most, 1), 'job')} instead of {asked}: {why}")
        wanted = most
    return Processes(context, wanted) if wanted > 1 else Here(context)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
