"""NOT VALID constraints of either side accept old rows that violate them, and refuse new ones after the cutover."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psycopg
import pytest

from live import LiveRun
from servers import Databases

TABLES = """
CREATE DOMAIN small AS int;
CREATE TABLE a (id int PRIMARY KEY, v int, s small, filled text);
CREATE TABLE parts (id int, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (10) PARTITION BY RANGE (id);
CREATE TABLE parts_low_all PARTITION OF parts_low DEFAULT;
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
"""
CHECKS = """
ALTER TABLE a ADD CONSTRAINT "po %s" CHECK (v > 0) NOT VALID, ADD CONSTRAINT valid CHECK (v > -100),
    ADD CONSTRAINT own CHECK (v <> -1) NO INHERIT NOT VALID;
COMMENT ON CONSTRAINT "po %s" ON a IS 'only new rows';
ALTER DOMAIN small ADD CONSTRAINT is_small CHECK (VALUE < 10) NOT VALID;
COMMENT ON CONSTRAINT is_small ON DOMAIN small IS 'of a domain';
ALTER TABLE parts_low_all ADD CONSTRAINT each_one CHECK (v > 0) NOT VALID;
ALTER TABLE parts_low ADD CONSTRAINT each_one CHECK (v > 0) NOT VALID;
ALTER TABLE parts ADD CONSTRAINT each_one CHECK (v > 0) NOT VALID, ADD CONSTRAINT top CHECK (v <> 0) NOT VALID;
COMMENT ON CONSTRAINT each_one ON parts_low_all IS 'of a leaf';
"""
SINCE_18 = """
ALTER TABLE a ADD CONSTRAINT "must be %s" NOT NULL filled NOT VALID;
ALTER TABLE a ADD CONSTRAINT unenforced CHECK (v > 1000) NOT ENFORCED;
ALTER TABLE parts ADD CONSTRAINT has_v NOT NULL v NOT VALID;
"""
ROWS = """
INSERT INTO a SELECT n, CASE WHEN n < 4 THEN -1 ELSE n END, n, CASE WHEN n > 2 THEN 'f' END
    FROM generate_series(1, 20) n;
INSERT INTO parts SELECT n, CASE WHEN n % 9 < 2 THEN -1 WHEN n % 9 = 2 THEN NULL ELSE n END
    FROM generate_series(1, 20) n;
"""
SAME = {t: f"SELECT * FROM {t}" for t in ("a", "parts")}
STATE = """
SELECT coalesce(conrelid::regclass::text, ''), coalesce(contypid::regtype::text, ''), conname,
       pg_get_constraintdef(oid), convalidated, conislocal, coninhcount, connoinherit,
       obj_description(oid, 'pg_constraint')
FROM pg_constraint WHERE contype IN ('c', 'n') AND connamespace = 'public'::regnamespace
"""
#: Statements that the constraints refuse once they are restored.
REFUSED = [
    "UPDATE a SET v = -2 WHERE id = 9",
    "INSERT INTO a VALUES (50, 5, 50, 'f')",
    "INSERT INTO parts VALUES (7000, -5)",
    "UPDATE parts SET v = 0 WHERE id = 5",
]


def _databases(kind: str, request: pytest.FixtureRequest) -> tuple[Databases, str]:
    return request.getfixturevalue(kind), CHECKS + (SINCE_18 if kind == "databases" else "")


KINDS = pytest.mark.parametrize("kind", ["databases", "old_databases"])


@KINDS
def test_rows_that_violate_a_not_valid_constraint_are_copied(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases, checks = _databases(kind, request)
    live = LiveRun(databases, tmp_path, TABLES + ROWS + checks, TABLES + checks, chunk_rows=7)
    live.setup()
    live.migrate()
    # An update of any column copies the row again. The source permits updates only of rows that meet the constraints.
    live.source.sql("UPDATE a SET v = v + 1 WHERE id = 8; DELETE FROM a WHERE id = 1; DELETE FROM parts WHERE id = 1")
    live.source.sql('ALTER TABLE a DROP CONSTRAINT "po %s", DROP CONSTRAINT own; UPDATE a SET v = v WHERE id = 3')
    live.follow()
    assert live.verify().equal
    live.cutover()
    live.assert_same(**SAME)
    assert Counter(live.target.rows(STATE)) == Counter(databases.cloned(TABLES + checks).rows(STATE))
    for statement in REFUSED:
        with pytest.raises(psycopg.errors.CheckViolation):
            live.target.sql(statement)
    if kind == "databases":
        with pytest.raises(psycopg.errors.NotNullViolation):
            live.target.sql("UPDATE a SET filled = NULL WHERE id = 9")


@KINDS
def test_not_valid_constraints_of_the_source_do_not_stop_reverse_passes(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases, checks = _databases(kind, request)
    live = LiveRun(databases, tmp_path, TABLES + ROWS + checks, TABLES, chunk_rows=7)
    before = Counter(live.source.rows(STATE))
    live.through()
    live.target.sql("UPDATE a SET s = s + 1 WHERE id IN (2, 15); UPDATE parts SET v = v WHERE id IN (1, 2)")
    live.follow()
    live.rollback()
    live.assert_same(**SAME)
    assert Counter(live.source.rows(STATE)) == before
    with pytest.raises(psycopg.errors.CheckViolation):
        live.source.sql("UPDATE a SET v = v WHERE id = 3")
    assert live.verify().equal
    live.cutover()
    live.cleanup()
    assert Counter(live.source.rows(STATE)) == before


@KINDS
def test_not_valid_constraints_are_restored_after_a_second_cutover(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases, checks = _databases(kind, request)
    live = LiveRun(databases, tmp_path, TABLES + ROWS, TABLES + checks, chunk_rows=7)
    live.through()
    live.rollback()
    live.source.sql("UPDATE a SET v = -7 WHERE id = 9; UPDATE parts SET v = NULL")
    assert live.verify().equal
    live.cutover()
    live.assert_same(**SAME)
    assert Counter(live.target.rows(STATE)) == Counter(databases.cloned(TABLES + checks).rows(STATE))


INHERITANCE = """
CREATE TABLE parent (id int PRIMARY KEY, v int);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE grandchild (PRIMARY KEY (id)) INHERITS (child);
"""
INHERITED = """
ALTER TABLE grandchild ADD CONSTRAINT k CHECK (v > 0) NOT VALID;
ALTER TABLE child ADD CONSTRAINT k CHECK (v > 0) NOT VALID;
ALTER TABLE parent ADD CONSTRAINT k CHECK (v > 0) NOT VALID;
ALTER TABLE grandchild ADD CONSTRAINT lone CHECK (v > -5) NOT VALID;
"""


def test_inherited_not_valid_constraints_are_restored_as_declared(databases: Databases, tmp_path: Path) -> None:
    rows = "INSERT INTO parent VALUES (1, -9); INSERT INTO child VALUES (2, -9); INSERT INTO grandchild VALUES (3, -9);"
    ddl = INHERITANCE + INHERITED
    live = LiveRun(databases, tmp_path, INHERITANCE + rows + INHERITED, ddl)
    live.up_to_cutover(capture=False)
    live.cutover()
    live.assert_same(parent="SELECT * FROM parent", grandchild="SELECT * FROM grandchild")
    assert Counter(live.target.rows(STATE)) == Counter(databases.cloned(ddl).rows(STATE))


@KINDS
def test_abort_restores_not_valid_constraints(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    databases, checks = _databases(kind, request)
    live = LiveRun(databases, tmp_path, TABLES + ROWS, TABLES + checks)
    databases.make(live.target.name).sql(TABLES + checks)
    before = Counter(live.target.rows(STATE))
    live.setup()
    live.migrate()
    live.abort()
    assert Counter(live.target.rows(STATE)) == before


VALID_BELOW = """
CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (10);
CREATE TABLE rest PARTITION OF parts FOR VALUES FROM (10) TO (MAXVALUE) PARTITION BY RANGE (id);
CREATE TABLE rest_some PARTITION OF rest FOR VALUES FROM (10) TO (15);
CREATE TABLE rest_all PARTITION OF rest DEFAULT;
"""
VALIDATED = {
    "a leaf": "ALTER TABLE parts ADD CONSTRAINT k CHECK (v > 0) NOT VALID; ALTER TABLE low VALIDATE CONSTRAINT k;",
    "a leaf of a partition": "ALTER TABLE parts ADD CONSTRAINT k CHECK (v > 0 OR id > 14) NOT VALID;"
    "ALTER TABLE rest_some VALIDATE CONSTRAINT k; COMMENT ON CONSTRAINT k ON rest_some IS 'valid';",
    "its own before": "ALTER TABLE low ADD CONSTRAINT k CHECK (v > 0); ALTER TABLE parts ADD CONSTRAINT k CHECK (v > 0)"
    " NOT VALID;",
}


@KINDS
@pytest.mark.parametrize("checks", VALIDATED.values(), ids=VALIDATED.keys())
def test_constraint_validated_on_a_partition_only_stays_valid_there(
    kind: str, checks: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    rows = "INSERT INTO parts SELECT n, CASE WHEN n < 15 THEN n ELSE -n END FROM generate_series(1, 20) n;"
    live = LiveRun(databases, tmp_path, VALID_BELOW + rows + checks, VALID_BELOW + checks, chunk_rows=7)
    declared = Counter(live.source.rows(STATE))
    live.setup()
    leaf = "rest_some" if "rest_some" in checks else "low"
    valid = f"SELECT convalidated FROM pg_constraint WHERE conname = 'k' AND conrelid = '{leaf}'::regclass"
    assert live.target.rows(valid) == [(True,)]
    live.migrate()
    assert live.verify().equal
    live.cutover()
    assert Counter(live.target.rows(STATE)) == declared
    live.target.sql("UPDATE parts SET v = v + 1 WHERE id < 5")
    live.rollback()
    assert Counter(live.source.rows(STATE)) == declared
    assert live.verify().equal
    live.cutover()
    live.assert_same(parts="SELECT * FROM parts")
    assert Counter(live.target.rows(STATE)) == declared
