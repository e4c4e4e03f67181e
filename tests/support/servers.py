"""Databases on real servers for tests, cloned from templates that are built once."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from confiture.postgres import embedded
from confiture.postgres.embedded import Server

_COUNTER = itertools.count(1)
#: The text that was run in a database before, with the server's folder.
_USED: set[tuple[Path, str]] = set()
#: How often sessions that are ending are looked for; those of a failed test stay.
PATIENT_LOOKS = 20
#: For a standby to replay what its primary has written; a loaded machine is slow.
STANDBY_SECONDS = 60


@dataclass(frozen=True)
class TestDatabase:
    """A database that a test may change in any way."""

    __test__ = False

    server: Server
    name: str

    @property
    def conninfo(self) -> str:
        """The connection string for role postgres, over TCP."""
        return self.server.conninfo(self.name)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """Open a connection in autocommit mode."""
        return psycopg.connect(self.conninfo, **{"autocommit": True, **options})

    def sql(self, text: str) -> None:
        """Run statements."""
        with self.connect() as connection:
            connection.execute(text.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.connect() as connection:
            return connection.execute(query.encode()).fetchall()

    def value(self, query: str) -> Any:
        """The only value of a query."""
        return self.rows(query)[0][0]

    @property
    def run_schema(self) -> str:
        """The schema of the run in this database."""
        return str(self.value("SELECT nspname FROM pg_namespace WHERE nspname ~ '^confiture_'"))

    def as_the_run(self, statements: str) -> None:
        """Run statements as the run's own writes, which capture ignores and the write block permits."""
        with self.connect() as connection:
            connection.execute(f"SET confiture.writer = '{self.run_schema}'".encode())
            connection.execute(statements.encode())


class Databases:
    """Creates databases and drops them at the end."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._made: list[str] = []

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.conninfo("postgres"), autocommit=True)

    def make(self, name: str | None = None, *, template: str = "template0", options: str = "") -> TestDatabase:
        """Create a database. ``options`` are appended to CREATE DATABASE."""
        name = name or f"t{os.getpid():07}_{next(_COUNTER):05}"  # of one length: tests look at the width of lines
        with self._admin() as admin:
            _create(admin, name, template, options)
        self._made.append(name)
        return TestDatabase(self.server, name)

    def cloned(self, text: str, name: str | None = None) -> TestDatabase:
        """Create a database in which ``text`` was run. Texts that are used again get a template, which is cloned."""
        template = "template_" + hashlib.sha256(text.encode()).hexdigest()[:16]
        use = (self.server.root, template)
        if use not in _USED:
            _USED.add(use)
            made = self.make(name)
            made.sql(text)
            return made
        with self._admin() as admin:
            known = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (template,)).fetchone()
            if known is None:
                _create(admin, template, "template0")
                TestDatabase(self.server, template).sql(text)
        return self.make(name, template=template)

    def adopt(self, name: str) -> None:
        """At the end, also drop a database that other code creates."""
        self._made.append(name)

    def drop_all(self) -> None:
        """Drop all databases that were created."""
        with self._admin() as admin:
            _await_end_of_sessions(admin, self._made)
            for name in self._made:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._made.clear()


def _create(admin: psycopg.Connection[Any], name: str, template: str, options: str = "") -> None:
    _await_end_of_sessions(admin, [template])
    # Cheaper than its entry in the WAL, where the database and its removal are never flushed to a disk.
    strategy = " STRATEGY file_copy" if admin.info.server_version >= 150000 else ""
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} " + options + strategy)
    admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def _await_end_of_sessions(admin: psycopg.Connection[Any], names: list[str]) -> None:
    """Wait for sessions that are just ending: the server itself would look for them only every 100 ms."""
    for _ in range(PATIENT_LOOKS):
        if not admin.execute("SELECT 1 FROM pg_stat_activity WHERE datname = ANY (%s)", (names,)).fetchall():
            return
        time.sleep(0.002)


@contextmanager
def standby_of(server: Server, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A standby that streams from a server, for the block; skips the test where it cannot be created."""
    if not (server.bindir / "pg_basebackup").exists():
        pytest.skip("the embedded PostgreSQL has no pg_basebackup, which creates the standby")
    # Recovery refuses the tablespaces without a location that other tests may have left on the server.
    made = Server(embedded.scratch(), settings={"allow_in_place_tablespaces": "on", **(settings or {})})
    if made._user is not None:
        embedded._permit_access(made.root)
        shutil.chown(made.root, made._user)
    try:
        primary = f"host=127.0.0.1 port={server.port} user=postgres application_name=far"
        made.run("pg_basebackup", "-d", primary, "-D", str(made.data), "-R", "-c", "fast", "--no-sync")
        made.start()
        yield made
    finally:
        made.remove()


def caught_up(standby: Server, primary: Server) -> None:
    """Wait until a standby has replayed what its primary has written."""
    ahead = "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn"
    replayed = "SELECT pg_last_wal_replay_lsn() - '0/0'::pg_lsn"
    written = TestDatabase(primary, "postgres").value(ahead)
    deadline = time.monotonic() + STANDBY_SECONDS
    while TestDatabase(standby, "postgres").value(replayed) < written:
        assert time.monotonic() < deadline, "the standby does not catch up"
        time.sleep(0.02)


def back_up(server: Server) -> Path:
    """Copy the files of a server, and restart it. Returns the folder of the copy."""
    copy = server.root / f"copy{next(_COUNTER)}"
    server.stop()
    subprocess.run(["cp", "-a", server.data, copy], check=True)
    server.start()
    return copy


def restore(server: Server, copy: Path) -> None:
    """Replace the files of a server with those of a copy, which is moved."""
    server.stop()
    shutil.rmtree(server.data)
    copy.rename(server.data)
    server.start()


def restored_after(server: Server, happens: Callable[[], object]) -> None:
    """Call a function, and restore a server to its state before the call."""
    copy = back_up(server)
    happens()
    restore(server, copy)


def major_version(bindir: Path) -> str:
    """The major version of the server in a folder of binaries, as ``18``."""
    banner = subprocess.check_output([bindir / "postgres", "--version"], text=True)
    return re.search(r"\) (\d+)", banner)[1]  # type: ignore[index]


def load_dump(database: TestDatabase, path: Path) -> None:
    """Load a plain pg_dump with its ``COPY ... FROM stdin`` blocks.

    A file that is not valid UTF-8 is read as Latin-1, in which every byte is valid.
    """
    data = path.read_bytes()
    encoding = "UTF8"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        encoding = "LATIN1"
    with database.connect() as connection:
        for statement, rows in _dump_parts(data):
            if b"client_encoding" in statement:
                continue
            connection.execute(f"SET client_encoding = '{encoding}'".encode())
            if rows is None:
                connection.execute(statement)
            else:
                with connection.cursor().copy(statement) as copy:
                    copy.write(rows)


def _dump_parts(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    statement: list[bytes] = []
    lines = iter(data.splitlines(keepends=True))
    for line in lines:
        if not statement and (line.startswith((b"--", b"\\")) or not line.strip()):
            continue
        statement.append(line)
        if not line.rstrip().endswith(b";"):
            continue
        text = b"".join(statement)
        statement = []
        rows = None
        if text.startswith(b"COPY ") and b"FROM stdin" in text:
            rows = b"".join(itertools.takewhile(lambda row: row.rstrip(b"\r\n") != b"\\.", lines))
        yield text, rows
