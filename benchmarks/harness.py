"""What the benchmarks share: two private servers, a run between them, and figures that say what they are."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from confiture import commands
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.postgres.embedded import Server, scratch
from confiture.schema_to_schema.outcomes import Limits


@dataclass(frozen=True)
class Figure:
    """A measured number and what it is."""

    name: str
    value: float
    unit: str
    what: str


@dataclass
class Report:
    """The figures of one script, printed as they come or as JSON at the end."""

    script: str
    as_json: bool
    figures: list[Figure] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Progress, on stderr: stdout is for figures."""
        print(text, file=sys.stderr, flush=True)

    def add(self, name: str, value: float, unit: str, what: str) -> None:
        """A figure."""
        self.figures.append(Figure(name, round(value, 4), unit, what))
        if not self.as_json:
            print(f"{name:32} {value:12,.3f} {unit:10} {what}", flush=True)

    def spread(self, name: str, values: Sequence[float], unit: str, what: str) -> None:
        """The least, the median and the most of repeated measurements."""
        for word, value in (("min", min(values)), ("median", statistics.median(values)), ("max", max(values))):
            self.add(f"{name} {word}", value, unit, what)

    def close(self) -> None:
        """Print the JSON, if that was asked for."""
        if self.as_json:
            machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()[0]}
            found = {"script": self.script, "machine": machine, "figures": [asdict(f) for f in self.figures]}
            print(json.dumps(found, indent=2))


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A script's options: ``--json`` and whatever it adds."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    return parser


class Quiet:
    """Progress that is not shown."""

    def say(self, text: str) -> None:
        """Nothing."""

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        """Nothing."""


@dataclass
class Pair:
    """Two servers: the old database's and the new one's, as two machines would be."""

    old: Server
    new: Server
    made: int = 0

    def source(self, schema: str) -> str:
        """A new database on the old server with ``schema`` in it; how to reach it."""
        self.made += 1
        with psycopg.connect(self.old.conninfo(), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE old{self.made}".encode())
        conninfo = self.old.conninfo(f"old{self.made}")
        execute(conninfo, schema)
        return conninfo

    def drop(self) -> None:
        """Drop the databases made last."""
        for server, name in ((self.old, f"old{self.made}"), (self.new, f"new{self.made}")):
            with psycopg.connect(server.conninfo(), autocommit=True) as admin:
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@contextmanager
def servers(*, on_disk: bool = False) -> Iterator[Pair]:
    """Two servers for the block.

    :param on_disk: where a commit waits for a disk, as an application's does; else in memory where there is
        room, and fsync costs next to nothing.
    """
    logging.disable(logging.WARNING)

    def folder() -> Path:
        return Path(tempfile.mkdtemp(prefix="confiture-", dir="/var/tmp")) if on_disk else scratch()

    with ExitStack() as stack:
        yield Pair(stack.enter_context(Server(folder())), stack.enter_context(Server(folder())))


class Run:
    """A run from a source into a new database on the other server."""

    def __init__(self, pair: Pair, source: str, new: str, mapping: str = "", **choices: Any) -> None:
        self.source = source
        self.target = pair.new.conninfo(f"new{pair.made}")
        self._folder = tempfile.TemporaryDirectory()
        self.project = Path(self._folder.name)
        (self.project / "db/schema/10").mkdir(parents=True)
        (self.project / "db/schema/10/new.sql").write_text(new)
        path = self.project / "mapping.yaml"
        path.write_text(mapping)
        self.choices = RunOptions(mapping=path, **choices)
        self.where = Endpoints(self.target, source, self.project)
        self.progress = Quiet()

    @property
    def schema(self) -> str:
        """The run's own schema on the source."""
        return str(rows(self.source, "SELECT nspname FROM pg_namespace WHERE nspname ~ '^confiture_'")[0][0])

    def setup(self) -> None:
        """The new schema, and capture on the source."""
        commands.setup.execute(self.where, self.choices, {}, self.progress)

    def migrate(self) -> None:
        """Copy and catch up."""
        commands.migrate.execute(self.where, self.choices, self.progress)

    def follow(self) -> int:
        """Catch up; rows brought over."""
        return commands.follow.execute(self.where, True, self.progress)[1]

    def verify(self) -> None:
        """:raises AssertionError: when anything differs."""
        assert commands.verify.execute(self.where, self.project / "differences.jsonl", True, self.progress)[1].equal

    def cutover(self, **limits: float) -> None:
        """Close the source, open the target."""
        commands.cutover.execute(self.where, Limits(**limits), self.project / "differences.jsonl", self.progress)

    def rollback(self) -> None:
        """Close the target, open the source again."""
        commands.rollback.execute(self.where, Limits(), self.progress)

    def up_to_cutover(self) -> None:
        """Setup, migrate and verify."""
        self.setup()
        self.migrate()
        self.verify()


def execute(conninfo: str, text: str) -> None:
    """Run statements, each on its own."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(text.encode())


def rows(conninfo: str, query: str) -> list[tuple[Any, ...]]:
    """A query's rows."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


@contextmanager
def timed() -> Iterator[list[float]]:
    """Seconds the block took, appended to the list it is given."""
    took: list[float] = []
    began = time.monotonic()
    yield took
    took.append(time.monotonic() - began)
