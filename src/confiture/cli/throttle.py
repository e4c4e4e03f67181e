"""``throttle``: set limits for the copy, for this command and for later commands of the run."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.copy.throttle import Throttle


def throttle(
    target: options.Target,
    max_rate: options.MaxRate = None,
    max_replica_lag: options.MaxReplicaLag = None,
    max_backlog: options.MaxBacklog = None,
    off: Annotated[bool, typer.Option("--off", help="Remove all limits except those given in this command.")] = False,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Limit the copy.

    A running copy obeys the limits within a chunk. Later commands of the run obey them too.
    """
    given = Throttle(max_rate, max_replica_lag, max_backlog)
    where = options.where(target, None, project)
    run, limits = commands.requests.throttle(where, given, off)
    said = f"the copy is limited to: {limits}" if limits else "the copy has no limit"
    terminal.show(where, run, said, format, step="status", limits=limits.as_json())
