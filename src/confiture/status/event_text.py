"""An event of the history in words. The module does no I/O."""

from __future__ import annotations

from confiture.status.severity import for_people
from confiture.types import Json, byte_size, counted, duration, quoted

#: The parts of a detail that are no values of rows, in the order in which they are printed.
_PARTS = ("command", "receiver", "table", "view", "problem", "note", "error")
#: Numbers of a detail, and the unit that is counted.
_COUNTS = {"keys": "key", "count": "difference"}


def event_text(kind: str, detail: Json) -> str:
    """An event in words, from the parts of its detail that are no values of rows; empty if it has no such part.

    :param kind: of the event.
    :param detail: the event's ``detail`` in the journal.
    """
    if kind == "created":
        return f"{detail.get('source')} -> {detail.get('target')}"
    if kind in ("planned", "replanned"):
        return f"{detail.get('tables')} tables, plan {str(detail.get('plan'))[:12]}"
    if kind in ("migration applied", "migration reverted"):
        return f"{detail.get('version')}_{detail.get('name')}, {counted(detail.get('statements') or 0, 'statement')}"
    if kind == "forecast recorded":
        return _forecast(detail)
    if kind == "throttle":
        limits = [f"{name.replace('_', ' ')} {value}" for name, value in detail.items() if value is not None]
        return ", ".join(limits) or "no limit"
    if kind in ("rehearsed", "write pause"):
        limit = f" of at most {detail['limit']:g} s" if detail.get("limit") is not None else ""
        problem = f": {detail['problem']}" if detail.get("problem") else ""
        return f"{detail.get('command')}, {detail.get('seconds') or 0.0:.3f} s{limit}{problem}"
    if kind == "granted":
        given = {name: ", ".join(map(quoted, detail.get(name) or ())) for name in ("viewers", "operators")}
        return "; ".join(f"{name} {roles}" for name, roles in given.items() if roles)
    if kind == "terminate_blocker":
        return f"pid {detail.get('pid')} of {detail.get('user')}"
    if kind == "reads open" and detail.get("max_staleness") is not None:
        return f"at most {duration(detail['max_staleness'])} behind"
    parts = [str(detail[name]) for name in _PARTS if detail.get(name)]
    counts = [counted(detail[name], unit) for name, unit in _COUNTS.items() if isinstance(detail.get(name), int)]
    if isinstance(detail.get("verification"), int):
        counts.append(f"verification {detail['verification']}")
    reason = detail.get("reason")
    return ": ".join([*parts, *counts, *([for_people(str(reason))] if reason else [])])


def _forecast(detail: Json) -> str:
    """The forecast of setup: the time until a cutover, and the disk space that the target needs."""
    forecast = detail.get("forecast") or {}
    disk = (forecast.get("target_disk") or {}).get("total")
    needed = "" if disk is None else f", the target needs {byte_size(disk)}"
    return f"{duration(forecast.get('seconds') or 0)} until a cutover{needed}"
