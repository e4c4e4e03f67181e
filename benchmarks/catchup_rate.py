"""Keys per second that catch-up applies for a backlog of single-row and bulk changes.

Every row is copied first. Then rows change while ``follow`` is not running. Then one ``follow --once`` is timed.
"""

from __future__ import annotations

import harness

OLD = """
CREATE TABLE item (id bigint PRIMARY KEY, owner int NOT NULL, amount int NOT NULL, note text, at timestamptz);
INSERT INTO item SELECT n, n % 100, n, 'note ' || n, '2024-01-01'::timestamptz + n * interval '1 s'
    FROM generate_series(1, {rows}) n;
ANALYZE item;
"""
NEW = """
CREATE TABLE item (id bigint PRIMARY KEY, owner_id bigint NOT NULL, amount numeric(20, 2) NOT NULL, note text,
    at timestamptz);
"""
MAPPING = "item:\n  owner: owner_id\n"

#: The statements that create the backlog.
KINDS = {
    "bulk": "UPDATE item SET amount = amount + 1 WHERE id <= {changed}",
    "single rows": "DO $$ BEGIN FOR n IN 1..{changed} LOOP"
    " UPDATE item SET amount = amount + 1 WHERE id = 1 + (n::bigint * 48271) % {rows}; END LOOP; END $$",
    "inserts and deletes": "DELETE FROM item WHERE id <= {changed} / 2;"
    " INSERT INTO item SELECT {rows} + n, 1, 1, 'new', now() FROM generate_series(1, {changed} / 2) n",
}


def main() -> None:
    """Print the rate of every kind of backlog."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=800_000, help="in the table")
    parser.add_argument("--changed", type=int, default=400_000, help="rows in the backlog")
    parser.add_argument("--repeat", type=int, default=2)
    chosen = parser.parse_args()
    report = harness.Report("catchup_rate", chosen.json)
    sizes = {"rows": chosen.rows, "changed": chosen.changed}
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with harness.servers() as pair:
        run = harness.Run(pair, pair.source(OLD.format(**sizes)), NEW, MAPPING)
        run.setup()
        run.migrate()
        for _ in range(chosen.repeat):
            for kind in ("bulk", "single rows"):
                harness.execute(run.source, KINDS[kind].format(**sizes))
                rates[kind].append(rate(run))
                report.say(f"{kind}: {rates[kind][-1]:,.0f} keys/s")
        kind = "inserts and deletes"
        harness.execute(run.source, KINDS[kind].format(**sizes))
        rates[kind].append(rate(run))
        run.verify()
    for kind, values in rates.items():
        report.spread(f"{kind}:", values, "keys/s", f"distinct changed keys of a backlog of {chosen.changed:,}")
    report.close()


def rate(run: harness.Run) -> float:
    """Apply the whole log; distinct changed keys per second."""
    schema = run.schema
    keys = harness.rows(run.source, f"SELECT count(DISTINCT k1) FROM {schema}.log0001")[0][0]
    with harness.timed() as took:
        run.follow()
    return float(keys / took[0])


if __name__ == "__main__":
    main()
