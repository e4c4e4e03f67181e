"""The forecast of a run as text."""

from __future__ import annotations

from confiture.plan.forecast import Forecast, LogForecast
from confiture.types import byte_size, duration

_REFUSED = ", and setup refuses the run without --accept-small-disk"


def facts(forecast: Forecast) -> list[tuple[str, str]]:
    """The lines of the plan's summary, each with its name; the JSON has the basis of every number."""
    disk, pause = forecast.target_disk, forecast.write_pause
    parts = (("copy", forecast.copy), ("indexes", forecast.indexes), ("verification", forecast.verification))
    each = ", ".join(f"{name} {_about(part.seconds)}" for name, part in parts)
    needed = (("rows", disk.rows), ("indexes", disk.indexes), ("WAL", disk.wal), ("sorting", disk.sorting))
    space = ", ".join(f"{name} {byte_size(part.bytes)}" for name, part in needed)
    missing = f"; {byte_size(disk.missing)} are MISSING{_REFUSED}" if disk.missing else ""
    free = "not known: PostgreSQL does not report it; --target-disk SIZE states it"
    if disk.free is not None:
        free = f"{byte_size(disk.free.bytes)}, by {disk.free.basis}{missing}"
    return [
        ("Time", f"about {_about(forecast.seconds)} until the cutover: {each}; from {forecast.copy.basis}"),
        (
            "Disk",
            f"the target needs about {byte_size(disk.total)}: {space}; from {disk.rows.basis}, and {disk.wal.basis}",
        ),
        ("Free", free),
        *([("Changes", _log(forecast.change_log))] if forecast.change_log is not None else []),
        ("Pause", f"writes wait for about {pause.seconds:.2f} s at the cutover, from {pause.basis}"),
    ]


def _about(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _log(log: LogForecast) -> str:
    if log.rows_per_hour is None or log.bytes_per_hour is None:
        return f"the growth of the change log is not known: {log.basis}"
    return (
        f"the change log on the source grows by about {log.rows_per_hour:,.0f} rows,"
        f" {byte_size(log.bytes_per_hour)} an hour until they are applied, from {log.basis}"
    )
