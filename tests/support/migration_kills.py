"""Many migrations up and down again, killed at random: the result must be that of an undisturbed run.

``python tests/support/migration_kills.py`` runs two hundred migrations with fifty kills in each direction,
``tests/acceptance/test_migrations_killed.py`` a few. A kill is SIGKILL of the process, or pg_terminate_backend() of its
sessions, when it has passed a random number of failpoints: anywhere, and independent of the machine's load.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from confiture.postgres import embedded
from confiture.postgres.embedded import Server, bundled
from forked import Forks, Running, forks, until
from migrating import NO_TRANSACTION, MigrationProject
from servers import Databases, TestDatabase

#: Each number stands for the migration. The first two kinds are transactions, the others run by statement.
KINDS = (
    (
        "CREATE TABLE t{n} (a int PRIMARY KEY, b text);\nINSERT INTO t{n} SELECT g, 'x' FROM generate_series(1, 9) g",
        "DROP TABLE t{n}",
    ),
    ("INSERT INTO base VALUES ({n}, 'row');\nALTER TABLE base ADD c{n} int DEFAULT {n}",
     "ALTER TABLE base DROP c{n};\nDELETE FROM base WHERE a = {n}"),
    (NO_TRANSACTION + "INSERT INTO log VALUES ({n});\nCREATE INDEX CONCURRENTLY i{n} ON base (a, ({n}));\n"
     "INSERT INTO log VALUES (-{n})",
     NO_TRANSACTION + "DELETE FROM log WHERE n = {n};\nDROP INDEX CONCURRENTLY i{n};\nDELETE FROM log WHERE n = -{n}"),
    (NO_TRANSACTION + "SET search_path = app, public;\nCREATE TABLE p{n} (a int) PARTITION BY LIST (a);\n"
     "CREATE TABLE c{n} PARTITION OF p{n} FOR VALUES IN ({n});\nINSERT INTO p{n} VALUES ({n});\n"
     "ALTER TABLE p{n} DETACH PARTITION c{n} CONCURRENTLY",
     NO_TRANSACTION + "SET search_path = app, public;\nDROP TABLE c{n};\nDROP TABLE p{n}"),
    (NO_TRANSACTION + "CREATE VIEW v{n} AS SELECT a FROM base;\nREINDEX TABLE CONCURRENTLY base;\nANALYZE base",
     "DROP VIEW v{n}"),
)  # fmt: skip
BEFORE = "CREATE TABLE base (a int PRIMARY KEY, b text); CREATE TABLE log (n int); CREATE SCHEMA app"


@dataclass
class Kills:
    """The kills so far, by kind; ``left`` are still to come."""

    left: int
    pick: random.Random
    done: Counter[str]


def written(folder: Path, database: TestDatabase, forks: Forks, count: int) -> MigrationProject:
    """A project with so many migrations."""
    project = MigrationProject(folder, database, forks)
    for n in range(1, count + 1):
        up, down = KINDS[n % len(KINDS)]
        project.write(n, up.format(n=n), down.format(n=n))
    return project


def snapshot(project: MigrationProject) -> tuple[list[str], object, object]:
    """The catalog and the rows of the database, invalid indexes and pending partitions, and the ledger."""
    done = subprocess.run(
        [str(bundled() / "pg_dump"), "--exclude-schema=confiture", project.database.conninfo],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    lines = sorted(line for line in done.stdout.splitlines() if "restrict" not in line)
    broken = project.database.rows(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid"
        " UNION ALL SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhdetachpending"
    )
    return lines, broken, project.ledger


def disturbed(project: MigrationProject, command: str, options: tuple[str, ...], kills: Kills, step: int) -> None:
    """Run a command until it has ended by itself, and kill it on the way.

    :param step: the largest number of failpoints that a process passes before it is killed.
    """
    while True:
        running = project.start(command, *options, heartbeat=0.5)
        at = 0
        # A command survives the end of its sessions, so that it may be disturbed several times.
        while kills.left > 0 and running.alive:
            at = max(at, running.passed) + kills.pick.randint(1, step)
            until(lambda at=at, of=running: of.passed >= at or not of.alive, "the command to work")
            if running.alive:
                _kill(project, running, kills)
        ended = running.wait()
        assert ended.code in (0, -9, 3, 6), f"exit {ended.code}\n{ended.out}\n{ended.err}"
        if ended.code == 0:
            return


def _kill(project: MigrationProject, running: Running, kills: Kills) -> None:
    kills.left -= 1
    if kills.pick.random() < 0.6:
        kills.done["kill -9"] += 1
        running.signal(signal.SIGKILL)
        until(lambda: not running.alive, "the end of the command")
        return
    role = kills.pick.choice(["migration", "runner", "%"])
    kills.done[f"pg_terminate_backend ({role})"] += 1
    project.database.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND application_name LIKE 'confiture % {role}'"
    )


def check(databases: Databases, folder: Path, count: int, kills: int, seed: int, forks: Forks) -> Counter[str]:
    """Compare a disturbed run with an undisturbed one, up and then down; the kills by kind.

    :param kills: in each direction.
    """
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    calm = written(folder / "a", databases.cloned(BEFORE), forks, count)
    wild = written(folder / "b", databases.cloned(BEFORE), forks, count)
    done: Counter[str] = Counter()
    for number, (command, options) in enumerate((("up", ()), ("down", ("--to", "0")))):
        running = calm.start(command, *options)
        ended = running.wait()
        assert ended.code == 0, ended.err
        found = Kills(kills, random.Random(seed + number), done)
        disturbed(wild, command, options, found, max(2, running.passed // kills))
        assert snapshot(wild) == snapshot(calm)
        assert wild.database.value("SELECT count(*) FROM confiture.run WHERE state NOT IN ('cleaned', 'aborted')") == 0
    return done


def main() -> None:
    """Run many migrations with many kills; the seed is printed, to repeat a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--migrations", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with Server(embedded.scratch()) as server, tempfile.TemporaryDirectory() as folder:
        done = check(Databases(server), Path(folder), given.migrations, given.kills, given.seed, forks())
        forks().close()
    print(f"{given.migrations} migrations up and down, {done.total()} kills: {dict(done)}: equal")


if __name__ == "__main__":
    sys.exit(main())
