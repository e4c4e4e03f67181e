"""pgbench and writers of our own through a whole run, migrate killed by SIGKILL every few seconds: nothing is lost.

The long form of ``tests/acceptance/test_books_balance.py``: kills fall wherever they fall.
"""

from __future__ import annotations

import subprocess
import sys
import time

import books
import harness


def killed_migrate(run: harness.Run, seconds: float) -> bool:
    """Start migrate and kill it after a while; whether it ended by itself before."""
    command = [sys.executable, "-m", "confiture", "migrate", "schema-to-schema", "migrate", "--target", run.target]
    process = subprocess.Popen(
        command, cwd=run.project, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    if process.returncode:
        raise SystemExit(f"migrate failed with {process.returncode}:\n{errors}")
    return True


def main() -> None:
    """Print what was written, and whether the books balance; exit 1 where they do not."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--scale", type=int, default=10, help="of pgbench: 100,000 accounts each")
    parser.add_argument("--rate", type=int, default=300, help="pgbench transactions a second; 0 for as many as go")
    parser.add_argument("--every", type=float, default=2.0, help="seconds from a start of migrate to its SIGKILL")
    parser.add_argument("--kills", type=int, default=8, help="at most; after them migrate is left alone")
    chosen = parser.parse_args()
    report = harness.Report("nothing_lost", chosen.json)
    pgbench = books.find_pgbench()
    if pgbench is None:
        raise SystemExit("pgbench is not installed")
    with harness.servers() as pair:
        source = pair.source("")
        books.prepare(pgbench, source, chosen.scale)
        run = harness.Run(pair, source, books.NEW, books.MAPPING, chunk_rows=5_000)
        bank = books.Pgbench(pgbench, source, rate=chosen.rate or None)
        shops = [books.Shop(source, seed, pause=0.003) for seed in (1, 2)]
        for shop in shops:
            shop.start()
        began = time.monotonic()
        run.setup()
        kills = 0
        while kills < chosen.kills and not killed_migrate(run, chosen.every):
            kills += 1
            report.say(f"killed {kills} times")
        run.migrate()
        run.verify()
        run.cutover()
        processed = bank.ended()
        for shop in shops:
            shop.join()
        seconds = time.monotonic() - began
        found = books.audit(lambda query: harness.rows(run.target, query), shops, processed)
    report.add("seconds", seconds, "s", "of writing, from before the setup to behind the cutover")
    report.add("kills", kills, "", "of migrate by SIGKILL")
    report.add("transactions", processed, "", "acknowledged to pgbench's four clients")
    report.add("history", found.entries, "rows", "of pgbench's history in the new database")
    report.add("own writes", sum(s.writes for s in shops), "", "acknowledged to writers of our own")
    report.add("lost", len(found.lost), "", "acknowledged writes that are not in the new database as they were")
    report.add(
        "out of balance", len(set(found.sums)) - 1, "", "other sums than one of accounts, tellers, branches, history"
    )
    report.close()
    if not found.balanced:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
