"""Fixtures: one embedded server per test session, fresh databases, the command line as a subprocess."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from confiture.postgres import embedded
from confiture.postgres.embedded import Server
from forked import Forks, forks
from projects import run_confiture
from servers import Databases, TestDatabase, major_version

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """PostgreSQL 18 from the package, one per worker."""
    with Server(embedded.scratch()) as running:
        yield running


@pytest.fixture(scope="session")
def old_server() -> Iterator[Server]:
    """Another PostgreSQL version, where one is installed."""
    pg_config = shutil.which("pg_config")
    if pg_config is None:
        pytest.skip("no other PostgreSQL is installed (pg_config is not there)")
    bindir = Path(subprocess.check_output([pg_config, "--bindir"], text=True).strip())
    if not (bindir / "initdb").exists():
        pytest.skip(f"pg_config names {bindir}, which has no server")
    if major_version(bindir) == major_version(embedded.bundled()):
        pytest.skip(f"the installed PostgreSQL in {bindir} is of the embedded one's version")
    with Server(embedded.scratch(), bindir, user="postgres") as running:
        yield running


@pytest.fixture(scope="module")
def two_servers() -> Iterator[tuple[Server, Server]]:
    """Two servers of a module's own, which it may stop."""
    with Server(embedded.scratch()) as one, Server(embedded.scratch()) as other:
        yield one, other


@pytest.fixture
def apart(two_servers: tuple[Server, Server]) -> Iterator[tuple[Databases, Databases]]:
    """Databases on each of the two."""
    here, there = (Databases(server) for server in two_servers)
    yield here, there
    here.drop_all()
    there.drop_all()


@pytest.fixture(scope="session", name="forks")
def forks_to_end() -> Forks:
    """Starts commands as quick processes, to be killed and signalled."""
    return forks()


@pytest.fixture(scope="session", autouse=True)
def no_process_stays() -> Iterator[None]:
    """Ends the process that forks commands, where one was needed."""
    yield
    if forks.cache_info().currsize:
        forks().close()


@pytest.fixture
def databases(server: Server) -> Iterator[Databases]:
    """Makes databases on the server, dropped after the test."""
    made = Databases(server)
    yield made
    made.drop_all()


@pytest.fixture
def old_databases(old_server: Server) -> Iterator[Databases]:
    """Makes databases on the other version."""
    made = Databases(old_server)
    yield made
    made.drop_all()


@pytest.fixture
def database(databases: Databases) -> TestDatabase:
    """An empty database."""
    return databases.make()


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder with sample data; skips where it is absent."""
    folder = Path(os.environ.get("CONFITURE_SAMPLES", ROOT.parent / "shared" / "data"))
    if not (folder / "chinook.sql").exists():
        pytest.skip(f"no sample data: {folder}/chinook.sql is not there (set CONFITURE_SAMPLES)")
    return folder


Confiture = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def confiture(tmp_path: Path) -> Confiture:
    """Run ``confiture ARGUMENTS`` as a process of its own; ``check`` is the exit code to insist on."""

    def run(*arguments: str, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_confiture(*arguments, cwd=cwd or tmp_path, **options)

    return run
