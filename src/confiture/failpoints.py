"""Named crash points. Outside tests each of them is a dictionary lookup that finds nothing.

``CONFITURE_FAILPOINT=name:hit`` kills the process with SIGKILL at the hit-th time it passes the
point; several, separated by commas, may be armed. With ``CONFITURE_FAILPOINT_LOG=FILE`` each
point passed is appended to the file instead, from which tests read the names of the points.
"""

from __future__ import annotations

import os
import signal
from collections import Counter


def _armed(text: str) -> dict[str, int]:
    armed: dict[str, int] = {}
    for item in filter(None, text.split(",")):
        name, _, hit = item.partition(":")
        armed[name] = int(hit or 1)
    return armed


_ARMED = _armed(os.environ.get("CONFITURE_FAILPOINT", ""))
_LOG = os.environ.get("CONFITURE_FAILPOINT_LOG")
_PASSED: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill the process if ``name`` is armed for this hit; otherwise do nothing."""
    if armed(name):
        os.kill(os.getpid(), signal.SIGKILL)


def armed(name: str) -> bool:
    """Whether ``name`` is armed for this hit: for faults that do not kill the process."""
    if _LOG is not None:
        with open(_LOG, "a", encoding="utf-8") as log:
            log.write(name + "\n")
    if name not in _ARMED:
        return False
    _PASSED[name] += 1
    return _PASSED[name] == _ARMED[name]
