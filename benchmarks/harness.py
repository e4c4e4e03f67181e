"""Shared by the benchmarks: two private servers, a run between them, and figures with a description."""

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
    """A measured number with its name, unit and description."""

    name: str
    value: float
    unit: str
    what: str


@dataclass
class Report:
    """The figures of one script, printed immediately or as JSON at the end."""

    script: str
    as_json: bool
    figures: list[Figure] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print progress on stderr. Only figures are printed on stdout."""
        print(text, file=sys.stderr, flush=True)

    def add(self, name: str, value: float, unit: str, what: str) -> None:
        """Add a figure."""
        self.figures.append(Figure(name, round(value, 4), unit, what))
        if not self.as_json:
            print(f"{name:32} {value:12,.3f} {unit:10} {what}", flush=True)

    def spread(self, name: str, values: Sequence[float], unit: str, what: str) -> None:
        """Add the minimum, the median and the maximum of repeated measurements."""
        for word, value in (("min", min(values)), ("median", statistics.median(values)), ("max", max(values))):
            self.add(f"{name} {word}", value, unit, what)

    def close(self) -> None:
        """Print the JSON if it was requested."""
        if self.as_json:
            machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()[0]}
            found = {"script": self.script, "machine": machine, "figures": [asdict(f) for f in self.figures]}
            print(json.dumps(found, indent=2))


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The parser of a script with option ``--json``, to which the script adds its own options."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    return parser


class Quiet:
    """Progress that is not printed."""

    def say(self, text: str) -> None:
        """Print nothing."""

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        """Print nothing."""


@dataclass
class Pair:
    """Two servers, one for the source and one for the target, in place of two machines."""

    old: Server
    new: Server
    made: int = 0

    def source(self, schema: str) -> str:
        """Create a source database with ``schema``.

        :return: its conninfo.
        """
        self.made += 1
        with psycopg.connect(self.old.conninfo(), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE old{self.made}".encode())
        conninfo = self.old.conninfo(f"old{self.made}")
        execute(conninfo, schema)
        return conninfo

    def drop(self) -> None:
        """Drop the databases that were created last."""
        for server, name in ((self.old, f"old{self.made}"), (self.new, f"new{self.made}")):
            with psycopg.connect(server.conninfo(), autocommit=True) as admin:
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@contextmanager
def servers(*, on_disk: bool = False) -> Iterator[Pair]:
    """Two servers for the block.

    :param on_disk: on a disk, so that a commit waits for it. Otherwise the files are in memory if it has room, where
        fsync costs almost nothing.
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
        """The run schema on the source."""
        return str(rows(self.source, "SELECT nspname FROM pg_namespace WHERE nspname ~ '^confiture_'")[0][0])

    def setup(self) -> None:
        """Create the new schema, and capture on the source."""
        commands.setup.execute(self.where, self.choices, {}, self.progress)

    def migrate(self) -> None:
        """Copy and catch up."""
        commands.migrate.execute(self.where, self.choices, self.progress)

    def follow(self) -> int:
        """Catch up once; the number of applied keys."""
        return commands.follow.execute(self.where, True, self.progress)[1]

    def verify(self) -> None:
        """Compare both sides.

        :raises AssertionError: if they differ.
        """
        assert commands.verify.execute(self.where, self.project / "differences.jsonl", True, self.progress)[1].equal

    def cutover(self, **limits: float) -> None:
        """Close the source and open the target."""
        commands.cutover.execute(self.where, Limits(**limits), self.project / "differences.jsonl", self.progress)

    def rollback(self) -> None:
        """Close the target and open the source again."""
        commands.rollback.execute(self.where, Limits(), self.progress)

    def up_to_cutover(self) -> None:
        """Setup, migrate and verify."""
        self.setup()
        self.migrate()
        self.verify()


def execute(conninfo: str, text: str) -> None:
    """Run statements in autocommit mode."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(text.encode())


def rows(conninfo: str, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


@contextmanager
def timed() -> Iterator[list[float]]:
    """Time the block: its seconds are appended to the list."""
    took: list[float] = []
    began = time.monotonic()
    yield took
    took.append(time.monotonic() - began)
