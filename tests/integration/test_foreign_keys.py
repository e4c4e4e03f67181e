"""Foreign keys of the target: compared with their own operators, relaxed during the run, as declared at the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from any_move import DESIGN
from confiture.schema_to_schema import table_lock
from live import LiveRun
from servers import Databases

KINDS = pytest.mark.parametrize("kind", ["databases", "old_databases"])

EXTENSIONS = "CREATE EXTENSION citext SCHEMA public; CREATE EXTENSION btree_gist SCHEMA public;"
TYPES = """
CREATE DOMAIN mail AS public.citext CHECK (value <> '');
CREATE DOMAIN mails AS mail;
CREATE TYPE mood AS ENUM ('sad', 'glad');
"""
ICU = "CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"


def _tables(parent: str, child: str, number: str = "") -> str:
    return (
        f" CREATE TABLE parent{number} (id int PRIMARY KEY, code {parent} NOT NULL UNIQUE);"
        f" CREATE TABLE child{number} (id int PRIMARY KEY, code {child} REFERENCES parent{number} (code));"
    )


def _operands(parent: str, child: str) -> str:
    return f"{EXTENSIONS}{TYPES}{_tables(parent, child)}"


#: The types of the key and of the column that refers to it, and a value of each.
OPERANDS = (
    ("public.citext", "public.citext", "Ann@Example.org", "ann@example.org"),
    ("mail", "mails", "Ann@Example.org", "ann@example.org"),
    ('text COLLATE "C"', "varchar", "Ann", "Ann"),
    ("text", "public.citext", "ann", "ann"),
    ("bpchar", "char(9)", "ann", "ann   "),
    ("numeric", "bigint", "5.00", "5"),
    ("int", "bigint", "5", "5"),
    ("int[]", "int[]", "{5,NULL}", "{5,NULL}"),
    ("mood", "mood", "glad", "glad"),
    ("int4range", "int4range", "[1,3]", "[1,4)"),
)


def test_verify_finds_the_parents_that_the_foreign_key_finds(databases: Databases, tmp_path: Path) -> None:
    ddl = f"{EXTENSIONS}{TYPES}" + "".join(
        _tables(parent, child, str(number)) for number, (parent, child, _, _) in enumerate(OPERANDS)
    )
    rows = "".join(
        f"INSERT INTO parent{number} VALUES (1, '{there}'); INSERT INTO child{number} VALUES (1, '{written}');"
        for number, (_, _, there, written) in enumerate(OPERANDS)
    )
    live = LiveRun(databases, tmp_path, f"{ddl}{rows}", ddl)
    live.up_to_cutover()
    live.cutover()
    assert_as_designed(live, databases, ddl)


@pytest.mark.parametrize("child", ["text COLLATE ignore_case", 'text COLLATE "C"'])
def test_parents_are_found_by_the_collation_of_the_referenced_column(
    old_databases: Databases, tmp_path: Path, child: str
) -> None:
    ddl = ICU + _operands("text COLLATE ignore_case", child)
    rows = "INSERT INTO parent VALUES (1, 'Ann'); INSERT INTO child VALUES (1, 'ann')"
    live = LiveRun(old_databases, tmp_path, f"{ddl}{rows}", ddl)
    live.up_to_cutover()


def test_an_orphan_of_a_case_insensitive_key_is_named(databases: Databases, tmp_path: Path) -> None:
    ddl = _operands("public.citext", "public.citext")
    rows = "INSERT INTO parent VALUES (1, 'Ann'); INSERT INTO child VALUES (1, 'ann'), (2, 'Bob')"
    live = LiveRun(databases, tmp_path, f"{ddl.replace(' REFERENCES parent (code)', '')}{rows}", ddl)
    live.setup()
    live.migrate()
    orphans = [d.key for d in live.verify().differences if d.check_name == "foreign_keys"]
    assert orphans == [{"code": "Bob"}]


PERIODS = """
CREATE EXTENSION btree_gist;
CREATE TABLE parent (n int UNIQUE NOT NULL, id int, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS));
CREATE TABLE child (n int UNIQUE NOT NULL, id int, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS),
    CONSTRAINT during FOREIGN KEY (id, PERIOD at) REFERENCES parent (id, PERIOD at));
"""
PERIOD_ROWS = """
INSERT INTO parent VALUES (1, 1, '[2020-01-01,2020-02-01)'), (2, 1, '[2020-02-01,2020-04-01)');
INSERT INTO child VALUES (1, 1, '[2020-01-10,2020-03-10)');
"""


def test_several_parents_cover_a_period_and_change_during_the_run(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, PERIODS + PERIOD_ROWS, PERIODS)
    live.setup()
    live.migrate()
    live.source.sql(
        "BEGIN; DELETE FROM child; DELETE FROM parent; INSERT INTO parent VALUES (1, 1, '[2020-01-01,2020-03-01)'),"
        " (2, 1, '[2020-03-01,2020-05-01)'); INSERT INTO child VALUES (1, 1, '[2020-01-10,2020-03-11)'); COMMIT"
    )
    live.follow()
    assert live.verify().equal
    live.cutover()
    live.assert_same(parent="SELECT * FROM parent", child="SELECT * FROM child")
    assert_as_designed(live, databases, PERIODS)


def test_a_period_that_no_parent_covers_is_named(databases: Databases, tmp_path: Path) -> None:
    old = PERIODS.replace(",\n    CONSTRAINT during FOREIGN KEY (id, PERIOD at) REFERENCES parent (id, PERIOD at)", "")
    live = LiveRun(databases, tmp_path, f"{old}{PERIOD_ROWS} DELETE FROM parent WHERE n = 2", PERIODS)
    live.setup()
    live.migrate()
    orphans = [d.key for d in live.verify().differences if d.check_name == "foreign_keys"]
    assert orphans == [{"id": "1", "at": "[2020-01-10,2020-03-10)"}]


LONG = "the_name_of_this_foreign_key_has_more_than_forty_bytes_"
ACTIONS = f"""
CREATE TABLE parent (id int PRIMARY KEY, v text);
CREATE TABLE child (id int PRIMARY KEY, a int, b int, c int, d int, e int,
    CONSTRAINT {LONG}1 FOREIGN KEY (a) REFERENCES parent ON DELETE CASCADE,
    CONSTRAINT {LONG}2 FOREIGN KEY (b) REFERENCES parent ON DELETE SET NULL DEFERRABLE,
    CONSTRAINT {LONG}ä FOREIGN KEY (c) REFERENCES parent ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT plain FOREIGN KEY (d) REFERENCES parent);
ALTER TABLE child ADD CONSTRAINT late FOREIGN KEY (e) REFERENCES parent ON DELETE RESTRICT NOT VALID;
COMMENT ON CONSTRAINT {LONG}1 ON child IS 'with an action'; COMMENT ON CONSTRAINT plain ON child IS 'without one';
CREATE TABLE parts (id int, day int, p int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE parts_1_1 PARTITION OF parts_1 DEFAULT;
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
ALTER TABLE parts ADD CONSTRAINT of_parts FOREIGN KEY (p) REFERENCES parent ON DELETE CASCADE;
COMMENT ON CONSTRAINT of_parts ON parts IS 'of a partitioned table';
CREATE TABLE about (id int PRIMARY KEY, part int, day int,
    CONSTRAINT to_parts FOREIGN KEY (part, day) REFERENCES parts ON DELETE CASCADE);
"""
ACTION_ROWS = """
INSERT INTO parent SELECT n, 'v' || n FROM generate_series(1, 30) n;
INSERT INTO child SELECT n, n, n, n, n, NULL FROM generate_series(1, 20) n;
INSERT INTO parts SELECT n, n % 20, n FROM generate_series(1, 20) n;
INSERT INTO about SELECT n, n, n % 20 FROM generate_series(1, 20) n;
"""
TABLES = {t: f"SELECT * FROM {t}" for t in ("parent", "child", "parts", "about")}
#: Children move to another parent before their old parent is deleted.
MOVES = """
UPDATE child SET a = a + 10, b = b + 10, c = c + 10, d = 30 WHERE id IN (1, 2);
UPDATE parts SET p = 30 WHERE p IN (1, 2); DELETE FROM parent WHERE id IN (1, 2);
"""


#: VALIDATE CONSTRAINT does not mark the parts of a key to a partitioned table before PostgreSQL 18.
_PART = "con.conparentid <> 0"
CONSTRAINTS = (
    DESIGN["constraints"]
    .replace("con.convalidated,", f"con.convalidated OR {_PART},")
    .replace(
        "pg_get_constraintdef(con.oid),",
        f"CASE WHEN {_PART} THEN replace(pg_get_constraintdef(con.oid), ' NOT VALID', '')"
        " ELSE pg_get_constraintdef(con.oid) END,",
    )
)


def designed(live: LiveRun, databases: Databases, side: str, ddl: str) -> None:
    """Assert that one side is as its DDL alone would have created it."""
    alone, database = databases.cloned(ddl), getattr(live, side)
    for what, query in {**DESIGN, "constraints": CONSTRAINTS}.items():
        expected, found = Counter(alone.rows(query)), Counter(database.rows(query))
        assert (list(expected - found), list(found - expected)) == ([], []), (side, what)


def assert_as_designed(live: LiveRun, databases: Databases, ddl: str) -> None:
    """Assert that after cleanup the target is as its DDL alone would have created it."""
    live.cleanup()
    designed(live, databases, "target", ddl)


@KINDS
def test_keys_with_actions_end_as_declared_after_a_second_cutover(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    live = LiveRun(databases, tmp_path, ACTIONS + ACTION_ROWS, ACTIONS)
    live.setup()
    live.migrate()
    live.source.sql(MOVES)
    assert live.verify().equal
    live.cutover()
    live.assert_same(**TABLES)
    live.target.sql("UPDATE child SET d = 30; DELETE FROM parent WHERE id IN (3, 11)")
    assert live.target.value("SELECT count(*) FROM child WHERE id IN (1, 3)") == 0
    assert live.target.value("SELECT count(*) FROM parts WHERE p = 3") == 0
    assert live.target.value("SELECT count(*) FROM about WHERE part = 3") == 0
    live.rollback()
    designed_keys(live, databases)
    live.source.sql("DELETE FROM parent WHERE id = 4")
    live.follow()
    live.assert_same(**TABLES)
    assert live.verify().equal
    live.cutover()
    assert_as_designed(live, databases, ACTIONS)


def designed_keys(live: LiveRun, databases: Databases) -> None:
    """Assert that the foreign keys of the source are as its DDL created them."""
    assert Counter(live.source.rows(CONSTRAINTS)) == Counter(databases.cloned(ACTIONS).rows(CONSTRAINTS))


@KINDS
def test_action_of_a_partitioned_child_applies_once_the_target_is_open(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    live = LiveRun(databases, tmp_path, ACTIONS + ACTION_ROWS, ACTIONS)
    live.up_to_cutover()

    def write(point: str) -> None:
        if point == "switch.after_open_commit":
            live.target.sql("DELETE FROM parent WHERE id = 12")
            counts = "SELECT (SELECT count(*) FROM parts WHERE p = 12) + (SELECT count(*) FROM child WHERE a = 12)"
            assert live.target.value(counts) == 0
            written.append(point)

    written: list[str] = []
    monkeypatch.setattr(table_lock, "failpoint", write)
    live.cutover()
    assert written
    assert_as_designed(live, databases, ACTIONS)


@KINDS
def test_abort_restores_the_foreign_keys_of_an_existing_target(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    live = LiveRun(databases, tmp_path, ACTIONS + ACTION_ROWS, ACTIONS)
    databases.make(live.target.name).sql(ACTIONS)
    live.setup()
    live.migrate()
    live.restart("child")
    live.abort()
    designed(live, databases, "target", ACTIONS)


TO_PARTITIONED = """
CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (MINVALUE) TO (10);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (MAXVALUE) PARTITION BY RANGE (id);
CREATE TABLE p21 PARTITION OF p2 DEFAULT;
"""
PARTS_OF_KEYS = """
SELECT con.conrelid::regclass::text, con.conname, pg_get_constraintdef(con.oid), con.convalidated,
       (SELECT p.conname FROM pg_constraint p WHERE p.oid = con.conparentid)
FROM pg_constraint con WHERE con.contype = 'f' AND con.connamespace = 'public'::regnamespace
"""
KEYS_TO_PARTITIONED = (
    "REFERENCES p",
    "REFERENCES p DEFERRABLE",
    "REFERENCES p ON DELETE CASCADE",
    "REFERENCES p ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED",
    "REFERENCES p NOT VALID",
    "REFERENCES p ON UPDATE CASCADE NOT VALID",
)


@KINDS
def test_parts_of_keys_to_a_partitioned_table_end_as_declared(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    databases: Databases = request.getfixturevalue(kind)
    children = [f"c{n}" for n, _ in enumerate(KEYS_TO_PARTITIONED)]
    tables = TO_PARTITIONED + "".join(f"CREATE TABLE {c} (id int PRIMARY KEY, p int);" for c in children)
    fill = "INSERT INTO p SELECT n, n FROM generate_series(1, 20) n;"
    fill += "".join(f"INSERT INTO {c} SELECT id, id FROM p;" for c in children)
    declared = "".join(
        f"ALTER TABLE {c} ADD CONSTRAINT k_{c} FOREIGN KEY (p) {key};"
        for c, key in zip(children, KEYS_TO_PARTITIONED, strict=True)
    )
    live = LiveRun(databases, tmp_path, tables + fill + declared, tables + declared, chunk_rows=7)
    wanted = Counter(live.source.rows(PARTS_OF_KEYS))
    live.through()
    assert Counter(live.target.rows(PARTS_OF_KEYS)) == wanted
    for c in children:
        live.target.sql(f"UPDATE {c} SET p = 4 WHERE id IN (5, 15); DELETE FROM {c} WHERE id = 6")
    live.rollback()
    assert Counter(live.source.rows(PARTS_OF_KEYS)) == wanted
    assert live.verify().equal
    live.cutover()
    live.assert_same(**{c: f"SELECT * FROM {c}" for c in children})
    assert Counter(live.target.rows(PARTS_OF_KEYS)) == wanted
