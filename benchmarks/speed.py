"""The rate of the copy and of the verification against other ways to copy the same rows, in alternating runs.

Each part measures one question, and replaces its table in docs/benchmarks.md and its plot in docs/images. Confiture
runs as the command line does, with its start-up, and without capture, which the other ways do not have. ``raw pipe``
is ``COPY TO`` into ``COPY FROM``, binary, through one client process, into a table without a key, followed by
``ADD PRIMARY KEY``.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

import harness
import published
from confiture.copy.stream import pipe
from harness import Pair, Peak, Run, executed, rows
from published import Part, Series

#: The commands as most parts run them.
MIGRATE, VERIFY = ("migrate", "--jobs", "2"), ("verify", "--jobs", "2")


@dataclass(frozen=True)
class Shape:
    """One kind of table: its columns, and the values of row ``n``.

    :ivar share: rows compared with ``--rows``.
    :ivar cast: the column that becomes jsonb in the target; None if the columns stay as they are.
    """

    name: str
    columns: str
    values: str
    share: float = 1.0
    cast: str | None = None

    @property
    def new(self) -> str:
        """The columns of the target."""
        return self.columns if self.cast is None else self.columns.replace(f"{self.cast} text", f"{self.cast} jsonb")

    @property
    def select(self) -> str:
        """The items that give the columns of the target."""
        names = [column.split()[0] for column in self.columns.split(", ")]
        return ", ".join(f"{name}::jsonb" if name == self.cast else name for name in names)


NINE = Shape(
    "nine columns",
    "id bigint NOT NULL, a int, b numeric, c timestamptz, d text, e text, f uuid, g text, h boolean",
    "n, n % 1000, n / 100.0, now(), 'name ' || n, md5(n::text), md5(n::text)::uuid, '{\"n\": ' || n || '}', n % 2 = 0",
    cast="g",
)
NARROW = Shape("40 bytes", "id bigint NOT NULL, a int, b int", "n, n % 1000, n % 77", 3.0)
KILOBYTE = Shape("1 KB", "id bigint NOT NULL, doc text", "n, left(repeat(md5(n::text), 32), 1000)")
#: Text that does not compress.
_RANDOM = "(SELECT string_agg(md5((n::bigint * 1000000 + i)::text), '') FROM generate_series(1, {}) i)"
WIDE = Shape("20 KB", "id bigint NOT NULL, doc text", f"n, {_RANDOM.format(640)}", 0.015)
HUGE = Shape("20 MB", "id bigint NOT NULL, doc text", f"n, {_RANDOM.format(655_360)}", 0.00002)


@dataclass
class Bench:
    """The servers, the options, and the databases that a part uses."""

    pair: Pair
    options: Namespace
    report: harness.Report
    made: int = 0
    _sources: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def rounds(self) -> range:
        """One for each time that every way runs."""
        return range(self.options.rounds)

    def source(self, shape: Shape, count: int, tables: int = 1) -> str:
        """A database with tables ``t1``... of ``count`` rows, created once. Returns its conninfo."""
        key = (f"{shape.name} {tables}", count)
        if key not in self._sources:
            self.report.say(f"filling {tables} x {count:,} rows of {shape.name}")
            conninfo = self.pair.source("")
            for n in range(1, tables + 1):
                fill = f"INSERT INTO t{n} SELECT {shape.values} FROM generate_series(1, {count}) n"
                for statement in (f"CREATE TABLE t{n} ({shape.columns}, PRIMARY KEY (id))", fill, f"ANALYZE t{n}"):
                    harness.execute(conninfo, statement)
            self._sources[key] = conninfo
        return self._sources[key]

    def target(self) -> str:
        """An empty database on the other server."""
        self.made += 1
        harness.execute(self.pair.new.conninfo(), f"CREATE DATABASE other{self.made}")
        return self.pair.new.conninfo(f"other{self.made}")

    def drop(self, conninfo: str, source: str) -> None:
        """Drop a target.

        :raises RuntimeError: when it lacks rows of the source.
        """
        count = "SELECT count(*) FROM t1"
        if rows(conninfo, count) != rows(source, count):
            raise RuntimeError(f"{conninfo} lacks rows")
        name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
        harness.execute(self.pair.new.conninfo(), f"DROP DATABASE {name} WITH (FORCE)")

    def raw(self, source: str, shape: Shape) -> float:
        """Seconds of the raw pipe with its key."""
        target = self.target()
        harness.execute(target, f"CREATE TABLE t1 ({shape.new})")
        with harness.timed() as took:
            with psycopg.connect(source) as a, psycopg.connect(target) as b:
                out = sql.SQL("COPY (SELECT {} FROM t1) TO STDOUT (FORMAT binary)").format(sql.SQL(shape.select))
                pipe(a, b, out, sql.Composed([sql.SQL("COPY t1 FROM STDIN (FORMAT binary)")]))
            harness.execute(target, "ALTER TABLE t1 ADD PRIMARY KEY (id)")
        self.drop(target, source)
        return took[0]

    def confiture(
        self, source: str, shape: Shape, *steps: tuple[str, ...], tables: int = 1, sample: bool = False
    ) -> list[Peak]:
        """The cost of each command, after a setup that is not measured; each one is a command with its options."""
        new = "".join(f"CREATE TABLE t{n} ({shape.new}, PRIMARY KEY (id));\n" for n in range(1, tables + 1))
        cast = f"t1:\n  {shape.cast}: {{transform: '{shape.cast}::jsonb'}}\n" if shape.cast and tables == 1 else ""
        with Run(self.pair, source, new, cast, capture=False) as run:
            run.setup()
            return [run.command(*step, sample=sample) for step in steps]

    def size(self, source: str) -> float:
        """Megabytes of the tables of a source."""
        query = "SELECT sum(pg_table_size(oid)) FROM pg_class WHERE relname ~ '^t[0-9]+$' AND relkind = 'r'"
        return float(rows(source, query)[0][0]) / 1e6


def _alternating(bench: Bench, ways: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The seconds of each way, one round after the other."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for n in bench.rounds:
        for name, way in ways.items():
            took[name].append(way())
            bench.report.say(f"  round {n + 1}: {name} {took[name][-1]:.2f} s")
    return took


def _ratio(base: Sequence[float], other: Sequence[float]) -> str:
    """The median of the ratios of neighbouring runs, with the lowest and the highest."""
    found = [a / b for a, b in zip(base, other, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


# The parts -----------------------------------------------------------------------------------------


def jobs(bench: Bench) -> Part:
    """Rate of the copy and of the key's index against the number of jobs."""
    count = bench.options.rows
    source = bench.source(NINE, count)

    def migrate(jobs: str) -> float:
        return bench.confiture(source, NINE, ("migrate", "--jobs", jobs))[0].seconds

    ways: dict[str, Callable[[], float]] = {"raw pipe": lambda: bench.raw(source, NINE)}
    ways |= {f"migrate --jobs {n}": lambda n=n: migrate(n) for n in ("1", "2", "4")}
    took, size = _alternating(bench, ways), bench.size(source)
    table = [
        (
            name,
            f"{statistics.median(s):.2f}",
            f"{count / statistics.median(s):,.0f}",
            f"{size / statistics.median(s):,.0f}",
            _ratio(took["raw pipe"], s),
        )
        for name, s in took.items()
    ]
    lines = {
        name: [(str(n), count / statistics.median(took[f"migrate --jobs {n}"])) for n in (1, 2, 4)]
        for name in ["migrate"]
    }
    lines["raw pipe"] = [(str(n), count / statistics.median(took["raw pipe"])) for n in (1, 2, 4)]
    head = ("way", "seconds", "rows/s", "MB/s", "rate, raw pipe = 1")
    return Part(f"{count:,} rows of {NINE.name}, {size:,.0f} MB", head, table, Series("jobs", "rows/s", lines))


def growth(bench: Bench) -> Part:
    """Rate against the number of rows."""
    counts = [bench.options.rows // 4, bench.options.rows, bench.options.rows * 4]
    table, lines = [], {"migrate": [], "raw pipe": []}
    for count in counts:
        source = bench.source(NINE, count)
        ways = {
            "raw pipe": lambda: bench.raw(source, NINE),  # noqa: B023 - called in this round only
            "migrate": lambda: bench.confiture(source, NINE, ("migrate",))[0].seconds,  # noqa: B023
        }
        for name, seconds in _alternating(bench, ways).items():
            each = statistics.median(seconds) / count * 1e6
            table.append((f"{count:,}", name, f"{statistics.median(seconds):.2f}", f"{each:.2f}"))
            lines[name].append((f"{count:,}", count / statistics.median(seconds)))
    return Part(
        f"rows of {NINE.name}", ("rows", "way", "seconds", "µs per row"), table, Series("rows", "rows/s", lines)
    )


def memory(bench: Bench) -> Part:
    """Peak memory of a process against the width and the number of rows."""
    table, bars = [], {"client": [], "server": []}
    for shape, factor in ((KILOBYTE, 0.25), (KILOBYTE, 1), (NARROW, 5 / 3), (HUGE, 0.1), (HUGE, 0.4)):
        count = max(2, int(bench.options.rows * shape.share * factor))
        migrated, verified = bench.confiture(bench.source(shape, count), shape, MIGRATE, VERIFY, sample=True)
        for name, peak in (("migrate --jobs 2", migrated), ("verify --jobs 2", verified)):
            table.append((f"{count:,} of {shape.name}", name, f"{peak.client:,.0f}", f"{peak.server:,.0f}"))
        bars["client"].append((f"{count:,} of {shape.name}", max(migrated.client, verified.client)))
        bars["server"].append((f"{count:,} of {shape.name}", max(migrated.server, verified.server)))
    head = ("rows", "command", "largest client process, MB", "largest server process without shared memory, MB")
    return Part("peak memory, sampled every 50 ms", head, table, Series("rows", "MB", bars, bars=True))


def verify(bench: Bench) -> Part:
    """Seconds of a verification of every row against the copy."""
    table, bars = [], {"migrate": [], "verify": []}
    for shape in (NINE, NARROW, WIDE):
        count = max(2, int(bench.options.rows * shape.share))
        source = bench.source(shape, count)
        took = [bench.confiture(source, shape, MIGRATE, VERIFY) for _ in bench.rounds]
        copied, compared = ([peaks[n].seconds for peaks in took] for n in (0, 1))
        for name, seconds in (("migrate", copied), ("verify", compared)):
            bars[name].append((shape.name, count / statistics.median(seconds)))
        each = (f"{statistics.median(copied):.2f}", f"{statistics.median(compared):.2f}")
        table.append((f"{count:,} of {shape.name}", *each, _ratio(compared, copied)))
        bench.report.say(f"  {shape.name}: {each}")
    head = ("rows", "migrate --jobs 2, s", "verify --jobs 2, s", "verify / migrate")
    return Part("every row is compared", head, table, Series("rows", "rows/s", bars, bars=True))


def strategy(bench: Bench) -> Part:
    """COPY against FDW, and against one INSERT ... SELECT from a foreign table with the best fetch_size."""
    table, bars = [], {"copy": [], "fdw": [], "fdw, 2 jobs": [], "INSERT ... SELECT": []}
    for shape in (NARROW, NINE, WIDE):
        count = max(2, int(bench.options.rows * shape.share))
        source = bench.source(shape, count)
        by_hand = {size: _insert_select(bench, source, shape, size) for size in (100, 1000, 5000, 20_000)}
        best = min(by_hand, key=lambda size: by_hand[size])
        labels = {
            "copy": "migrate --jobs 1 --strategy copy",
            "fdw": "migrate --jobs 1 --strategy fdw",
            "fdw, 2 jobs": "migrate --jobs 2 --strategy fdw",
            "INSERT ... SELECT": f"INSERT ... SELECT, fetch_size {best}",
        }
        ways: dict[str, Callable[[], float]] = {
            name: partial(_migrated, bench, source, shape, label) for name, label in labels.items()
        }
        ways["INSERT ... SELECT"] = partial(_insert_select, bench, source, shape, best)
        took = _alternating(bench, ways)
        for name, seconds in took.items():
            against = _ratio(took["copy"], seconds)
            table.append((f"{count:,} of {shape.name}", labels[name], f"{statistics.median(seconds):.2f}", against))
            bars[name].append((shape.name, count / statistics.median(seconds)))
    head = ("rows", "way", "seconds", "rate, copy = 1")
    return Part("with the index of the key", head, table, Series("rows", "rows/s", bars, bars=True))


def _migrated(bench: Bench, source: str, shape: Shape, command: str) -> float:
    return bench.confiture(source, shape, tuple(command.split()))[0].seconds


def _insert_select(bench: Bench, source: str, shape: Shape, fetch: int) -> float:
    target = bench.target()
    at = psycopg.conninfo.conninfo_to_dict(source)
    ddl = (
        "CREATE EXTENSION postgres_fdw",
        f"CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{at['host']}', port '{at['port']}',"
        f" dbname '{at['dbname']}', fetch_size '{fetch}')",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (user 'postgres', password 'postgres')",
        f"CREATE FOREIGN TABLE f ({shape.columns}) SERVER s OPTIONS (table_name 't1')",
        f"CREATE TABLE t1 ({shape.new})",
    )
    for statement in ddl:
        harness.execute(target, statement)
    with harness.timed() as took:
        harness.execute(target, f"INSERT INTO t1 SELECT {shape.select} FROM f")
        harness.execute(target, "ALTER TABLE t1 ADD PRIMARY KEY (id)")
    bench.drop(target, source)
    return took[0]


#: Tables of the comparison with other tools.
TABLES = 4


def rivals(bench: Bench) -> Part:
    """A whole copy of several tables against pgcopydb and pg_dump into pg_restore."""
    shape = Shape(NINE.name, NINE.columns, NINE.values)
    count = bench.options.rows // TABLES
    source = bench.source(shape, count, TABLES)
    ways: dict[str, Callable[[], float]] = {
        "migrate --jobs 2": lambda: bench.confiture(source, shape, MIGRATE, tables=TABLES)[0].seconds,
        "migrate and verify, --jobs 2": lambda: sum(
            p.seconds for p in bench.confiture(source, shape, MIGRATE, VERIFY, tables=TABLES)
        ),
    }
    skipped = []
    for name, command in _tools(bench, source).items():
        if isinstance(command, str):
            skipped.append((name, f"skipped: {command}", ""))
            bench.report.say(f"{name} is skipped: {command}")
        else:
            ways[name] = command
    took = _alternating(bench, ways)
    first = took["migrate --jobs 2"]
    table = [(name, f"{statistics.median(s):.2f}", _ratio(s, first)) for name, s in took.items()]
    bars = {name: [("seconds", statistics.median(s))] for name, s in took.items()}
    title = f"{TABLES} tables of {count:,} rows of {shape.name}, keys only"
    head = ("way", "seconds", "seconds, migrate = 1")
    return Part(title, head, [*table, *skipped], Series("", "seconds", bars, bars=True))


def _tools(bench: Bench, source: str) -> dict[str, Callable[[], float] | str]:
    """Each tool as a call, or the reason why it is skipped."""
    bindir = bench.pair.new.bindir
    path = {"PATH": f"{bindir}:{os.environ['PATH']}"}

    def dumped() -> float:
        target = bench.target()
        seconds = executed(f"pg_dump -Fc -Z0 -d '{source}' | pg_restore -d '{target}'", path)
        bench.drop(target, source)
        return seconds

    def cloned() -> float:
        target = bench.target()
        with harness.folder() as state:
            seconds = executed(
                f"pgcopydb clone --source '{source}' --target '{target}' --table-jobs 2 --index-jobs 2 --dir {state}",
                path,
            )
        bench.drop(target, source)
        return seconds

    return {
        "pg_dump into pg_restore": dumped if (bindir / "pg_dump").exists() else "it is not installed",
        "pgcopydb clone, 2 jobs": cloned if shutil.which("pgcopydb") else "it is not installed",
    }


PARTS = {f.__name__: f for f in (jobs, growth, memory, verify, strategy, rivals)}


def main() -> None:
    """Measure the parts that are named, or all."""
    parser = harness.arguments(__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without one")
    parser.add_argument("--rows", type=int, default=4_000_000, help="rows of the table of nine columns")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way")
    parser.add_argument("--bindir", type=Path, help="a folder of other server binaries, run as user postgres")
    parser.add_argument("--on-disk", action="store_true", help="keep the files of the servers on a disk")
    parser.add_argument("--print-only", action="store_true", help="do not replace the tables and plots of the docs")
    parser.add_argument("--docs", type=Path, default=published.DOCS, help="the folder to write to")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    report = harness.Report("speed", options.json)
    for name in options.parts or PARTS:
        with harness.servers(on_disk=options.on_disk, bindir=options.bindir) as pair:
            part = PARTS[name](Bench(pair, options, report))
            where = harness.described(pair, on_disk=options.on_disk)
        command = " ".join(["python benchmarks/speed.py", name, *_given(options)])
        print(published.table(part, where, command), flush=True)
        if not options.print_only:
            published.write(options.docs, name, part, where, command)


def _given(options: Namespace) -> list[str]:
    """The options that change what is measured."""
    other = "--bindir $(pg_config --bindir)" if options.bindir else ""
    disk = "--on-disk" if options.on_disk else ""
    return [word for word in (f"--rows {options.rows} --rounds {options.rounds}", other, disk) if word]


if __name__ == "__main__":
    sys.exit(main())
