"""The servers of the installed versions of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import versions
from confiture.postgres.embedded import Server, scratch
from servers import Databases

Started = Callable[[str], Server]


@pytest.fixture(scope="session")
def started() -> Iterator[Started]:
    """Starts the server of a version once; skips the test if the version is not installed."""
    servers: dict[str, Server] = {}
    with ExitStack() as running:

        def start(version: str) -> Server:
            found = versions.bindir(version)
            if found is None:
                pytest.skip(f"PostgreSQL {version} is not installed; `make versions` installs it")
            if version not in servers:
                with pytest.MonkeyPatch.context() as environment:
                    # postgres_fdw would load the libpq of the system, which may be older than this server.
                    environment.setenv("LD_LIBRARY_PATH", str(found.parent / "lib"))
                    servers[version] = running.enter_context(Server(scratch(), found))
            return servers[version]

        yield start


@pytest.fixture
def pair(started: Started, request: pytest.FixtureRequest) -> Iterator[tuple[Databases, Databases]]:
    """Databases on the servers of the two versions that the test names."""
    with ExitStack() as made:
        both = [Databases(started(version)) for version in request.param]
        for databases in both:
            made.callback(databases.drop_all)
        yield both[0], both[1]
