"""How indexes are built: how many at a time, and with which memory and workers each. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace

from confiture.catalog_model import Identity
from confiture.plan import free_connections
from confiture.types import counted

#: Index builds at a time unless the operator says otherwise: a server does not report its cores.
INDEX_JOBS = 2
#: The share of shared_buffers that all builds may use together. It stands for the memory of the server, of which
#: shared_buffers is a quarter as a rule: https://www.postgresql.org/docs/current/runtime-config-resource.html
SHARE_OF_BUFFERS = 0.5
#: KiB of maintenance_work_mem above which a build is hardly faster.
MEMORY_MOST = 1024 * 1024
#: Parallel workers of one build above which a disk is the limit.
WORKERS_MOST = 8


@dataclass(frozen=True, slots=True)
class IndexBuilds:
    """How indexes are built.

    :ivar jobs: builds at a time.
    :ivar memory: KiB of maintenance_work_mem of each.
    :ivar workers: max_parallel_maintenance_workers of each.
    :ivar reduced: why there are fewer jobs than the operator asked for; empty if there are not.
    """

    jobs: int
    memory: int
    workers: int
    reduced: str = ""

    def __str__(self) -> str:
        memory = f"{self.memory // 1024:,} MB" if self.memory % 1024 == 0 else f"{self.memory:,} kB"
        many = f"{self.jobs} indexes are built at a time, each" if self.jobs > 1 else "one index is built at a time,"
        return f"{many} with {memory} of maintenance_work_mem and up to {counted(self.workers, 'parallel worker')}"


def of_servers(source: Identity, target: Identity, asked: int | None = None) -> IndexBuilds:
    """How indexes are built on this target.

    :param asked: builds at a time, as the operator gave them; None for :data:`INDEX_JOBS`.
    """
    wanted = asked or INDEX_JOBS
    jobs, reduced = free_connections.permitted(source, target, wanted, free_connections.BUILDING, "index build")
    return replace(_sharing(target, jobs), reduced=reduced if asked is not None else "")


def of_keys(target: Identity, workers: int) -> IndexBuilds:
    """How the indexes of keys are built, when each of some worker processes may build one at the same time."""
    return replace(_sharing(target, workers), jobs=1)


def _sharing(target: Identity, jobs: int) -> IndexBuilds:
    """Builds that share the memory and the processors of the target."""
    memory = int(target.shared_buffers * SHARE_OF_BUFFERS) // jobs
    workers = min(target.parallel_workers // (2 * jobs), WORKERS_MOST)
    return IndexBuilds(
        jobs,
        max(target.maintenance_memory, min(memory, MEMORY_MOST)),
        max(target.maintenance_workers, workers),
    )
