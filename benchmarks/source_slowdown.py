"""What capture costs the application: pgbench's single-row updates and 10,000-row statements, with and without it.

Runs alternate, so that what else the machine does falls on both alike; each ratio is of neighbours.
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

#: As pgbench's accounts are.
NEW = "CREATE TABLE item (id int PRIMARY KEY, branch int, amount int NOT NULL, note char(84));"
OLD = f"{NEW} INSERT INTO item SELECT n, 1, n, '' FROM generate_series(1, 200000) n; ANALYZE item;"
SINGLE = "\\set id random(1, 200000)\nUPDATE item SET amount = amount + 1 WHERE id = :id;\n"
STATEMENT_ROWS = 10_000
STATEMENTS = 8


def single_rows(pgbench: Path, conninfo: str, seconds: int) -> float:
    """Transactions a second of one-row updates, from two clients."""
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
    """Seconds of updates of 10,000 rows each, by turns on one database and on the other."""
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


def slower(plain: list[float], captured: list[float]) -> float:
    """By how many percent fewer rows a second go through, by the median times."""
    return 100 * (1 - statistics.median(plain) / statistics.median(captured))


def main() -> None:
    """Print the slowdown of both, in percent."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="alternating pairs of runs")
    parser.add_argument("--in-memory", action="store_true", help="no disk to wait for: the worst case")
    parser.add_argument("--seconds", type=int, default=2, help="of each pgbench run")
    chosen = parser.parse_args()
    report = harness.Report("source_slowdown", chosen.json)
    pgbench = books.find_pgbench()
    if pgbench is None:
        raise SystemExit("pgbench is not installed")
    single: list[float] = []
    bulk: list[float] = []
    rates: dict[str, list[float]] = {"plain": [], "captured": []}
    times: dict[str, list[float]] = {"plain": [], "captured": []}
    with harness.servers(on_disk=not chosen.in_memory) as pair:
        ends = {"plain": pair.source(OLD)}
        ends["captured"] = pair.source(OLD)
        run = harness.Run(pair, ends["captured"], NEW)
        run.setup()
        for conninfo in ends.values():
            single_rows(pgbench, conninfo, 1)
        statements(ends)
        for n in range(chosen.rounds):
            # Who goes first changes from pair to pair.
            order = list(ends) if n % 2 else list(ends)[::-1]
            tps = {name: single_rows(pgbench, ends[name], chosen.seconds) for name in order}
            seconds = statements({name: ends[name] for name in order})
            single.append(100 * (1 - tps["captured"] / tps["plain"]))
            bulk.append(slower(seconds["plain"], seconds["captured"]))
            for name in ends:
                rates[name].append(tps[name])
                times[name] += seconds[name]
                harness.execute(ends[name], "VACUUM item")
            harness.execute(ends["captured"], f"TRUNCATE {run.schema}.log0001")
            report.say(f"pair {n + 1}: single rows {single[-1]:.1f} %, statements {bulk[-1]:.1f} %")
    whole = 100 * (1 - statistics.median(rates["captured"]) / statistics.median(rates["plain"]))
    report.add("single rows", whole, "%", "slower with capture, by the medians of all runs")
    report.add(
        "10,000 rows", slower(times["plain"], times["captured"]), "%", "slower, by the medians of all statements"
    )
    report.spread("single rows:", single, "%", "fewer one-row updates a second with capture than without")
    report.spread("10,000 rows:", bulk, "%", "fewer rows a second in statements of 10,000 with capture")
    report.spread("plain", rates["plain"], "tps", "one-row updates a second without capture, two clients")
    report.spread("captured", rates["captured"], "tps", "one-row updates a second with capture, two clients")
    report.close()


if __name__ == "__main__":
    main()
