"""Server processes: which one serves a connection, whether it still runs, and how it is ended."""

from __future__ import annotations

from collections.abc import Sequence

from confiture.postgres.connection import Pg, only_row
from confiture.sql import load
from confiture.types import Backend

_BACKENDS = load("backends.sql")


def backend_of(pg: Pg) -> Backend:
    # Seconds since the epoch: the session's date style, which need not be ours yet, does not show in them.
    found = pg.execute(
        "SELECT pid, extract(epoch FROM backend_start)::text"
        " FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())"
    )
    return Backend(*only_row(found))


def alive(pg: Pg, backends: Sequence[Backend]) -> bool:
    """Whether any of these server processes still runs."""
    return bool(pg.execute(_BACKENDS["alive"], _named(backends)).fetchall())


def terminate(pg: Pg, backends: Sequence[Backend]) -> None:
    """Terminate those of these server processes that still run, without waiting until they have ended."""
    pg.execute(_BACKENDS["terminate"], _named(backends))


def _named(backends: Sequence[Backend]) -> dict[str, list[int] | list[str]]:
    return {"pids": [b.pid for b in backends], "starts": [b.started for b in backends]}
