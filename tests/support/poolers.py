"""A real PgBouncer for tests, on a loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from confiture.postgres import embedded
from confiture.postgres.embedded import SYSTEM_USER
from servers import TestDatabase

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _user() -> str | None:
    """The role of the system that runs PgBouncer if this process is root, as which PgBouncer refuses to run."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", SYSTEM_USER, "nobody") if name in known)  # wording: the name of a user


class Pooler:
    """One PgBouncer whose pool ``app`` points to a database; ``remove`` stops and deletes it."""

    def __init__(self, database: TestDatabase, *, mode: str = "transaction") -> None:
        if PROGRAM is None:
            pytest.skip("no PgBouncer is installed (pgbouncer is not in PATH or /usr/sbin)")
        self.port = embedded.free_port()
        self.folder = embedded.scratch()
        self.folder.chmod(0o755)
        self.config = self.folder / "pgbouncer.ini"
        self.pools = self.folder / "pools.ini"
        self.config.write_text(
            f"; our pools\n%include {self.pools}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"auth_type = trust\nauth_file = {self.folder}/users\nadmin_users = admin\nstats_users = watcher\n"
            f"pool_mode = {mode}\nunix_socket_dir =\nlogfile = {self.folder}/log\n"
        )
        self.pools.write_text(
            "# kept: \xe9\n[databases]\nother = host=127.0.0.1 dbname=other\n"
            f"app  =   host=127.0.0.1 port={database.server.port}  dbname={database.name} pool_size=8  \n\n; the end"
        )
        (self.folder / "users").write_text('"postgres" ""\n"admin" ""\n"watcher" ""\n')
        self.pools.chmod(0o640)
        self._user = _user()
        for path in (self.folder, *self.folder.iterdir()):
            if self._user is not None:
                shutil.chown(path, self._user, pwd.getpwnam(self._user).pw_gid)
        self.start()

    def start(self) -> None:
        """Start PgBouncer and wait until it answers."""
        self._process = subprocess.Popen(
            [str(PROGRAM), "-q", str(self.config)], user=self._user, cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
            extra_groups=None if self._user is None else (),
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                self.ask("SHOW VERSION")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop PgBouncer immediately."""
        self._process.terminate()
        self._process.wait()

    def remove(self) -> None:
        """Stop PgBouncer and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def console(self) -> str:
        """The connection string of the admin console."""
        return f"host=127.0.0.1 port={self.port} user=admin dbname=pgbouncer"

    @property
    def conninfo(self) -> str:
        """The connection string of the pool, for the application."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=app"

    def ask(self, command: str) -> list[dict[str, Any]]:
        """Run a command on the console. Returns its rows."""
        with psycopg.connect(self.console, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
            cursor = connection.execute(command.encode())
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []

    @property
    def status(self) -> tuple[str, bool]:
        """The database that the pool points to, and whether the pool is paused."""
        row = next(row for row in self.ask("SHOW DATABASES") if row["name"] == "app")
        return str(row["database"]), bool(int(row["paused"]))


def permissions(path: Path) -> tuple[int, int, int]:
    """The mode, owner and group of a file."""
    found = path.stat()
    return found.st_mode, found.st_uid, found.st_gid
