"""Shared by the benchmarks: two private servers, a run between them, and figures with a description."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from confiture import commands
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.postgres.embedded import Server, scratch
from confiture.schema_to_schema.outcomes import Limits
from confiture.status.report import report


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
def servers(*, on_disk: bool = False, bindir: Path | None = None) -> Iterator[Pair]:
    """Two servers for the block.

    :param on_disk: on a disk, so that a commit waits for it. Otherwise the files are in memory if it has room, where
        fsync costs almost nothing.
    :param bindir: of another PostgreSQL than the packaged one; as root, it runs as user postgres.
    """
    logging.disable(logging.WARNING)

    def server() -> Server:
        root = Path(tempfile.mkdtemp(prefix="confiture-", dir="/var/tmp")) if on_disk else scratch()
        return Server(root) if bindir is None else Server(root, bindir, user="postgres")

    with ExitStack() as stack:
        yield Pair(stack.enter_context(server()), stack.enter_context(server()))


def described(pair: Pair, *, on_disk: bool) -> str:
    """One sentence about the servers and the machine."""
    version = rows(pair.old.conninfo(), "SELECT current_setting('server_version')")[0][0].split()[0]
    place = "on a disk" if on_disk or not str(pair.old.root).startswith("/dev/shm") else "in memory"
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"PostgreSQL {version} on both sides, on one machine with {cores} cores, data {place};"
        f" load of the machine at the end {load:.1f}."
    )


@contextmanager
def folder() -> Iterator[Path]:
    """The name of a folder that does not exist yet, whose parent is removed after the block."""
    with tempfile.TemporaryDirectory() as parent:
        yield Path(parent) / "state"


def executed(command: str, environment: Mapping[str, str]) -> float:
    """The seconds of a shell command.

    :raises RuntimeError: with its last words, when it fails.
    """
    with timed() as took:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], env={**os.environ, **environment}, capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"{command}: {(done.stdout + done.stderr)[-2000:]}")
    return took[0]


@dataclass(frozen=True)
class Peak:
    """The cost of a command.

    :ivar client: megabytes of its largest process; ``server`` the same of the servers, without shared memory.
    """

    seconds: float
    client: float
    server: float


#: The command that the commands of a run belong to.
COMMAND = ("migrate", "schema-to-schema")
#: Seconds between two looks at the memory of the processes.
SAMPLE_SECONDS = 0.05


def peak_of(command: Sequence[str], pair: Pair, *, sample: bool) -> Peak:
    """Run a command and look at the memory of its processes and of the servers' until it ends.

    :param sample: look at the memory, which costs the command a few per cent of its time; otherwise it counts as 0.
    :raises RuntimeError: with what it printed, when it fails.
    """
    roots = [int((server.data / "postmaster.pid").read_text().split()[0]) for server in (pair.old, pair.new)]
    client = server = 0
    with tempfile.TemporaryFile() as output, timed() as took:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        while sample and process.poll() is None:
            below = _descendants()
            client = max([client, *(_memory(pid, "VmHWM") for pid in below(process.pid))])
            server = max([server, *(_memory(pid, "RssAnon") for root in roots for pid in below(root))])
            time.sleep(SAMPLE_SECONDS)
        process.wait()
        output.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {output.read().decode()[-2000:]}")
    return Peak(took[0], client / 1000, server / 1000)


def _descendants() -> Callable[[int], list[int]]:
    """A function from a process to itself and everything below it, as of now."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(stat.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(stat.parent.name))

    def below(pid: int) -> list[int]:
        return [pid, *(found for child in children.get(pid, ()) for found in below(child))]

    return below


def _memory(pid: int, name: str) -> int:
    """Kilobytes; 0 for a process that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


class Run:
    """A run from a source into a new database on the other server. As a context, it drops what it created."""

    made = 0

    def __init__(self, pair: Pair, source: str, new: str, mapping: str = "", **choices: Any) -> None:
        Run.made += 1
        self.source = source
        self.pair = pair
        self.name = f"new{Run.made}"
        self.target = pair.new.conninfo(self.name)
        self._folder = tempfile.TemporaryDirectory()
        self.project = Path(self._folder.name)
        (self.project / "db/schema/10").mkdir(parents=True)
        (self.project / "db/schema/10/new.sql").write_text(new)
        path = self.project / "mapping.yaml"
        path.write_text(mapping)
        self.choices = RunOptions(mapping=path, **choices)
        self.where = Endpoints(self.target, source, self.project)
        self.progress = Quiet()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        execute(self.source, f"DROP SCHEMA {self.schema} CASCADE")
        execute(self.pair.new.conninfo(), f"DROP DATABASE {self.name} WITH (FORCE)")

    def command(self, name: str, *options: str, sample: bool = False) -> Peak:
        """A command as the command line runs it, in processes of its own."""
        where = ("--target", self.target, "--source", self.source, "--project", str(self.project))
        return peak_of((sys.executable, "-m", "confiture", *COMMAND, name, *where, *options), self.pair, sample=sample)

    @property
    def schema(self) -> str:
        """The run schema on the source."""
        return str(rows(self.source, "SELECT nspname FROM pg_namespace WHERE nspname ~ '^confiture_'")[0][0])

    def plan(self) -> None:
        """Plan for a target that does not exist yet."""
        commands.plan.make(self.where, self.choices)

    def status(self) -> None:
        """Read the report of the run."""
        report(self.target, self.project)

    def setup(self) -> None:
        """Create the new schema, and capture on the source."""
        commands.setup.execute(self.where, self.choices, self.progress)

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
