"""How many chunks are copied, or parts of tables compared, at the same time, and where."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from confiture.errors import UsageError
from confiture.journal.model import TableProgress
from confiture.plan import free_connections
from confiture.plan.model import Plan
from confiture.postgres.free_disk import is_this_machine
from confiture.runner import capacity, workers
from confiture.runner.context import Context
from confiture.runner.workers import Here, Pool, Processes
from confiture.schema_to_schema import copy_chunk

#: The package that the extra ``distributed`` requires.
PACKAGE = "distributed>=2024.8"
#: Bytes for which one more process is worth its start, where the operator has not set the number.
BYTES_PER_PROCESS = 64 * 2**20


#: Modules of the tasks that worker processes run.
TASKS = (copy_chunk.__name__,)


def prepare(asked: int | None, executor: str | None) -> None:
    """Begin to start worker processes, where it is certain that :func:`pool` will use them."""
    if executor is None and asked is not None and asked > 1:
        workers.start_early(TASKS)


def pool(
    context: Context, plan: Plan, left: Sequence[TableProgress], asked: int | None, executor: str | None = None
) -> Pool:
    """The workers for the tables that are not copied yet.

    :param asked: the number that the operator wants; None for one per core, fewer for few bytes or where a server
        runs on this machine.
    :param executor: ``dask=ADDRESS`` for the workers of a cluster; None for processes of this machine.
    :raises UsageError: when there is no such executor, or its package is not installed.
    """
    if executor is not None and left:
        return _cluster(context, executor, asked)
    sizes = {t.number: t.estimate_bytes for t in plan.tables}
    size = sum(sizes[s.number] for s in left)
    hosts = (context.source.pg.info.host, context.target.pg.info.host)
    wanted = streams(hosts, size) if asked is None else asked
    if wanted <= 1 or not left:
        return Here(context)
    wanted = permitted(context, wanted, free_connections.WORKER, say=asked is not None)
    if wanted <= 1:
        return Here(context)
    context.progress.say(f"copying with {wanted} worker processes")
    return Processes(context, wanted, TASKS)


def streams(hosts: Sequence[str], size: int) -> int:
    """Chunks to copy at the same time: one per core, or half of that where a server uses the same cores.

    One stream keeps two cores of the servers busy (docs/benchmarks.md).

    :param hosts: of both servers.
    :param size: the bytes to copy.
    """
    here = any(is_this_machine(host) for host in hosts)
    most = max(1, capacity.cores() // 2) if here else capacity.cores()
    return min(most, ceil(size / BYTES_PER_PROCESS))


def _cluster(context: Context, executor: str, asked: int | None) -> Pool:
    kind, _, address = executor.partition("=")
    if kind != "dask" or not address:
        raise UsageError(
            f"there is no executor {executor!r}",
            why="an executor is dask=ADDRESS, with the address of a scheduler",
            fix="for example --executor dask=tcp://scheduler:8786; without the option, this machine runs the jobs",
        )
    try:
        from confiture.runner.cluster import Cluster  # an optional dependency
    except ModuleNotFoundError as error:
        raise UsageError(
            "the package distributed is not installed",
            why=f"--executor {executor} needs it ({error})",
            fix=f"install it beside confiture: pip install '{PACKAGE}', or pipx inject confiture '{PACKAGE}'",
        ) from None
    return Cluster(context, address, asked)


def permitted(context: Context, wanted: int, each: tuple[int, int], *, say: bool = True) -> int:
    """The number of jobs for which there are free connections: as many as wanted, or fewer, and one at least.

    :param each: connections that a job needs to the source and to the target.
    :param say: report that there are fewer.
    """
    found, reduced = capacity.permitted(context, wanted, each)
    if say and reduced:
        context.progress.say(reduced)
    return found
