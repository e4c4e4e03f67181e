"""The cost of each masking rule: nanoseconds per row that the source needs more than for the column itself.

    python benchmarks/masking.py [--rows 1000000] [--rounds 3]

Counting the masked values alternates with counting the column. The lowest of each are compared, since other work on the
machine only adds to them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import psycopg
from psycopg import sql

import harness
from confiture import catalog
from confiture.config import resolve
from confiture.masking import key, mask_file
from confiture.masking.assignment import assigned
from confiture.masking.model import Mask
from confiture.postgres.profile import profile_sql
from confiture.postgres.session import Session

TABLE = """
CREATE TABLE person (id int, number bigint, email text, phone text, mobile text, name text, street text, zip text,
                     born date, seen timestamptz, salary numeric(12, 2), code uuid, note text, ip inet, token text);
INSERT INTO person
SELECT n, n, 'user' || n || '@corp.example', '+49 30 ' || 1000000 + n, '+49170' || 1000000 + n, 'First Last' || n,
       n || ' Some Street', 10000 + n % 90000, '1970-01-01'::date + n % 15000, now() + n * interval '1 s', n * 1.37,
       md5(n::text)::uuid, 'Some words about the number ' || n, '10.0.0.0'::inet + n, 'token ' || n
FROM generate_series(1, {rows}) n;
VACUUM ANALYZE person;
"""
#: The file of each round; a column has several rules in turn.
MASKS = (
    "id: hash, number: hash, email: email, phone: phone, mobile: phone, name: name, street: address, token: hash",
    "zip: {rule: address, part: postcode}, born: date shift, seen: date shift, salary: number noise, code: uuid",
    "note: text, ip: hash, name: {rule: name, part: first}, email: uuid, id: number noise",
)


def main() -> None:
    """Measure every rule and print the figures."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    report = harness.Report("masking", options.json)
    with harness.servers() as pair:
        conninfo = pair.old.conninfo()
        for statement in TABLE.format(rows=options.rows).split(";\n"):
            harness.execute(conninfo, statement)
        masks = [mask for text in MASKS for mask in _masks(conninfo, text)]
        with psycopg.connect(conninfo) as connection:
            _prepare(connection)
            took = _measured(connection, masks, options.rounds)
    for mask in masks:
        name = f"{mask.column} {mask.rule}"
        extra = (min(took[mask.expression]) - min(took[mask.column])) / options.rows * 1e9
        report.add(name, extra, "ns", "per row, more than the column itself")
    report.close()


def _masks(conninfo: str, text: str) -> tuple[Mask, ...]:
    with Session(resolve(conninfo, Path.cwd()), "benchmark") as session, session.transaction() as tx:
        found = catalog.read(tx)
    masks, faults = assigned(found, found, mask_file.parse(f"person: {{{text}}}", "benchmark")[0])
    assert not faults, faults
    return masks.masks


def _prepare(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute(profile_sql(None, "", "30s"))
    connection.execute("SET max_parallel_workers_per_gather = 0")
    for name, value in key.settings(b"the key of a benchmark").items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def _measured(
    connection: psycopg.Connection[tuple[object, ...]], masks: list[Mask], rounds: int
) -> dict[str, list[float]]:
    took: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for mask in masks:
            for expression in (mask.column, mask.expression):
                start = time.perf_counter()
                connection.execute(sql.SQL("SELECT count({}) FROM public.person").format(sql.SQL(expression)))
                took[expression].append(time.perf_counter() - start)
    return took


if __name__ == "__main__":
    main()
