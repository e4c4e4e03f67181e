"""The size of the log compared with the number of distinct changed keys, while a table is copied.

A few hot rows change repeatedly while chunks are copied. The log is counted between chunks.
"""

from __future__ import annotations

import threading
import time

import psycopg

import harness

OLD = """
CREATE TABLE item (id bigint PRIMARY KEY, amount int NOT NULL, note text);
INSERT INTO item SELECT n, n, repeat('x', 80) FROM generate_series(1, {rows}) n;
ANALYZE item;
"""
NEW = "CREATE TABLE item (id bigint PRIMARY KEY, amount int NOT NULL, note text);"


class Writer(threading.Thread):
    """Updates the same rows repeatedly, many in each statement."""

    def __init__(self, conninfo: str, hot: int) -> None:
        super().__init__(daemon=True)
        self.conninfo, self.hot = conninfo, hot
        self.ending = threading.Event()
        self.changed = 0

    def run(self) -> None:
        """Write until stopped."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            while not self.ending.wait(0.02):
                done = connection.execute("UPDATE item SET amount = amount + 1 WHERE id <= %s", (self.hot,))
                self.changed += done.rowcount


class Watch(harness.Quiet):
    """Counts the rows of the log between chunks."""

    def __init__(self, conninfo: str) -> None:
        self.connection = psycopg.connect(conninfo, autocommit=True)
        self.seen: list[tuple[int, int]] = []
        self.query = b""

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        """Count the log rows and their distinct keys."""
        row = self.connection.execute(self.query).fetchone()
        assert row is not None
        self.seen.append((row[0], row[1]))


def main() -> None:
    """Print the size of the log and the number of distinct keys."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--hot", type=int, default=200, help="rows that change repeatedly")
    chosen = parser.parse_args()
    report = harness.Report("log_size", chosen.json)
    with harness.servers() as pair:
        run = harness.Run(pair, pair.source(OLD.format(rows=chosen.rows)), NEW, chunk_rows=5_000)
        run.setup()
        watch = Watch(run.source)
        watch.query = f"SELECT count(*), count(DISTINCT k1) FROM {run.schema}.log0001".encode()
        run.progress = watch
        writer = Writer(run.source, chosen.hot)
        writer.start()
        began = time.monotonic()
        run.migrate()
        seconds = time.monotonic() - began
        writer.ending.set()
        writer.join()
        run.follow()
        run.verify()
    rows = [n for n, _ in watch.seen]
    report.add("seconds", seconds, "s", f"to copy {chosen.rows:,} rows and catch up")
    report.add("changes", writer.changed, "rows", "changed during the copy, each logged once")
    report.add("distinct keys", max(n for _, n in watch.seen), "keys", "changed during the copy, at most")
    report.spread("log", rows, "rows", "in the log, counted between chunks")
    report.add(
        "log / keys",
        max(rows) / max(1, max(n for _, n in watch.seen)),
        "times",
        "largest log divided by the distinct keys",
    )
    report.close()


if __name__ == "__main__":
    main()
