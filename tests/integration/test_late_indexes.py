"""Indexes are off while the rows of their tables are copied, and end as the target's DDL declares them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from confiture.copy import chunks
from confiture.errors import DataFailure
from confiture.schema_to_schema import large_objects
from live import LiveRun
from servers import Databases, TestDatabase

TABLES = """
CREATE TABLE plain (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text, b int);
COMMENT ON CONSTRAINT plain_pkey ON plain IS 'the key'; COMMENT ON INDEX plain_pkey IS 'its index';
CREATE INDEX plain_lower ON plain (lower(a), b); ALTER INDEX plain_lower ALTER COLUMN 1 SET STATISTICS 300;
COMMENT ON INDEX plain_lower IS 'of an expression';
CREATE INDEX plain_partial ON plain (b DESC NULLS LAST) WHERE b > 5;
CREATE TABLE filled (id bigint, v text, CONSTRAINT filled_key PRIMARY KEY (id) INCLUDE (v) WITH (fillfactor = 70));
CREATE TABLE clustered (id int PRIMARY KEY, v int UNIQUE); ALTER TABLE clustered CLUSTER ON clustered_pkey;
CREATE TABLE clustered_by_v (id int PRIMARY KEY, v int); CREATE INDEX by_v ON clustered_by_v (v);
ALTER TABLE clustered_by_v CLUSTER ON by_v;
CREATE TABLE identified (id int PRIMARY KEY, code int NOT NULL); CREATE UNIQUE INDEX by_code ON identified (code);
ALTER TABLE identified REPLICA IDENTITY USING INDEX by_code;
CREATE TABLE identified_by_key (id int PRIMARY KEY);
ALTER TABLE identified_by_key REPLICA IDENTITY USING INDEX identified_by_key_pkey;
CREATE TABLE late (id int PRIMARY KEY, u int UNIQUE DEFERRABLE, w int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE spaced (id int PRIMARY KEY USING INDEX TABLESPACE elsewhere, v int);
CREATE INDEX spaced_v ON spaced USING brin (v) WITH (pages_per_range = 32) TABLESPACE elsewhere;
CREATE TABLE nulls (id int PRIMARY KEY, v int, UNIQUE NULLS NOT DISTINCT (v));
CREATE TABLE excluded (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&));
CREATE TABLE parts (id int, d int, v text, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (200) PARTITION BY LIST (id);
CREATE TABLE parts_high_rest PARTITION OF parts_high DEFAULT;
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
CREATE INDEX parts_v ON parts (v); CREATE INDEX local_v ON parts_rest (v); ALTER TABLE parts_rest CLUSTER ON local_v;
COMMENT ON CONSTRAINT parts_pkey ON parts IS 'of the whole'; ALTER INDEX parts_low_pkey SET (fillfactor = 50);
CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES plain ON DELETE CASCADE, i int, d int,
    FOREIGN KEY (i, d) REFERENCES parts);
CREATE TABLE grouped (id int PRIMARY KEY, v text); CREATE VIEW by_key AS SELECT id, v FROM grouped GROUP BY id;
CREATE TABLE counted (id int PRIMARY KEY, v text);
CREATE MATERIALIZED VIEW counts AS SELECT id, v, count(*) FROM counted GROUP BY id;
CREATE TABLE compound (b text COLLATE "C", a int, PRIMARY KEY (a, b));
"""
NEWEST_TABLES = """
CREATE EXTENSION btree_gist;
CREATE TABLE temporal (id int, valid daterange, v int NOT NULL,
    PRIMARY KEY (id, valid WITHOUT OVERLAPS), UNIQUE (id, v));
CREATE TABLE named (id int CONSTRAINT named_not_null NOT NULL, PRIMARY KEY (id));
COMMENT ON CONSTRAINT named_not_null ON named IS 'a comment';
"""
ROWS = """
INSERT INTO plain OVERRIDING SYSTEM VALUE SELECT n, 'T' || n, n FROM generate_series(1, 30) n;
INSERT INTO filled SELECT n, 'v' || n FROM generate_series(1, 30) n;
INSERT INTO late SELECT n, n, n FROM generate_series(1, 30) n;
INSERT INTO identified SELECT n, 100 - n FROM generate_series(1, 30) n;
INSERT INTO parts SELECT n, n * 8, 'v' FROM generate_series(1, 30) n;
INSERT INTO child SELECT n, n, n, n * 8 FROM generate_series(1, 30) n;
INSERT INTO compound SELECT n, n FROM generate_series(1, 30) n;
INSERT INTO counted SELECT n, n FROM generate_series(1, 30) n;
"""
ON = """
SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1
"""


def dump(database: TestDatabase) -> list[str]:
    """The schema as pg_dump prints it."""
    command = [database.server.bindir / "pg_dump", "--schema-only", "--schema=public", "--dbname", database.conninfo]
    lines = subprocess.check_output(command, text=True).splitlines()
    return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))]


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
def test_schema_is_as_declared_after_a_run_without_indexes(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    with databases.make().connect() as admin:
        if not admin.execute("SELECT FROM pg_tablespace WHERE spcname = 'elsewhere'").fetchall():
            admin.execute("SET allow_in_place_tablespaces = on")
            admin.execute("CREATE TABLESPACE elsewhere LOCATION ''")
    ddl = TABLES + NEWEST_TABLES * (kind == "databases")
    live = LiveRun(databases, tmp_path, ddl + ROWS, ddl, chunk_rows=20)
    live.setup()
    # A view that groups by a key depends on it. Since PostgreSQL 18, a partition inherits the NOT NULL of its key.
    inherited = [
        ("parts_high_pkey",),
        ("parts_high_rest_pkey",),
        ("parts_low_pkey",),
        ("parts_pkey",),
        ("parts_rest_pkey",),
    ]
    stay = [("counted_pkey",), ("grouped_pkey",), *(inherited if kind == "databases" else [])]
    assert sorted(live.target.rows(ON)) == stay
    live.source.sql("UPDATE plain SET b = b + 1; UPDATE late SET u = 31 - u; DELETE FROM child WHERE id > 20")
    live.migrate()
    assert live.verify().equal
    live.cutover()
    live.cleanup()
    assert dump(live.target) == dump(databases.cloned(ddl))


def test_key_is_built_before_its_table_counts_as_copied(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveRun(databases, tmp_path, TWO + TWO_ROWS, TWO, chunk_rows=20)
    live.setup()
    found = []

    def synchronised(*_: object) -> None:
        found.append(live.target.rows(ON))

    # The steps after the copy of every table, before the first full drain.
    monkeypatch.setattr(large_objects, "synchronise", synchronised)
    live.migrate()
    assert found == [[("t_pkey",), ("u_pkey",)]]
    assert live.target.rows(ON) == [("t_code_key",), ("t_pkey",), ("t_v",), ("u_pkey",)]


# Copied again --------------------------------------------------------------------------------------

TWO = """
CREATE TABLE t (id int PRIMARY KEY, code int UNIQUE, v text); CREATE INDEX t_v ON t (v);
CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t);
"""
TWO_ROWS = """
INSERT INTO t SELECT n, n, 'v' || n FROM generate_series(1, 100) n;
INSERT INTO u SELECT n, n FROM generate_series(1, 100) n;
"""


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
def test_restarted_table_is_copied_without_its_indexes(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    live = LiveRun(databases, tmp_path, TWO.replace(" UNIQUE", "") + TWO_ROWS, TWO, chunk_rows=20).up_to_cutover()
    found: list[object] = []
    copy_chunk = chunks.copy_chunk

    def copied(*arguments: object) -> object:
        if len(found) == 1:
            # The last chunk brings the codes that the rows of the first chunk had when they were copied.
            live.source.sql("UPDATE t SET code = 101 - id")
        found.append(live.target.rows(ON))
        return copy_chunk(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(chunks, "copy_chunk", copied)
    live.restart("t")
    assert found[-1] == [("u_pkey",)]
    assert live.verify().equal
    live.cutover()
    live.cleanup()
    live.assert_same(t="SELECT * FROM t", u="SELECT * FROM u")
    assert dump(live.target) == dump(databases.cloned(TWO))


def test_index_that_another_object_needs_by_now_stays_in_a_restart(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, TWO + TWO_ROWS, TWO, chunk_rows=20).up_to_cutover()
    live.target.sql("CREATE VIEW by_key AS SELECT id, v FROM t GROUP BY id")
    live.restart("t")
    assert live.verify().equal


# Rows that are not unique --------------------------------------------------------------------------

#: Puts a row into a table beside its unique index, as a damaged index would permit.
DUPLICATE = """
UPDATE pg_index SET indisready = false, indislive = false WHERE indexrelid = '{index}'::regclass;
{insert};
UPDATE pg_index SET indisready = true, indislive = true WHERE indexrelid = '{index}'::regclass;
"""


def test_rows_with_one_key_are_named_and_copied_again_after_the_fix(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, TWO + TWO_ROWS, TWO, chunk_rows=20)
    live.source.sql(DUPLICATE.format(index="t_pkey", insert="INSERT INTO t VALUES (7, 1000, 'twice')"))
    for scan in ("indexscan", "indexonlyscan", "bitmapscan"):  # which would not find the row
        live.source.sql(f"ALTER DATABASE {live.source.name} SET enable_{scan} = off")
    live.setup()
    for _ in range(2):
        with pytest.raises(DataFailure) as failed:
            live.migrate()
        text = "\n".join(failed.value.lines())
        assert "rows of public.t are not unique" in text
        assert "Key (id)=(7) is duplicated" in text
        assert "migrate --restart-table public.t" in text
    live.source.sql("DELETE FROM t WHERE v = 'twice'")
    live.restart("t")
    assert live.verify().equal
    live.cutover()
    live.assert_same(t="SELECT * FROM t", u="SELECT * FROM u")
