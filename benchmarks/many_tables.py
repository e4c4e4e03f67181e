"""The time of each step of a run with many small tables.

Each table has 50 rows, a primary key, four more indexes and, except the first, a foreign key to the table before it.
The application may write during the run, so that changes are captured. For ``status``, the journal has 200 more chunks
of each table.
"""

from __future__ import annotations

from collections.abc import Callable

import harness

ROWS = 50
CHUNKS = 200
#: Chunks of every table, after those of the copy.
_MORE_CHUNKS = f"""
INSERT INTO confiture.chunk (run_id, table_number, number, status, rows, seconds, epoch, done_at)
SELECT t.run_id, t.number, 1000000 + n, 'done', 0, 1, 1, clock_timestamp() - n * interval '1 s'
FROM confiture.table_plan t, generate_series(1, {CHUNKS}) n;
ANALYZE confiture.chunk;
"""


def schema(tables: int) -> str:
    """The schema of the database."""
    created = [
        f"CREATE TABLE t{n} (id bigint PRIMARY KEY, parent bigint, note text, a int, b int);\n"
        f"CREATE INDEX ON t{n} (parent);\nCREATE INDEX ON t{n} (note);\n"
        f"CREATE INDEX ON t{n} (a);\nCREATE INDEX ON t{n} (b);\n"
        for n in range(1, tables + 1)
    ]
    keys = [f"ALTER TABLE t{n} ADD FOREIGN KEY (parent) REFERENCES t{n - 1};\n" for n in range(2, tables + 1)]
    return "".join((*created, *keys))


def rows(tables: int) -> str:
    """The statements that fill the tables."""
    fill = "INSERT INTO t{} SELECT n, {}, 'note ' || n FROM generate_series(1, {}) n;\n"
    return "".join(fill.format(n, "NULL" if n == 1 else "n", ROWS) for n in range(1, tables + 1))


def main() -> None:
    """Print the seconds of each step."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--no-capture", action="store_true", help="the application is stopped")
    chosen = parser.parse_args()
    report = harness.Report("many_tables", chosen.json)
    total = 0.0
    with harness.servers() as pair:
        new = schema(chosen.tables)
        run = harness.Run(pair, pair.source(new + rows(chosen.tables)), new, capture=not chosen.no_capture)
        steps: tuple[tuple[str, Callable[[], object]], ...] = (
            ("plan", run.plan),
            ("setup", run.setup),
            ("migrate", run.migrate),
            ("verify", run.verify),
            ("status", run.status),
            ("cutover", run.cutover),
        )
        for name, step in steps:
            if name == "status":
                harness.execute(run.target, _MORE_CHUNKS)
            with harness.timed() as seconds:
                step()
            total += sum(seconds) if name != "plan" else 0.0
            report.add(name, sum(seconds), "s", f"{chosen.tables:,} tables of {ROWS} rows")
            if name == "verify":
                report.add("setup to verify", total, "s", f"{chosen.tables:,} tables of {ROWS} rows")
    report.close()


if __name__ == "__main__":
    main()
