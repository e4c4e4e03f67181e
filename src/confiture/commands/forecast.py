"""The forecast of a run, for ``plan`` and ``setup``."""

from __future__ import annotations

from dataclasses import replace

from confiture.commands.databases import both_databases
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.config import Database
from confiture.errors import Refused
from confiture.log import log
from confiture.plan.forecast import Forecast
from confiture.postgres import yielding
from confiture.postgres.session import Session
from confiture.schema_to_schema import forecast
from confiture.schema_to_schema.plan_store import Planned
from confiture.types import byte_size


def of(where: Endpoints, planned: Planned, run_options: RunOptions) -> Forecast | None:
    """The forecast of a plan; None for a run that is set up already. Nothing is changed."""
    if planned.state is not None:
        return None
    source, target = both_databases(where)
    # The server's own database is asked while the target does not exist.
    asked = target if planned.created is None else replace(target.with_dbname("postgres"), disk_free=target.disk_free)
    with translated("plan"), yielding.watching(log.info), Session(asked, "plan") as there:
        return make(source, there, planned, run_options, wait=run_options.sample)


def make(
    source: Database, there: Session, planned: Planned, run_options: RunOptions, *, wait: bool = False
) -> Forecast:
    """The forecast with the options of a run.

    :param there: to the target's server.
    :param wait: wait for a second reading of the statistics where it is not known since when they count.
    """
    sample, target_disk = run_options.sample, run_options.target_disk
    return forecast.make(source, there, planned, sample=sample, wait=wait, target_disk=target_disk)


def check(found: Forecast, run_options: RunOptions) -> None:
    """Refuse a run for which the target's disk is known to be too small.

    :raises Refused: with the bytes that are missing.
    """
    disk = found.target_disk
    if disk.free is None or not disk.missing or run_options.accept_small_disk:
        return
    raise Refused(
        "the disk of the target is too small",
        why=f"the run needs about {byte_size(disk.total)} (rows {byte_size(disk.rows.bytes)}, indexes"
        f" {byte_size(disk.indexes.bytes)}, WAL {byte_size(disk.wal.bytes)}, sorting {byte_size(disk.sorting.bytes)}),"
        f" and {byte_size(disk.free.bytes)} are free ({disk.free.basis}): {byte_size(disk.missing)} are missing",
        fix="enlarge the disk, or state its free space with --target-disk; to set up all the same, add"
        " --accept-small-disk",
    )
