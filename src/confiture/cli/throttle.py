"""``throttle``: hold the copy back, now and for later commands of the run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.copy.throttle import Throttle

MaxRate = Annotated[int | None, typer.Option("--max-rate", min=1, help="Rows per second the copy makes at most.")]
MaxReplicaLag = Annotated[
    float | None,
    typer.Option("--max-replica-lag", min=0.001, help="Seconds a standby of either server may be behind."),
]
MaxBacklog = Annotated[
    int | None, typer.Option("--max-backlog", min=1, help="Log rows that may wait while tables are copied.")
]


def throttle(
    target: options.Target,
    max_rate: MaxRate = None,
    max_replica_lag: MaxReplicaLag = None,
    max_backlog: MaxBacklog = None,
    off: Annotated[bool, typer.Option("--off", help="Lift every limit; those given with it hold alone.")] = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Set limits that a running copy obeys within a chunk, and every later one from its start."""
    given = Throttle(max_rate, max_replica_lag, max_backlog)
    where = options.where(target, None, project)
    run, limits = commands.requests.throttle(where, given, off)
    said = f"the copy is held to: {limits}" if limits else "no limit holds the copy back"
    terminal.show(where, run, said, format, limits=asdict(limits))
