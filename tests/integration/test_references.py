"""Chosen rows bring the rows that they refer to: every foreign key holds, and nothing else is there."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chosen import add_keys, chosen_copy
from confiture.sync import references, target_rows
from confiture.sync.references import Filled
from confiture.types import TableRef
from conftest import ROOT
from servers import Databases, TestDatabase

STAFF = """
CREATE TABLE employee (id int PRIMARY KEY, manager int REFERENCES employee, name text);
INSERT INTO employee SELECT n, nullif(n - 1, 0), 'e' || n FROM generate_series(1, 1000) n;
"""


def pair(databases: Databases, text: str) -> tuple[TestDatabase, TestDatabase]:
    """A source with rows, and a target with the tables alone."""
    source, target = databases.cloned(text), databases.cloned(text)
    tables = ", ".join(str(TableRef(*row)) for row in target.rows(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind IN ('r', 'p') AND nspname NOT LIKE ALL ('{pg_%,information_schema}')"))  # fmt: skip
    target.sql(f"TRUNCATE {tables}")
    return source, target


def test_a_row_brings_its_chain_of_a_thousand_parents(databases: Databases) -> None:
    source, target = pair(databases, STAFF)
    with chosen_copy(source, target, where=["employee=id = 900 OR id = 3"]) as copy:
        copy.copy()
        filled = copy.fill()
        assert [(c.rows, c.violations) for c in copy.check()] == [(899, 0)]
    add_keys(target, copy.keys)
    assert target.rows("SELECT min(id), max(id), count(*) FROM employee") == [(1, 900, 900)]
    assert filled.added == {TableRef("public", "employee"): 898}
    assert filled.removed == 0


def ref(name: str) -> TableRef:
    return TableRef("public", name)


def filled_by(
    source: TestDatabase, target: TestDatabase, between: Callable[[], object] = lambda: None, **options: Any
) -> Filled:
    """Copy chosen rows, call a function, fill the references, and add the foreign keys; the target then has them."""
    with chosen_copy(source, target, **options) as copy:
        copy.copy()
        between()
        filled = copy.fill()
        checked = copy.check()
    assert [c for c in checked if c.violations and c.key.validated] == []
    add_keys(target, copy.keys)
    return filled


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches for a few rows."""
    monkeypatch.setattr(references, "BY_INDEX", 7)
    monkeypatch.setattr(references, "BY_SCAN", 11)
    monkeypatch.setattr(references, "BATCH_ROWS", 500)


CYCLE_OF_TWO = """
CREATE TABLE person (id int PRIMARY KEY, home int NOT NULL);
CREATE TABLE house (id int PRIMARY KEY, owner int NOT NULL REFERENCES person DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE person ADD FOREIGN KEY (home) REFERENCES house DEFERRABLE;
BEGIN; SET CONSTRAINTS ALL DEFERRED;
INSERT INTO person SELECT n, n FROM generate_series(1, 300) n;
INSERT INTO house SELECT n, CASE WHEN n % 100 = 0 THEN n ELSE n + 1 END FROM generate_series(1, 300) n;
COMMIT;
"""
CYCLE_OF_THREE = """
CREATE TABLE a (id int PRIMARY KEY, b int NOT NULL);
CREATE TABLE c (id int PRIMARY KEY, a int NOT NULL REFERENCES a DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE b (id int PRIMARY KEY, c int NOT NULL REFERENCES c DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO a SELECT n, n * 2 % 101 FROM generate_series(0, 100) n;
INSERT INTO b SELECT n, n * 2 % 101 FROM generate_series(0, 100) n;
INSERT INTO c SELECT n, CASE n WHEN 3 THEN 50 WHEN 50 THEN 3 ELSE n END FROM generate_series(0, 100) n;
COMMIT;
"""


def test_a_cycle_of_two_tables_is_followed_to_its_end(databases: Databases) -> None:
    source, target = pair(databases, CYCLE_OF_TWO)
    filled_by(source, target, where=["person=id = 150", "house=false"])
    wanted = [(n,) for n in range(150, 201)]
    assert target.rows("SELECT id FROM person ORDER BY 1") == wanted
    assert target.rows("SELECT id FROM house ORDER BY 1") == wanted


def test_a_cycle_of_three_tables_without_nulls_is_followed(databases: Databases) -> None:
    source, target = pair(databases, CYCLE_OF_THREE)
    filled_by(source, target, tables=["a"], where=["a=id = 3"])
    rows = {"a": set(), "b": set(), "c": set()}
    of = {
        (t, key): value
        for t, next_ in zip("abc", "bca", strict=True)
        for key, value in source.rows(f"SELECT id, {next_} FROM {t}")
    }
    table, key = "a", 3
    while key not in rows[table]:
        rows[table].add(key)
        key, table = of[table, key], {"a": "b", "b": "c", "c": "a"}[table]
    assert {t: {r[0] for r in target.rows(f"SELECT id FROM {t}")} for t in "abc"} == rows
    assert sum(map(len, rows.values())) > 6


COMPOSITE = """
CREATE TABLE region (country text, code int, label text UNIQUE, PRIMARY KEY (country, code));
CREATE TABLE shop (id int PRIMARY KEY, country text, code int, label text REFERENCES region (label),
                   FOREIGN KEY (country, code) REFERENCES region);
CREATE TABLE full_shop (id int PRIMARY KEY, country text, code int,
                        FOREIGN KEY (country, code) REFERENCES region MATCH FULL);
INSERT INTO region SELECT 'c' || n % 7 || '"\\,{', n, 'label ' || n FROM generate_series(1, 50) n;
INSERT INTO shop VALUES (1, 'c1"\\,{', 8, NULL), (2, 'nowhere', NULL, NULL), (3, NULL, 99, 'label 4');
INSERT INTO shop (id) VALUES (4);
INSERT INTO full_shop VALUES (1, 'c2"\\,{', 9), (2, NULL, NULL);
"""


def test_a_composite_key_with_a_null_refers_to_no_row(databases: Databases) -> None:
    source, target = pair(databases, COMPOSITE)
    filled = filled_by(source, target, tables=["shop", "full_shop"])
    assert target.rows("SELECT code FROM region ORDER BY 1") == [(4,), (8,), (9,)]
    assert target.value("SELECT count(*) FROM shop") == 4
    assert filled.removed == 0


def test_a_row_with_some_nulls_violates_a_key_with_match_full(databases: Databases) -> None:
    source, target = pair(databases, COMPOSITE)
    with chosen_copy(source, target, tables=["full_shop"]) as copy:
        target.sql("INSERT INTO full_shop VALUES (7, 'c1', NULL), (8, NULL, NULL)")
        found = {c.key.table.name: (c.rows, c.violations) for c in copy.check()}
    assert found == {"full_shop": (0, 1), "shop": (0, 0)}


KINDS = """
CREATE TYPE colour AS ENUM ('red', 'green', 'blue'); CREATE DOMAIN sku AS varchar(20) CHECK (value <> '');
CREATE TABLE paint (colour colour PRIMARY KEY);
CREATE TABLE part (sku sku PRIMARY KEY);
CREATE TABLE big (id bigint PRIMARY KEY, g bigint GENERATED ALWAYS AS (id * 2) STORED, at timestamptz UNIQUE);
CREATE TABLE wide (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount numeric(10, 2) UNIQUE);
CREATE TABLE code (code char(5) PRIMARY KEY, tags text[] UNIQUE, raw bytea UNIQUE);
CREATE TABLE item (id int PRIMARY KEY, colour colour REFERENCES paint, sku varchar REFERENCES part,
    big int REFERENCES big, at timestamptz REFERENCES big (at), wide smallint REFERENCES wide,
    amount numeric REFERENCES wide (amount), code char(8) REFERENCES code, tags text[] REFERENCES code (tags),
    raw bytea REFERENCES code (raw));
INSERT INTO paint VALUES ('red'), ('green'), ('blue');
INSERT INTO part VALUES ('a-1'), ('b-2');
INSERT INTO big (id, at) SELECT n, '2024-01-01 UTC'::timestamptz + n * interval '1 day' FROM generate_series(1, 9) n;
INSERT INTO wide (id, amount) OVERRIDING SYSTEM VALUE SELECT n, n + 0.5 FROM generate_series(1, 9) n;
INSERT INTO code VALUES ('ab', '{a,"b c"}', '\\x00ff'), ('cd', '{}', '\\x'), ('ef', '{NULL}', '\\x01');
INSERT INTO item VALUES (1, 'green', 'b-2', 4, '2024-01-06 UTC', 7, 2.50, 'ab', '{}', '\\x01'),
    (2, 'green', 'b-2', 4, '2024-01-06 UTC', 7, 2.5, 'ab', '{}', '\\x01');
"""
CASELESS = """
CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE mail (address ext.citext PRIMARY KEY);
CREATE TABLE word (word text COLLATE nocase PRIMARY KEY);
CREATE TABLE item (id int PRIMARY KEY, address ext.citext REFERENCES mail, word text COLLATE nocase REFERENCES word);
INSERT INTO mail VALUES ('bob@example.com'), ('eve@example.com');
INSERT INTO word VALUES ('Straw'), ('hay');
INSERT INTO item VALUES (1, 'BOB@example.com', 'straw'), (2, 'Bob@Example.com', 'STRAW');
"""


def test_keys_of_any_type_find_their_parents(databases: Databases) -> None:
    source, target = pair(databases, KINDS)
    filled = filled_by(source, target, tables=["item"])
    assert filled.removed == 0
    assert target.rows("SELECT * FROM item ORDER BY id") == source.rows("SELECT * FROM item ORDER BY id")
    assert target.rows("SELECT * FROM paint") == [("green",)]
    assert target.rows("SELECT * FROM part") == [("b-2",)]
    assert target.rows("SELECT id, g FROM big ORDER BY 1") == [(4, 8), (5, 10)]
    assert target.rows("SELECT id FROM wide ORDER BY 1") == [(2,), (7,)]
    assert target.value("SELECT count(*) FROM code") == 3


def test_a_parent_is_found_whatever_the_case_where_the_key_ignores_it(old_databases: Databases) -> None:
    source, target = pair(old_databases, CASELESS)
    filled = filled_by(source, target, tables=["item"])
    assert filled.removed == 0
    assert target.rows("SELECT address::text FROM mail") == [("bob@example.com",)]
    assert target.rows("SELECT word FROM word") == [("Straw",)]


PARTED = """
CREATE TABLE day (day date, n int, PRIMARY KEY (day, n)) PARTITION BY RANGE (day);
CREATE TABLE day_1 PARTITION OF day FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE day_2 PARTITION OF day FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE city (id int PRIMARY KEY); CREATE TABLE town (id int PRIMARY KEY);
CREATE TABLE visit (day date, n int, town int, city int REFERENCES city, FOREIGN KEY (day, n) REFERENCES day,
                    PRIMARY KEY (day, n)) PARTITION BY LIST (n);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES IN (1); CREATE TABLE visit_2 PARTITION OF visit FOR VALUES IN (2);
ALTER TABLE visit_2 ADD FOREIGN KEY (town) REFERENCES town;
CREATE TABLE note (id int PRIMARY KEY, day date, n int); ALTER TABLE note ADD FOREIGN KEY (day, n) REFERENCES day_2;
INSERT INTO day SELECT '2024-01-01'::date + d, n FROM generate_series(0, 50) d, generate_series(1, 2) n;
INSERT INTO city SELECT generate_series(1, 9); INSERT INTO town SELECT generate_series(1, 9);
INSERT INTO visit VALUES ('2024-01-03', 1, 777, 3), ('2024-02-03', 2, 5, 4);
INSERT INTO note VALUES (1, '2024-02-09', 1);
"""


def test_keys_of_partitions_and_to_partitions_are_followed(databases: Databases) -> None:
    source, target = pair(databases, PARTED)
    filled = filled_by(source, target, tables=["visit", "note"])
    assert filled.removed == 0
    assert [str(d) for (d,) in target.rows("SELECT day FROM day ORDER BY 1")] == [
        "2024-01-03",
        "2024-02-03",
        "2024-02-09",
    ]
    assert target.rows("SELECT id FROM city ORDER BY 1") == [(3,), (4,)]
    assert target.rows("SELECT id FROM town") == [(5,)]


FAMILY = """
CREATE TABLE parent (id int PRIMARY KEY, email text UNIQUE, home text);
CREATE TABLE heir (LIKE parent INCLUDING ALL) INHERITS (parent);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, email text REFERENCES parent (email));
CREATE TABLE toy (id int PRIMARY KEY, child int REFERENCES child);
INSERT INTO parent SELECT n, 'p' || n, 'h' FROM generate_series(1, 60) n;
INSERT INTO heir VALUES (1000, 'h', 'h');
INSERT INTO child SELECT n, n, NULL FROM generate_series(1, 60) n;
INSERT INTO toy SELECT n, n FROM generate_series(1, 60) n;
"""


def test_masked_keys_find_their_parents_by_the_masked_value(databases: Databases) -> None:
    source, target = pair(databases, "CREATE TABLE parent (code text PRIMARY KEY, id int UNIQUE);"
        "CREATE TABLE child (id int PRIMARY KEY, code text REFERENCES parent);"
        "INSERT INTO parent SELECT 'c' || n, n FROM generate_series(1, 90) n;"
        "INSERT INTO child SELECT n, 'c' || n % 30 + 1 FROM generate_series(1, 60) n")  # fmt: skip
    masks = {"parent.code": "pg_catalog.md5(code)", "child.code": "pg_catalog.md5(code)"}
    filled = filled_by(source, target, tables=["child"], masks=masks)
    assert filled.added == {ref("parent"): 30}
    assert target.value("SELECT count(*) FROM parent WHERE length(code) = 32") == 30


def test_children_of_a_removed_parent_are_removed_or_copied_again(databases: Databases) -> None:
    source, target = pair(databases, FAMILY)
    changes = """
        DELETE FROM toy WHERE id <= 10; DELETE FROM child WHERE id <= 10; UPDATE child SET parent = 60 WHERE id <= 20;
        DELETE FROM parent WHERE id <= 20; INSERT INTO parent VALUES (61); UPDATE child SET parent = 61 WHERE id = 11;
    """
    filled = filled_by(source, target, lambda: source.sql(changes), tables=["child", "toy"])
    assert (filled.gone, filled.again) == ({ref("child"): 10, ref("toy"): 10}, {ref("child"): 10})
    assert not filled.orphans
    for table in ("child", "toy"):
        assert target.rows(f"SELECT * FROM {table} ORDER BY 1") == source.rows(f"SELECT * FROM {table} ORDER BY 1")
    assert target.rows("SELECT id FROM parent ORDER BY 1") == source.rows("SELECT id FROM ONLY parent ORDER BY 1")


def test_a_row_without_a_parent_on_the_source_is_removed_and_counted(databases: Databases) -> None:
    source, target = pair(databases, FAMILY)
    source.sql("ALTER TABLE child DROP CONSTRAINT child_parent_fkey; DELETE FROM parent WHERE id <= 15")
    filled = filled_by(source, target)
    assert (filled.orphans, filled.gone) == ({ref("child"): 15, ref("toy"): 15}, {})
    assert target.rows("SELECT min(id), count(*) FROM child") == [(16, 45)]


@pytest.mark.parametrize("declared", ["NOT VALID", "NOT ENFORCED"])
def test_a_key_that_need_not_hold_keeps_its_orphans_and_brings_parents(databases: Databases, declared: str) -> None:
    text = (
        FAMILY
        + f"""
        ALTER TABLE child DROP CONSTRAINT child_parent_fkey;
        INSERT INTO child VALUES (61, 999); DELETE FROM parent WHERE id <= 5;
        ALTER TABLE child ADD CONSTRAINT c FOREIGN KEY (parent) REFERENCES parent {declared};
    """
    )
    source, target = pair(databases, text)
    with chosen_copy(source, target, tables=["child"]) as copy:
        copy.copy()
        filled = copy.fill()
        found = {c.key.name: (c.rows, c.violations) for c in copy.check()}
    assert found["c"] == (61, 6)
    assert (filled.added, filled.removed) == ({ref("parent"): 55}, 0)


def test_a_stale_row_gives_way_to_the_row_that_others_refer_to(databases: Databases) -> None:
    """The emails of two parents are exchanged between the copies of the tables."""
    source, target = pair(databases, FAMILY)
    exchange = """
        UPDATE ONLY parent SET email = 'x' WHERE id = 1; UPDATE ONLY parent SET email = 'p1' WHERE id = 2;
        UPDATE ONLY parent SET email = 'p2' WHERE id = 1; INSERT INTO parent VALUES (70, 'new');
        UPDATE ONLY parent SET email = 'p3x' WHERE id = 3; UPDATE ONLY parent SET email = 'p3' WHERE id = 70;
        UPDATE child SET parent = 70, email = 'p3' WHERE id = 3; UPDATE child SET email = 'p1' WHERE id = 1;
    """
    with chosen_copy(source, target) as copy:
        copy.copy("parent")
        source.sql(exchange)
        copy.copy("child", "toy")
        copy.fill()
        assert {c.violations for c in copy.check()} == {0}
    add_keys(target, copy.keys)
    query = "SELECT p.id, p.email FROM child c JOIN ONLY parent p ON p.id = c.parent WHERE c.id = 3"
    assert target.rows(query) == source.rows(query) == [(70, "p3")]
    assert target.rows("SELECT email FROM ONLY parent WHERE id = 3") == [("p3x",)]


def test_filling_that_is_killed_at_each_batch_continues_to_the_same_result(
    databases: Databases, tmp_path: Path
) -> None:
    source, target = pair(databases, CYCLE_OF_TWO)
    with chosen_copy(source, target, where=["person=id % 3 = 0", "house=false"]) as copy:
        copy.copy()
        (tmp_path / "run").write_bytes(pickle.dumps(copy.prepared))
    ends = []
    for kill in ("before_commit:1", "after_commit:1", "before_commit:3", "after_commit:5", "before_commit:1", "never"):
        program = [sys.executable, str(ROOT / "tests/support/chosen.py"), str(tmp_path / "run"), "10"]
        environment = {**os.environ, "CONFITURE_FAILPOINT": f"references.{kill}"}
        ends.append(subprocess.run(program, env=environment, check=False).returncode)
    assert ends == [-signal.SIGKILL] * 5 + [0]
    add_keys(target, copy.keys)
    chosen = "WHERE id >= 3 AND id <> 101 ORDER BY 1"
    assert target.rows("SELECT * FROM person ORDER BY 1") == source.rows(f"SELECT * FROM person {chosen}")
    assert target.value("SELECT count(*) FROM house") == 297


MANY = """
CREATE TABLE parent (id int PRIMARY KEY, name text);
CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent, text text);
INSERT INTO parent SELECT n, 'p' || n FROM generate_series(1, 50000) n;
INSERT INTO child SELECT n, n * 7919::bigint % 50000 + 1, 'c' || n FROM generate_series(1, 200000) n;
"""


def test_the_parents_of_many_children_are_found_by_one_hash_join(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "BY_INDEX", 20_000)
    monkeypatch.setattr(references, "BATCH_ROWS", 100_000)
    source, target = pair(databases, MANY)
    with chosen_copy(source, target, where=["parent=id % 100 = 0", "child=true"]) as copy:
        copy.copy()
        with copy.context.target.transaction(read_only=True) as tx:
            query = target_rows.search(tx, copy.keys[0], target_rows.rows_of(tx, ref("child")))
            plan = "\n".join(row[0] for row in tx.pg.execute(b"EXPLAIN " + query.as_bytes()).fetchall())
        assert "Anti Join" in plan
        assert "Nested Loop" not in plan
        assert copy.fill().added == {ref("parent"): 49_500}
        assert [(c.rows, c.violations) for c in copy.check()] == [(200_000, 0)]


PERIODS = """
CREATE EXTENSION btree_gist;
CREATE TABLE price (item int, valid daterange, PRIMARY KEY (item, valid WITHOUT OVERLAPS));
CREATE TABLE sale (id int PRIMARY KEY, item int, during daterange,
                   FOREIGN KEY (item, PERIOD during) REFERENCES price (item, PERIOD valid));
INSERT INTO price SELECT i, daterange('2024-01-01'::date + n * 10, '2024-01-01'::date + n * 10 + 10)
    FROM generate_series(1, 5) i, generate_series(0, 9) n;
INSERT INTO sale VALUES (1, 2, '[2024-01-05,2024-01-25)'), (2, 3, '[2024-03-02,2024-03-03)');
"""


def test_a_period_brings_every_period_that_covers_it(databases: Databases) -> None:
    source, target = pair(databases, PERIODS)
    filled = filled_by(source, target, tables=["sale"])
    assert filled.removed == 0
    there = "SELECT item, lower(valid)::text FROM price ORDER BY 1, 2"
    assert target.rows(there) == [(2, "2024-01-01"), (2, "2024-01-11"), (2, "2024-01-21"), (3, "2024-03-01")]
