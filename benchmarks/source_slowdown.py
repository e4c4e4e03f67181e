"""The cost of capture for the application: single-row updates by pgbench and 10,000-row updates, with and without it.

With ``--write-block``, both databases have capture, and one of them also has the triggers of the write block, which
let writes pass from the preparation of a cutover until it closes the database.

Measurements alternate between the databases, so that other load on the machine affects both equally. Each ratio is
of two neighbouring measurements.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psycopg

import books
import harness
from confiture import config
from confiture.capture import write_block
from confiture.postgres.session import Session
from confiture.types import TableRef

#: Like the accounts of pgbench.
NEW = "CREATE TABLE item (id int PRIMARY KEY, branch int, amount int NOT NULL, note char(84));"
OLD = f"{NEW} INSERT INTO item SELECT n, 1, n, '' FROM generate_series(1, 200000) n; ANALYZE item;"
SINGLE = "\\set id random(1, 200000)\nUPDATE item SET amount = amount + 1 WHERE id = :id;\n"
STATEMENT_ROWS = 10_000
STATEMENTS = 8


def single_rows(pgbench: Path, conninfo: str, seconds: int) -> float:
    """Transactions per second of single-row updates from two clients."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(SINGLE)
        script.flush()
        done = subprocess.run(
            [pgbench, "-n", "-c", "2", "-j", "1", "-T", str(seconds), "-f", script.name, conninfo],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def statements(ends: dict[str, str]) -> dict[str, list[float]]:
    """Seconds of updates of 10,000 rows each, alternately on both databases."""
    took: dict[str, list[float]] = {name: [] for name in ends}
    with ExitStack() as stack:
        opened = {name: stack.enter_context(psycopg.connect(c, autocommit=True)) for name, c in ends.items()}
        for n in range(STATEMENTS):
            first = n * STATEMENT_ROWS % 200_000
            for name, connection in opened.items():
                with harness.timed() as seconds:
                    connection.execute(
                        "UPDATE item SET amount = amount + 1 WHERE id > %s AND id <= %s",
                        (first, first + STATEMENT_ROWS),
                    )
                took[name] += seconds
    return took


def slower(without: list[float], having: list[float]) -> float:
    """The slowdown in percent, computed from the median times."""
    return 100 * (1 - statistics.median(without) / statistics.median(having))


def captured(pair: harness.Pair, *, blocked: bool = False) -> harness.Run:
    """A run with capture on a database of its own.

    :param blocked: also install the triggers of the write block, which let writes pass.
    """
    run = harness.Run(pair, pair.source(OLD), NEW)
    run.setup()
    if blocked:
        with Session(config.resolve(run.source, run.project), "benchmark") as session, session.transaction() as tx:
            write_block.unblock(tx, run.schema)
            write_block.install(tx, run.schema, TableRef("public", "item"))
    return run


def main() -> None:
    """Print the slowdown of both kinds of updates, in percent."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="alternating pairs of runs")
    parser.add_argument("--in-memory", action="store_true", help="no disk to wait for: the worst case")
    parser.add_argument("--write-block", action="store_true", help="measure the write block in place of capture")
    parser.add_argument("--seconds", type=int, default=2, help="of each pgbench run")
    chosen = parser.parse_args()
    report = harness.Report("source_slowdown", chosen.json)
    pgbench = books.find_pgbench()
    if pgbench is None:
        raise SystemExit("pgbench is not installed")
    single: list[float] = []
    bulk: list[float] = []
    rates: dict[str, list[float]] = {"without": [], "with": []}
    times: dict[str, list[float]] = {"without": [], "with": []}
    what = "the write block" if chosen.write_block else "capture"
    with harness.servers(on_disk=not chosen.in_memory) as pair:
        runs = [captured(pair, blocked=chosen.write_block)]
        if chosen.write_block:
            runs.append(captured(pair))
        ends = {"with": runs[0].source, "without": runs[-1].source if chosen.write_block else pair.source(OLD)}
        for conninfo in ends.values():
            single_rows(pgbench, conninfo, 1)
        statements(ends)
        for n in range(chosen.rounds):
            # The order alternates between pairs.
            order = list(ends) if n % 2 else list(ends)[::-1]
            tps = {name: single_rows(pgbench, ends[name], chosen.seconds) for name in order}
            seconds = statements({name: ends[name] for name in order})
            single.append(100 * (1 - tps["with"] / tps["without"]))
            bulk.append(slower(seconds["without"], seconds["with"]))
            for name in ends:
                rates[name].append(tps[name])
                times[name] += seconds[name]
                harness.execute(ends[name], "VACUUM item")
            for run in runs:
                harness.execute(run.source, f"TRUNCATE {run.schema}.log0001")
            report.say(f"pair {n + 1}: single rows {single[-1]:.1f} %, statements {bulk[-1]:.1f} %")
    whole = 100 * (1 - statistics.median(rates["with"]) / statistics.median(rates["without"]))
    report.add("single rows", whole, "%", f"slower with {what}, by the medians of all runs")
    report.add("10,000 rows", slower(times["without"], times["with"]), "%", "slower, by the medians of all statements")
    report.spread("single rows:", single, "%", f"fewer one-row updates a second with {what} than without")
    report.spread("10,000 rows:", bulk, "%", f"fewer rows a second in statements of 10,000 with {what}")
    report.spread("without", rates["without"], "tps", f"one-row updates a second without {what}, two clients")
    report.spread("with", rates["with"], "tps", f"one-row updates a second with {what}, two clients")
    report.close()


if __name__ == "__main__":
    main()
