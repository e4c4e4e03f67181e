"""The rate at which a sync copies rows, without masks and with five masked columns, against the copy of a migrate.

All ways copy the same table with the same number of jobs, in alternating runs. The rate is that of the copy alone,
from the begin of the first chunk to the end of the last one, as the journal has them: a sync also plans, looks for
personal columns, and proves that nothing leaks, which a migrate does not. The seconds of the whole commands are
printed too.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import harness

COLUMNS = (
    "id bigint PRIMARY KEY, email text, name text, phone text, token text, born date, a int, b numeric, c timestamptz,"
    " d boolean"
)
VALUES = (
    "n, 'user' || n || '@example.com', 'Ada ' || md5(n::text), '+41 44 ' || lpad((n % 10000000)::text, 7, '0'),"
    " md5(n::text), '1950-01-01'::date + n % 20000, n % 1000, n / 100.0, now(), n % 2 = 0"
)
#: The rule of each column that looks personal, when nothing is masked and when five columns are.
KEPT = {"email": "keep", "name": "keep", "phone": "keep", "token": "keep", "born": "keep"}
MASKED = {"email": "email", "name": "name", "phone": "phone", "token": "hash", "born": "{rule: date shift, days: 30}"}
HASHED = {"email": "hash", "name": "hash", "phone": "hash", "token": "hash", "born": "keep", "a": "hash"}
GOALS = {"sync": 0.9, "sync, five masked columns": 0.6, "sync, five hashed columns": 0.6}


@dataclass(frozen=True)
class Took:
    """The seconds of a copy, and of the whole command."""

    copy: float
    whole: float


def migrated(pair: harness.Pair, source: str, options: Namespace) -> Took:
    """Copy by ``migrate``, after a setup that is not measured."""
    new = f"CREATE TABLE person ({COLUMNS});"
    with harness.Run(pair, source, new, capture=False) as run:
        run.setup()
        whole = run.command("migrate", "--jobs", str(options.jobs), "--strategy", "copy").seconds
        return Took(copy_seconds(run.target), whole)


def synced(pair: harness.Pair, source: str, options: Namespace, rules: dict[str, str]) -> Took:
    """Copy by ``sync`` into a database with the table alone."""
    harness.execute(pair.new.conninfo(), "CREATE DATABASE synced")
    target = pair.new.conninfo("synced")
    harness.execute(target, f"CREATE TABLE person ({COLUMNS})")
    try:
        with tempfile.TemporaryDirectory() as folder:
            mask = Path(folder, "mask.yaml")
            mask.write_text("person:\n" + "".join(f"  {column}: {rule}\n" for column, rule in rules.items()))
            where = ("--from", source, "--to", target, "--project", folder, "--mask", str(mask))
            command = (sys.executable, "-m", "confiture", "sync", *where, "--jobs", str(options.jobs))
            whole = harness.peak_of(command, pair, sample=False).seconds
        return Took(copy_seconds(target), whole)
    finally:
        harness.execute(pair.new.conninfo(), "DROP DATABASE synced WITH (FORCE)")


def copy_seconds(target: str) -> float:
    """From the begin of the first chunk to the end of the last one."""
    query = "SELECT extract(epoch FROM max(done_at) - min(done_at - make_interval(secs => seconds)))"
    return float(harness.rows(target, f"{query} FROM confiture.chunk WHERE status = 'done'")[0][0])


def main() -> None:
    """Measure the ways in alternating runs."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table of ten columns")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each way")
    parser.add_argument("--jobs", type=int, default=2, help="chunks that are copied at the same time")
    options = parser.parse_args()
    os.environ.setdefault("CONFITURE_MASK_KEY", "a key of this benchmark")
    report = harness.Report("sync", options.json)
    with harness.servers() as pair:
        source = pair.source(f"CREATE TABLE person ({COLUMNS})")
        harness.execute(source, f"INSERT INTO person SELECT {VALUES} FROM generate_series(1, {options.rows}) n")
        harness.execute(source, "ANALYZE person")
        ways: dict[str, Callable[[], Took]] = {
            "migrate": partial(migrated, pair, source, options),
            "sync": partial(synced, pair, source, options, KEPT),
            "sync, five masked columns": partial(synced, pair, source, options, MASKED),
            "sync, five hashed columns": partial(synced, pair, source, options, HASHED),
        }
        took: dict[str, list[Took]] = {name: [] for name in ways}
        for n in range(options.rounds):
            for name, way in ways.items():
                took[name].append(way())
                report.say(
                    f"round {n + 1}: {name}: copy {took[name][-1].copy:.2f} s, whole {took[name][-1].whole:.2f} s"
                )
        for name, runs in took.items():
            rate = options.rows / statistics.median(t.copy for t in runs)
            report.add(f"{name}: rate", rate, "rows/s", "of the copy, median")
            report.add(
                f"{name}: command", statistics.median(t.whole for t in runs), "s", "of the whole command, median"
            )
        for name, goal in GOALS.items():
            ratios = [a.copy / b.copy for a, b in zip(took["migrate"], took[name], strict=True)]
            report.spread(f"{name}: ratio", ratios, "of migrate", f"rate of the copy, goal {goal}")
        report.say(harness.described(pair, on_disk=False))
    report.close()


if __name__ == "__main__":
    sys.exit(main())
