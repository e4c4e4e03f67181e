"""The time of one fingerprint check, which looks for changed tables, in a database of a thousand tables.

A cutover makes this check under its lock, and every pass makes it too.
"""

from __future__ import annotations

import psycopg

import harness
from confiture import fingerprint

SCHEMA = "confiture_00000000"
TABLES = """
CREATE SCHEMA confiture_00000000;
CREATE FUNCTION confiture_00000000.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
DO $$ BEGIN FOR i IN 1..{} LOOP
    EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, a text NOT NULL, b int, c numeric(10,2), d timestamptz,'
        ' e jsonb, f boolean, g text, h uuid, p int)', i);
    EXECUTE format('CREATE INDEX ON t%s (a)', i);
    EXECUTE format('CREATE VIEW confiture_00000000.v%s AS SELECT * FROM t%s', i, i);
    FOR j IN 1..5 LOOP
        EXECUTE format('CREATE TRIGGER zz_%s AFTER UPDATE ON t%s FOR EACH STATEMENT'
            ' EXECUTE FUNCTION confiture_00000000.f()', j, i);
    END LOOP;
END LOOP; END $$;
"""


def main() -> None:
    """Print the times."""
    parser = harness.arguments(__doc__)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--times", type=int, default=20)
    chosen = parser.parse_args()
    report = harness.Report("fingerprint", chosen.json)
    took: list[float] = []
    with harness.servers() as pair:
        conninfo = pair.source(TABLES.format(chosen.tables))
        harness.execute(conninfo, "VACUUM ANALYZE")
        roots = [r[0] for r in harness.rows(conninfo, "SELECT oid::bigint FROM pg_class WHERE relname ~ '^t[0-9]+$'")]
        query = fingerprint.facts_query((*fingerprint.CAPTURED, *fingerprint.DATABASE)).encode()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("SET search_path = pg_catalog; SET jit = off")
            for _ in range(chosen.times):
                with harness.timed() as seconds:
                    connection.execute(query, {"roots": roots, "schema": SCHEMA}).fetchall()
                took += [1000 * s for s in seconds]
    report.spread("fingerprint", took, "ms", f"one check of {chosen.tables:,} tables")
    report.close()


if __name__ == "__main__":
    main()
