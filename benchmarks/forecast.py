"""The forecast of the plan compared with what the run then takes: ratios, where 1 is exact and 2 twice as much.

Each shape of table is filled, planned with a sample, and moved without capture. The seconds are those of the commands,
without their start-up; the bytes are those of the target's files.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import harness
from confiture.commands import forecast
from confiture.commands.plan import make
from speed import NARROW, NINE, WIDE, Bench, Shape

#: The shapes, with the indexes of the target beside the key.
SHAPES: tuple[tuple[Shape, str], ...] = (
    (NARROW, ""),
    (NINE, "CREATE INDEX ON t1 (a); CREATE INDEX ON t1 (e); CREATE INDEX ON t1 (c, d);"),
    (WIDE, ""),
    (replace(NARROW, name="40 bytes without a key", share=1.0), "keyless"),
)


def measure(bench: Bench, shape: Shape, indexes: str) -> dict[str, tuple[float, float]]:
    """The forecast and the actual value, by name: seconds, and bytes of the target."""
    source = bench.source(shape, int(bench.options.rows * shape.share))
    key = ", PRIMARY KEY (id)"
    if indexes == "keyless":
        harness.execute(source, "ALTER TABLE t1 DROP CONSTRAINT t1_pkey")
        key, indexes = "", ""
    mapping = f't1: {{{shape.cast}: {{source_column: {shape.cast}, transform: "{shape.cast}::jsonb"}}}}'
    new = f"CREATE TABLE t1 ({shape.new}{key}); {indexes}"
    with harness.Run(bench.pair, source, new, mapping if shape.cast else "", capture=False) as run:
        expected = forecast.of(run.where, make(run.where, run.choices), run.choices)
        assert expected is not None
        run.setup()
        with harness.timed() as migrated:
            run.migrate()
        with harness.timed() as verified:
            run.verify()
        sizes = _sizes(run)
    return {
        "copy and indexes, s": (expected.copy.seconds + expected.indexes.seconds, migrated[0]),
        "verification, s": (expected.verification.seconds, verified[0]),
        "rows, MB": (expected.target_disk.rows.bytes / 1e6, sizes[0] / 1e6),
        "indexes, MB": (expected.target_disk.indexes.bytes / 1e6, sizes[1] / 1e6),
    }


def _sizes(run: harness.Run) -> tuple[int, int]:
    """Bytes of the target's rows and indexes."""
    found = harness.rows(run.target, "SELECT pg_table_size('t1')::bigint, pg_indexes_size('t1')::bigint")[0]
    return int(found[0]), int(found[1])


def main() -> None:
    """Measure each shape."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the table of nine columns")
    parser.add_argument("--on-disk", action="store_true", help="keep the files of the servers on a disk")
    options = parser.parse_args()
    report = harness.Report("forecast", options.json)
    with harness.servers(on_disk=options.on_disk) as pair:
        for shape, indexes in SHAPES:
            for name, (expected, actual) in measure(Bench(pair, options, report), shape, indexes).items():
                ratio = expected / actual if actual else 1.0
                what = f"{shape.name}: {name}: forecast {expected:,.2f}, actual {actual:,.2f}"
                report.add(f"{shape.name}: {name.partition(',')[0]}", ratio, "of actual", what)
        report.say(harness.described(pair, on_disk=options.on_disk))
    report.close()


if __name__ == "__main__":
    sys.exit(main())
