"""The options of a run that ``plan``, ``setup`` and ``migrate`` accept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from confiture.copy.throttle import Throttle

if TYPE_CHECKING:
    from confiture.plan.model import Plan  # not in a command that has none


@dataclass(frozen=True)
class RunOptions:
    """The options of a run; None for the value that the journal has recorded, else for the default.

    :ivar chunk_rows: maximum rows per chunk; None for those of about two seconds.
    :ivar seen_as: host and port at which the target's server reaches the source.
    :ivar restart: target tables to empty and copy again.
    :ivar capture: False for an application that is stopped; by default its writes are captured.
    :ivar recopy_mb: MiB up to which tables without a key are copied again at the cutover.
    :ivar accept_publication: accept a publication that includes the run's own tables.
    :ivar jobs: chunks that are copied at the same time; None for one per core.
    :ivar executor: of the workers, ``dask=ADDRESS``; None for processes of this machine.
    :ivar index_jobs: indexes that are built at the same time.
    :ivar agreed: the only plan that may be carried out; None for any plan. ``agreed_file`` is its file.
    :ivar sample: read some rows of the large tables for the forecast.
    :ivar target_disk: free bytes of the disk of the target's server; None for what the server's machine reports.
    :ivar accept_small_disk: set the run up although the forecast needs more than is free.
    """

    mapping: Path | None = None
    chunk_rows: int | None = None
    strategy: str | None = None
    seen_as: str | None = None
    restart: tuple[str, ...] = ()
    capture: bool | None = None
    recopy_mb: int | None = None
    accept_publication: bool = False
    jobs: int | None = None
    executor: str | None = None
    index_jobs: int | None = None
    agreed: Plan | None = None
    agreed_file: Path | None = None
    sample: bool = True
    target_disk: int | None = None
    accept_small_disk: bool = False
    throttle: Throttle = field(default_factory=Throttle)
