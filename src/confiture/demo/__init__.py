"""``confiture demo``: move a database on an embedded PostgreSQL server, with a kill -9 during the copy.

Every step runs the real command in a separate process.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import psycopg
from psycopg import sql

from confiture.errors import ConfitureError
from confiture.postgres.embedded import Server, scratch

SOURCE, TARGET = "prod", "prod_new"
#: Rows per chunk; small, so that many chunks are done and many are left at the time of the kill.
CHUNK_ROWS = 5_000
KILL_AFTER_CHUNKS = 20
_SCHEMA_TO_SCHEMA = ("migrate", "schema-to-schema")
_BLOCK = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo's server and project folder; ``say`` prints a line."""

    server: Server
    project: Path
    say: Callable[[str], None]

    def environment(self) -> dict[str, str]:
        """The environment variables of the commands."""
        return {**os.environ, "CONFITURE_DEMO_URL": self.server.conninfo(SOURCE)}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Print a command line and start the command."""
        self.say(f"\n$ confiture {' '.join(arguments)}")
        command = [sys.executable, "-m", "confiture", *arguments]
        return subprocess.Popen(command, cwd=self.project, env=self.environment())

    def run(self, *arguments: str) -> None:
        """Run a command and wait until it ends.

        :raises ConfitureError: when it fails.
        """
        code = self.start(*arguments).wait()
        if code:
            raise ConfitureError(f"the demo stopped: `confiture {' '.join(arguments)}` exited with {code}")

    def step(self, name: str, *arguments: str) -> None:
        """Run one step of the migration."""
        self.run(*_SCHEMA_TO_SCHEMA, name, *arguments, "--target", TARGET)


def run(*, keep: bool, say: Callable[[str], None]) -> None:
    """Run the demo; it takes about half a minute.

    :param keep: leave the server running and print how to connect to it.
    :param say: prints a line.
    :raises ConfitureError: when a command fails or a row is not as expected.
    """
    began = time.monotonic()
    root = scratch()
    demo = Demo(Server(root), root / "project", say)
    try:
        _prepare(demo)
        demo.step("setup", "--source", SOURCE, "--mapping", "column_mapping.yaml", "--chunk-rows", str(CHUNK_ROWS))
        done = _kill_in_the_middle(demo)
        _write_during_copy(demo)
        demo.start("status", "--target", TARGET).wait()
        say(f"\nThe same command again; the {done} finished chunks are not copied again.")
        demo.step("migrate")
        demo.step("verify")
        demo.step("cutover")
        demo.step("cleanup", "--yes")
        rows = _prove(demo)
    except BaseException:
        demo.server.remove()
        raise
    say(f"\nIn {time.monotonic() - began:.0f} s: {rows:,} rows moved into a new schema, through one kill -9")
    say(f"that kept {done} chunks. Every row equals the result of a plain SQL query over the source.")
    if keep:
        _print_how_to_connect(demo)
    else:
        demo.server.remove()


def _prepare(demo: Demo) -> None:
    demo.say(f"Starting a private PostgreSQL in {demo.server.root}")
    demo.server.start()
    files = resources.files(__name__)
    with resources.as_file(files / "project") as project:
        shutil.copytree(project, demo.project)
    with psycopg.connect(demo.server.conninfo(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE prod")
    demo.say("Filling the database prod: 60,000 users, 300,000 posts, 20,000 customers")
    with psycopg.connect(demo.server.conninfo(SOURCE), autocommit=True) as old:
        old.execute((files / "old.sql").read_bytes())


def _kill_in_the_middle(demo: Demo) -> int:
    """Kill the migrate command when some chunks are done and some are not; return how many are done."""
    process = demo.start(*_SCHEMA_TO_SCHEMA, "migrate", "--target", TARGET)
    with psycopg.connect(demo.server.conninfo(TARGET), autocommit=True) as journal:
        while process.poll() is None and _chunks(journal)[0] < KILL_AFTER_CHUNKS:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done, pending = _chunks(journal)
    if process.returncode != -signal.SIGKILL or not pending:
        raise ConfitureError("the demo stopped: migrate finished before it could be killed")
    demo.say(f"\nkill -9 {process.pid}: {done} chunks done, {pending} planned")
    return done


def _write_during_copy(demo: Demo) -> None:
    """Change, delete and insert rows as the application does, some of them in chunks that are copied already."""
    demo.say("\nThe application continues to write: 3,000 users renamed, 1,000 posts deleted, 1,000 inserted")
    with psycopg.connect(demo.server.conninfo(SOURCE)) as old:
        old.execute("UPDATE tb_user SET name = name || ' the Second' WHERE id <= 3000")
        old.execute("DELETE FROM tb_post WHERE id <= 1000")
        old.execute(
            "INSERT INTO tb_post (user_id, title, posted_at) SELECT n, 'While it moves ' || n, now()"
            " FROM generate_series(1, 1000) n"
        )


def _chunks(journal: psycopg.Connection[tuple[int, int]]) -> tuple[int, int]:
    row = journal.execute(
        "SELECT count(*) FILTER (WHERE status = 'done'), count(*) FILTER (WHERE status <> 'done') FROM confiture.chunk"
    ).fetchone()
    return (0, 0) if row is None else row


def _prove(demo: Demo) -> int:
    """Compare every table of the target with a plain SQL query over the source; return the number of rows."""
    text = (resources.files(__name__) / "proof.sql").read_text(encoding="utf-8")
    proofs = dict(_BLOCK.findall(text))
    actual = proofs.pop("actual")
    rows = 0
    with psycopg.connect(demo.server.conninfo(SOURCE)) as old, psycopg.connect(demo.server.conninfo(TARGET)) as new:
        for table, query in proofs.items():
            wanted = old.execute(query.encode()).fetchone()
            # The target's columns, in the order of the query in proof.sql.
            found = new.execute(sql.SQL(actual).format(sql.Identifier(table))).fetchone()
            if wanted is None or wanted != found:
                raise ConfitureError(f"the demo failed: {table} holds {found}, not {wanted}")
            rows += wanted[0]
            demo.say(f"  {table}: {wanted[0]:,} rows, md5 {wanted[1]} on both sides")
    return rows


def _print_how_to_connect(demo: Demo) -> None:
    psql = demo.server.bindir / "psql"
    demo.say(
        f"\nThe server is still running. Connect with:\n"
        f"  {psql} {demo.server.conninfo(SOURCE)}\n"
        f"  {psql} {demo.server.conninfo(TARGET)}\n"
        f"  confiture status --target {demo.server.conninfo(TARGET)}\n"
        f"Stop it with:\n"
        f"  kill -INT $(head -1 {demo.server.data}/postmaster.pid) && rm -rf {demo.server.root}"
    )
