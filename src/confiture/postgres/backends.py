"""Server processes: whether they are alive, and ending them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from confiture.sql import load
from confiture.types import Backend

Row = tuple[Any, ...]
Pg = psycopg.Connection[Row]

_BACKENDS = load("backends.sql")


def alive(pg: Pg, backends: Sequence[Backend]) -> bool:
    """Whether any of these server processes still runs."""
    return bool(pg.execute(_BACKENDS["alive"], _named(backends)).fetchall())


def terminate(pg: Pg, backends: Sequence[Backend]) -> None:
    """Have those of these server processes that still run end, without waiting for it."""
    pg.execute(_BACKENDS["terminate"], _named(backends))


def _named(backends: Sequence[Backend]) -> dict[str, list[int] | list[str]]:
    return {"pids": [b.pid for b in backends], "starts": [b.started for b in backends]}
