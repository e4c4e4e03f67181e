"""What capture costs the application: pgbench's single-row updates and 10,000-row statements, with and without it.

Runs alternate, so that what else the machine does falls on both alike; each ratio is of neighbours.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
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


def statements(conninfo: str) -> float:
    """Rows a second of updates of 10,000 rows each."""
    with psycopg.connect(conninfo, autocommit=True) as connection, harness.timed() as took:
        for n in range(STATEMENTS):
            first = n * STATEMENT_ROWS % 200_000
            connection.execute(
                "UPDATE item SET amount = amount + 1 WHERE id > %s AND id <= %s", (first, first + STATEMENT_ROWS)
            )
    return STATEMENTS * STATEMENT_ROWS / took[0]


def main() -> None:
    """Print the slowdown of both, in percent."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="alternating pairs of runs")
    parser.add_argument("--in-memory", action="store_true", help="no disk to wait for: the worst case")
    parser.add_argument("--seconds", type=int, default=4, help="of each pgbench run")
    chosen = parser.parse_args()
    report = harness.Report("source_slowdown", chosen.json)
    pgbench = books.find_pgbench()
    if pgbench is None:
        raise SystemExit("pgbench is not installed")
    single: list[float] = []
    bulk: list[float] = []
    rates: dict[str, list[float]] = {"plain": [], "captured": []}
    with harness.servers(on_disk=not chosen.in_memory) as pair:
        ends = {"plain": pair.source(OLD)}
        ends["captured"] = pair.source(OLD)
        run = harness.Run(pair, ends["captured"], NEW)
        run.setup()
        for conninfo in ends.values():
            single_rows(pgbench, conninfo, 1)
            statements(conninfo)
        for n in range(chosen.rounds):
            # Who goes first changes from pair to pair.
            order = list(ends) if n % 2 else list(ends)[::-1]
            tps = {name: single_rows(pgbench, ends[name], chosen.seconds) for name in order}
            rows = {name: statements(ends[name]) for name in order}
            single.append(100 * (1 - tps["captured"] / tps["plain"]))
            bulk.append(100 * (1 - rows["captured"] / rows["plain"]))
            for name in ends:
                rates[name].append(tps[name])
                harness.execute(ends[name], "VACUUM item")
            harness.execute(ends["captured"], f"TRUNCATE {run.schema}.log0001")
            report.say(f"pair {n + 1}: single rows {single[-1]:.1f} %, statements {bulk[-1]:.1f} %")
    report.spread("single rows:", single, "%", "fewer one-row updates a second with capture than without")
    report.spread("10,000 rows:", bulk, "%", "fewer rows a second in statements of 10,000 with capture")
    report.spread("plain", rates["plain"], "tps", "one-row updates a second without capture, two clients")
    report.spread("captured", rates["captured"], "tps", "one-row updates a second with capture, two clients")
    report.close()


if __name__ == "__main__":
    main()
