"""The options of a run that ``plan``, ``setup`` and ``migrate`` accept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from confiture.copy.throttle import Throttle


@dataclass(frozen=True)
class RunOptions:
    """What ``plan`` and ``migrate`` may be told; None leaves what the journal has, else the default.

    :ivar accept_publication: the source may publish the run's own tables.
    :ivar capture: False for an application that is stopped; by default its writes are captured.
    """

    mapping: Path | None = None
    chunk_rows: int | None = None
    strategy: str | None = None
    fdw_threshold: int | None = None
    seen_as: str | None = None
    restart: tuple[str, ...] = ()
    capture: bool | None = None
    recopy_mb: int | None = None
    accept_publication: bool = False
    throttle: Throttle = field(default_factory=Throttle)
