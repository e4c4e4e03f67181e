"""A project of incremental migrations for tests that kill, block and repeat its commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from forked import Ended, Forks, Running
from servers import TestDatabase

#: The time of version 20260101000000; a migration with a number is as many seconds later.
FIRST = datetime(2026, 1, 1)
NO_TRANSACTION = "-- confiture: no-transaction\n"
#: The ledger without what differs between two runs: run, process, times.
LEDGER = """
SELECT version, name, direction, done_at IS NOT NULL, up_checksum, down_checksum, out_of_order, baseline, role,
       (SELECT array_agg((number, digest, s.done_at IS NOT NULL) ORDER BY number)::text
        FROM confiture.ledger_statement s WHERE s.version = l.version)
FROM confiture.ledger l ORDER BY version
"""


@dataclass(frozen=True)
class MigrationProject:
    """A folder with migrations, and the database that its environment ``prod`` names."""

    folder: Path
    database: TestDatabase
    forks: Forks

    def __post_init__(self) -> None:
        environments = self.folder / "db/environments"
        environments.mkdir(parents=True, exist_ok=True)
        (environments / "prod.yaml").write_text(f"database_url: {self.database.conninfo}\n")

    @property
    def migrations(self) -> Path:
        """The folder of the files."""
        return self.folder / "db/migrations"

    def write(self, number: int, up: str, down: str | None = None, *, name: str = "m") -> int:
        """Write a migration; its version."""
        self.migrations.mkdir(exist_ok=True)
        version = int(f"{FIRST + timedelta(seconds=number):%Y%m%d%H%M%S}")
        (self.migrations / f"{version}_{name}.up.sql").write_text(up)
        if down is not None:
            (self.migrations / f"{version}_{name}.down.sql").write_text(down)
        return version

    def start(self, command: str, *options: str, heartbeat: float | None = None, **environment: str) -> Running:
        """Start ``confiture migrate COMMAND`` for the database."""
        words = ["migrate", *command.split(), "--target", "prod", *options]
        return self.forks.start(words, self.folder, heartbeat=heartbeat, **environment)

    def run(self, command: str, *options: str, code: int | None = 0, **environment: str) -> Ended:
        """Run ``confiture migrate COMMAND`` to its end; ``code`` is the required exit code."""
        ended = self.start(command, *options, **environment).wait()
        assert code is None or ended.code == code, f"exit {ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def killed_at(self, point: str, command: str = "up", *options: str) -> None:
        """Run a command that is killed when it passes a failpoint, ``name`` or ``name:hit``."""
        self.run(command, *options, code=-9, CONFITURE_FAILPOINT=point)

    def json(self, command: str, *options: str, code: int | None = 0) -> Any:
        """The document that a command prints."""
        return json.loads(self.run(command, *options, "--format", "json", code=code).out)

    def standings(self) -> dict[int, str]:
        """The standing of each migration, by the number below 60 with which it was written."""
        found = self.json("status", code=None)["migrations"]
        return {each["version"] - 20260101000000: each["standing"] for each in found}

    @property
    def ledger(self) -> list[tuple[Any, ...]]:
        """The ledger without what differs between two runs."""
        return self.database.rows(LEDGER)

    @property
    def run_state(self) -> str:
        """The state of the newest run of migrations."""
        return str(self.database.value("SELECT state FROM confiture.run ORDER BY started_at DESC LIMIT 1"))
