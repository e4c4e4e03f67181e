"""Read the forecast that setup recorded, and compare it with the run so far."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from confiture.journal.disk import DiskNow, Grown, disk_now
from confiture.journal.growth import free_bytes, grown
from confiture.postgres.session import Transaction
from confiture.states import MIGRATING, SETUP, VERIFIED
from confiture.status.facts import DiskReport, ForecastReport


class Expected(NamedTuple):
    """The forecast of a run, its disk, and why the disk will be full before the end of the run; None if not known."""

    forecast: ForecastReport | None
    disk: DiskReport | None
    problem: str | None


def read(tx: Transaction, run: UUID, state: str, now: datetime, *, alive: bool) -> Expected:
    """The forecast of a run before its cutover; nothing for one without a recorded forecast.

    :param alive: whether a command is running.
    """
    found = grown(tx, run) if state in (SETUP, MIGRATING, VERIFIED) else None
    if found is None:
        return Expected(None, None, None)
    disk = disk_now(found, free_bytes(tx))
    return Expected(_forecast(found, now, alive=alive), _disk(disk, alive=alive), disk.problem)


def _forecast(found: Grown, now: datetime, *, alive: bool) -> ForecastReport:
    left = found.total_seconds - found.seconds
    counts = alive and found.seconds > 0 and not found.built and left > 0
    return {
        "recorded_at": found.at,
        "seconds": found.total_seconds,
        "copy_seconds": found.copy_seconds,
        "elapsed_seconds": found.seconds,
        "ready_at": now + timedelta(seconds=left) if counts else None,
    }


def _disk(disk: DiskNow, *, alive: bool) -> DiskReport:
    return {
        "expected": disk.expected,
        "used": disk.used,
        "free": disk.free,
        "missing": disk.missing,
        "full_in_seconds": disk.full_in_seconds if alive else None,
    }
