"""Migrations killed at random, up and down again. ``make gate`` runs two hundred of them with a hundred kills."""

from __future__ import annotations

from pathlib import Path

import migration_kills
from forked import Forks
from servers import Databases


def test_migrations_killed_at_random_end_as_if_undisturbed(databases: Databases, forks: Forks, tmp_path: Path) -> None:
    done = migration_kills.check(databases, tmp_path, count=15, kills=6, seed=18, forks=forks)
    assert done.total() >= 6
