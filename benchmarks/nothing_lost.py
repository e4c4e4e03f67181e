"""pgbench and other writers write during a whole run while ``migrate`` is killed repeatedly: no write is lost.

This is the long form of ``tests/acceptance/test_books_balance.py``. SIGKILL hits ``migrate`` at any point.
"""

from __future__ import annotations

import subprocess
import sys
import time

import books
import harness


def killed_migrate(run: harness.Run, seconds: float) -> bool:
    """Start ``migrate`` and kill it after this many seconds; whether it ended by itself before."""
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
    """Print the number of writes and whether the books balance; exit with 1 if they do not."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--scale", type=int, default=10, help="scale factor of pgbench: 100,000 accounts each")
    parser.add_argument("--rate", type=int, default=300, help="transactions per second of pgbench; 0 for no limit")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between a start of migrate and its SIGKILL")
    parser.add_argument("--kills", type=int, default=8, help="most kills; after them migrate is not killed")
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
    report.add("seconds", seconds, "s", "of writing, from before the setup until after the cutover")
    report.add("kills", kills, "", "of migrate by SIGKILL")
    report.add("transactions", processed, "", "acknowledged to pgbench's four clients")
    report.add("history", found.entries, "rows", "of pgbench's history in the target")
    report.add("own writes", sum(s.writes for s in shops), "", "acknowledged to the shops")
    report.add("lost", len(found.lost), "", "acknowledged writes that are missing or differ in the target")
    report.add(
        "out of balance",
        len(set(found.sums)) - 1,
        "",
        "different sums of accounts, tellers, branches and history, minus one",
    )
    report.close()
    if not found.balanced:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
