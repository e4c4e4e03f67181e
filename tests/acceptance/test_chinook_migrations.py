"""The migrations of the Chinook example: applied to the sample database, killed, reverted, and nothing else changed.

The test needs the sample database ``chinook.sql`` (see the fixture ``samples``) and is skipped without it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from confiture.postgres.embedded import bundled
from conftest import ROOT
from forked import Forks
from migrating import MigrationProject
from servers import Databases, TestDatabase, load_dump

MIGRATIONS = ROOT / "examples/chinook/db/migrations"
#: One point of a transaction, one of a statement that can run in one, and two around one that cannot.
KILLS = ("migration.before_commit:2", "statement.before_commit", "statement.begun.after_commit:2", "statement.ran")


def dumped(database: TestDatabase) -> list[str]:
    """The schema and the rows, without the journal."""
    done = subprocess.run(
        [str(bundled() / "pg_dump"), "--exclude-schema=confiture", database.conninfo],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return sorted(line for line in done.stdout.splitlines() if "restrict" not in line)


def test_the_migrations_of_the_record_shop_go_up_and_down_again(
    databases: Databases, samples: Path, forks: Forks, tmp_path: Path
) -> None:
    shop = databases.make()
    load_dump(shop, samples / "chinook.sql")
    project = MigrationProject(tmp_path, shop, forks)
    shutil.copytree(MIGRATIONS, project.migrations)
    before = dumped(shop)
    tried = project.json("up", "--dry-run")["migrations"]
    assert [lock["mode"] for lock in tried[1]["statements"][0]["locks"]] == ["ACCESS EXCLUSIVE"]
    assert tried[2]["statements"][0]["locks"][0]["mode"] == "SHARE UPDATE EXCLUSIVE"
    assert dumped(shop) == before
    for point in KILLS:
        project.run("up", code=None, CONFITURE_FAILPOINT=point)
    project.run("up")
    assert project.run("status").out.startswith("OK - prod: 6 applied")
    assert shop.value('SELECT bool_and("Position" > 0) AND count(DISTINCT "Position") > 1000 FROM "PlaylistTrack"')
    query = "SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid::regclass::text IN ('\"Track\"', '\"Customer\"')"
    assert shop.value(query)
    assert shop.value("SELECT sum(total) FROM sales_by_country") == shop.value('SELECT sum("Total") FROM "Invoice"')
    for point in KILLS:
        project.run("down", "--to", "0", code=None, CONFITURE_FAILPOINT=point)
    project.run("down", "--to", "0")
    assert dumped(shop) == before
