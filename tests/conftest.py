"""Fixtures: one embedded server per test session, new databases, and the command line as a subprocess."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import postgres_versions
from confiture.postgres import embedded
from confiture.postgres.embedded import Server
from forked import Forks, forks
from projects import run_confiture
from servers import Databases, TestDatabase, major_version

ROOT = Path(__file__).resolve().parents[1]

# Where the environment forbids bytecode, each of the thousands of processes would compile the modules again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A shell starts a program in the background with SIGINT ignored, which each command that a test starts would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The embedded PostgreSQL 18, one server per worker."""
    with Server(embedded.scratch()) as running:
        yield running


@pytest.fixture(scope="session")
def old_server() -> Iterator[Server]:
    """A server of another PostgreSQL version; skips the test if none is installed."""
    pg_config = shutil.which("pg_config")
    if pg_config is None:
        pytest.skip("no other PostgreSQL is installed (pg_config is missing)")
    bindir = Path(subprocess.check_output([pg_config, "--bindir"], text=True).strip())
    if not (bindir / "initdb").exists():
        pytest.skip(f"pg_config reports {bindir}, which has no server")
    if major_version(bindir) == major_version(embedded.bundled()):
        pytest.skip(f"the PostgreSQL in {bindir} has the same version as the embedded one")
    with Server(embedded.scratch(), bindir, user="postgres") as running:
        yield running


@pytest.fixture(scope="session")
def started() -> Iterator[Callable[[str], Server]]:
    """Starts the server of a version once; skips the test if the version is not installed."""
    servers: dict[str, Server] = {}
    with ExitStack() as running:

        def start(version: str) -> Server:
            found = postgres_versions.bindir(version)
            if found is None:
                pytest.skip(f"PostgreSQL {version} is not installed; `make versions` installs it")
            if version not in servers:
                with pytest.MonkeyPatch.context() as environment:
                    # postgres_fdw would load the libpq of the system, which may be older than this server.
                    environment.setenv("LD_LIBRARY_PATH", str(found.parent / "lib"))
                    servers[version] = running.enter_context(Server(embedded.scratch(), found))
            return servers[version]

        yield start


@pytest.fixture
def pair(started: Callable[[str], Server], request: pytest.FixtureRequest) -> Iterator[tuple[Databases, Databases]]:
    """Databases on the servers of the two versions that the test names."""
    with ExitStack() as made:
        both = [Databases(started(version)) for version in request.param]
        for databases in both:
            made.callback(databases.drop_all)
        yield both[0], both[1]


@pytest.fixture(scope="module")
def two_servers() -> Iterator[tuple[Server, Server]]:
    """Two servers for one module, which may stop them."""
    with Server(embedded.scratch()) as one, Server(embedded.scratch()) as other:
        yield one, other


@pytest.fixture
def apart(two_servers: tuple[Server, Server]) -> Iterator[tuple[Databases, Databases]]:
    """Databases on each of the two servers."""
    here, there = (Databases(server) for server in two_servers)
    yield here, there
    here.drop_all()
    there.drop_all()


@pytest.fixture(scope="session", name="forks")
def forks_to_end() -> Forks:
    """Starts commands in forked processes, which a test can kill and signal."""
    return forks()


@pytest.fixture(scope="session", autouse=True)
def no_process_stays() -> Iterator[None]:
    """Ends the process that forks commands, if a test has started it."""
    yield
    if forks.cache_info().currsize:
        forks().close()


@pytest.fixture
def databases(server: Server) -> Iterator[Databases]:
    """Creates databases on the server and drops them after the test."""
    made = Databases(server)
    yield made
    made.drop_all()


@pytest.fixture
def old_databases(old_server: Server) -> Iterator[Databases]:
    """Creates databases on the server of the other version."""
    made = Databases(old_server)
    yield made
    made.drop_all()


@pytest.fixture
def database(databases: Databases) -> TestDatabase:
    """An empty database."""
    return databases.make()


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder with sample data; skips the test without it."""
    folder = Path(os.environ.get("CONFITURE_SAMPLES", ROOT.parent / "shared" / "data"))
    if not (folder / "chinook.sql").exists():
        pytest.skip(f"no sample data: {folder}/chinook.sql is missing (set CONFITURE_SAMPLES)")
    return folder


Confiture = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def confiture(tmp_path: Path) -> Confiture:
    """Runs ``confiture ARGUMENTS`` in a process of its own; ``check`` is the required exit code."""

    def run(*arguments: str, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_confiture(*arguments, cwd=cwd or tmp_path, **options)

    return run
