"""The fingerprint: a change of anything that determines the meaning of a row blocks the run until it is resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from confiture import config, fingerprint
from confiture.errors import Blocked, Refused
from confiture.journal import source
from confiture.postgres.session import Session
from confiture.schema_to_schema import cutover
from confiture.types import TableRef
from live import LiveRun
from servers import Databases

PARTITIONED = """
CREATE TABLE m (id int, d int, v text, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (100);
CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (100) TO (200);
INSERT INTO m SELECT n, n % 200, 'v' || n FROM generate_series(1, 400) n;
"""
PLAIN = """
CREATE TYPE st AS ENUM ('a', 'b');
CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';
CREATE FUNCTION label(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT public.shout($1)';
CREATE TABLE item (id int PRIMARY KEY, kind st, name text, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE lookup (v text);
INSERT INTO item (id, kind, name) SELECT n, 'a', 'n' || n FROM generate_series(1, 20) n;
INSERT INTO lookup SELECT 'old' || n FROM generate_series(1, 5) n;
"""
PLAIN_NEW = """
CREATE TABLE item (id int PRIMARY KEY, kind text, name text, twice int);
CREATE TABLE lookup (v text);
"""
PLAIN_MAPPING = """item:
  name:
    transform: "public.label(name)"
"""


def verified(databases: Databases, folder: Path, old: str, new: str, mapping: str = "") -> LiveRun:
    """A run that is verified. The test changes a database next."""
    return LiveRun(databases, folder, old, new, mapping).up_to_cutover()


def leaf(statements: str) -> str:
    return f"BEGIN; ALTER TABLE m1 DISABLE TRIGGER ALL; {statements}; ALTER TABLE m1 ENABLE TRIGGER ALL; COMMIT"


WRITES = """INSERT INTO m1 SELECT 1000 + g, 5, 'bulk' FROM generate_series(1, 20) g ON CONFLICT DO NOTHING;
    UPDATE m1 SET v = v || 'x' WHERE id = 1; DELETE FROM m1 WHERE id = (SELECT min(id) FROM m1 WHERE id > 1)"""
UNSEEN = {
    "triggers of a leaf disabled and enabled": leaf(WRITES),
    "one trigger of a leaf left disabled": "DO $$ DECLARE n name; BEGIN SELECT tgname INTO n FROM pg_trigger WHERE"
    " tgrelid = 'm1'::regclass AND tgname LIKE 'zz%row'; EXECUTE format('ALTER TABLE m1 DISABLE TRIGGER %I', n);"
    " END $$",
    "a leaf's trigger disabled and enabled as it was": "DO $$ DECLARE n name; BEGIN SELECT tgname INTO n FROM"
    " pg_trigger WHERE tgrelid = 'm1'::regclass AND tgname LIKE 'zz%row';"
    " EXECUTE format('ALTER TABLE m1 DISABLE TRIGGER %I', n);"
    " UPDATE m1 SET v = v || '.' WHERE id = 1; EXECUTE format('ALTER TABLE m1 ENABLE ALWAYS TRIGGER %I', n); END $$",
    "a leaf's triggers enabled as the user's own": "ALTER TABLE m1 ENABLE TRIGGER ALL",
    "the root's trigger dropped": "DO $$ DECLARE n name; BEGIN SELECT tgname INTO n FROM pg_trigger WHERE tgrelid"
    " = 'm'::regclass AND tgname LIKE 'zz%row'; EXECUTE format('DROP TRIGGER %I ON m', n); END $$",
    "a leaf detached and attached": f"BEGIN; ALTER TABLE m DETACH PARTITION m1; {WRITES};"
    " ALTER TABLE m ATTACH PARTITION m1 FOR VALUES FROM (0) TO (100); COMMIT",
    "a leaf replaced": "BEGIN; ALTER TABLE m DETACH PARTITION m1; ALTER TABLE m1 RENAME TO m1_old; CREATE TABLE m1"
    " (LIKE m1_old INCLUDING ALL); ALTER TABLE m ATTACH PARTITION m1 FOR VALUES FROM (0) TO (100);"
    " DROP TABLE m1_old; COMMIT",
    "the bound of a leaf changed": "BEGIN; ALTER TABLE m DETACH PARTITION m2;"
    " ALTER TABLE m ATTACH PARTITION m2 FOR VALUES FROM (100) TO (300); COMMIT",
}


def test_writes_missed_by_capture_block_the_run_until_a_restart(databases: Databases, tmp_path: Path) -> None:
    run = verified(databases, tmp_path, PARTITIONED, "CREATE TABLE m (id int, d int, v text, PRIMARY KEY (id, d))")
    for number, (name, change) in enumerate(UNSEEN.items()):
        run.source.sql(change)
        for command in (run.follow, run.cutover, run.verify):
            with pytest.raises(Blocked, match=r"public\.m was changed during the run") as blocked:
                command()
            assert blocked.value.step == "migrate --restart-table public.m", name
        run.restart("public.m")
        run.source.sql(f"INSERT INTO m VALUES ({9000 + number}, 7, 'seen'); UPDATE m1 SET v = 'seen' WHERE id = 30")
        assert run.verify().equal, name
    run.cutover()
    run.assert_same(m="SELECT * FROM m")


_FUNCTION = "CREATE OR REPLACE FUNCTION {}(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT {}($1)'"
#: Each change, and the statement that undoes it.
MEANING = {
    "ALTER TYPE st RENAME VALUE 'a' TO 'z'": "ALTER TYPE st RENAME VALUE 'z' TO 'a'",
    _FUNCTION.format("label", "lower"): _FUNCTION.format("label", "public.shout"),
    # The function label calls this one.
    _FUNCTION.format("shout", "lower"): _FUNCTION.format("shout", "upper"),
    "ALTER TABLE item RENAME COLUMN name TO title": "ALTER TABLE item RENAME COLUMN title TO name",
    "ALTER TABLE item ADD COLUMN more int": "ALTER TABLE item DROP COLUMN more",
    "ALTER TABLE item RENAME TO items": "ALTER TABLE items RENAME TO item",
    "CREATE RULE r AS ON DELETE TO item DO INSTEAD NOTHING": "DROP RULE r ON item",
    "ALTER TABLE item DROP CONSTRAINT item_pkey": "ALTER TABLE item ADD PRIMARY KEY (id)",
    "ALTER TABLE item DROP CONSTRAINT item_pkey; ALTER TABLE item ALTER id DROP NOT NULL": (
        "ALTER TABLE item ADD PRIMARY KEY (id)"
    ),
}


def every_command_is_blocked(run: LiveRun) -> None:
    for command in (run.follow, run.verify, run.cutover):
        with pytest.raises(Blocked, match=r"public\.item was changed during the run"):
            command()
    assert run.open_sides("UPDATE lookup SET v = v") == {"source"}


def test_a_change_of_the_meaning_of_a_row_blocks_until_undone(databases: Databases, tmp_path: Path) -> None:
    run = verified(databases, tmp_path, PLAIN, PLAIN_NEW, PLAIN_MAPPING)
    for change, undo in MEANING.items():
        run.source.sql(change)
        every_command_is_blocked(run)
        run.source.sql(undo)
        run.follow()
    run.cutover()


@pytest.mark.parametrize("change", ["ALTER TYPE st ADD VALUE 'c'", "VACUUM FULL item"], ids=["label", "rewrite"])
def test_a_change_that_cannot_be_undone_blocks_every_command(databases: Databases, tmp_path: Path, change: str) -> None:
    run = verified(databases, tmp_path, PLAIN, PLAIN_NEW, PLAIN_MAPPING)
    run.source.sql(change)
    every_command_is_blocked(run)


#: Objects that values are made of or printed with, on which the columns and views depend in several steps.
BEHIND = """
CREATE TYPE st AS ENUM ('a', 'b');
CREATE TYPE span AS RANGE (subtype = st, multirange_type_name = spans);
CREATE TEXT SEARCH DICTIONARY stems (TEMPLATE = snowball, language = english);
CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION words ALTER MAPPING REPLACE simple WITH stems;
CREATE FUNCTION act() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE VIEW seen AS SELECT 1 AS one;
CREATE TABLE t (id int PRIMARY KEY, m spans, body text, f regproc, views regclass[]);
INSERT INTO t VALUES (1, '{[a,b]}', 'the cats', 'act', '{seen}');
"""
BEHIND_NEW = """
CREATE FUNCTION act() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW seen AS SELECT 1 AS one;
CREATE TABLE t (id int PRIMARY KEY, m text, body tsvector, f regproc, views text);
"""
BEHIND_MAPPING = """t: {body: {transform: "to_tsvector('public.words', body)"}}"""
#: Each change, and the statement that undoes it.
CHANGED_BEHIND = {
    "ALTER TYPE st RENAME VALUE 'a' TO 'z'": "ALTER TYPE st RENAME VALUE 'z' TO 'a'",
    "ALTER TEXT SEARCH CONFIGURATION words ALTER MAPPING FOR asciiword WITH simple": (
        "ALTER TEXT SEARCH CONFIGURATION words ALTER MAPPING FOR asciiword WITH stems"
    ),
    "ALTER TEXT SEARCH DICTIONARY stems (stopwords = english)": "ALTER TEXT SEARCH DICTIONARY stems (stopwords)",
    "ALTER FUNCTION act() RENAME TO done": "ALTER FUNCTION done() RENAME TO act",
    "ALTER VIEW seen RENAME TO hidden": "ALTER VIEW hidden RENAME TO seen",
}


def test_the_first_function_that_a_value_could_name_blocks_until_dropped(databases: Databases, tmp_path: Path) -> None:
    table = "CREATE TABLE t (id int PRIMARY KEY, f regproc);"
    run = verified(databases, tmp_path, f"{table} INSERT INTO t VALUES (1, 'now')", table)
    run.source.sql("CREATE FUNCTION own() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with pytest.raises(Blocked, match=r"source table public\.t was changed during the run"):
        run.follow()
    run.source.sql("DROP FUNCTION own()")
    run.cutover()


def test_a_change_of_an_object_behind_a_value_blocks_until_undone(databases: Databases, tmp_path: Path) -> None:
    run = verified(databases, tmp_path, BEHIND, BEHIND_NEW, BEHIND_MAPPING)
    for change, undo in CHANGED_BEHIND.items():
        run.source.sql(change)
        with pytest.raises(Blocked, match=r"source table public\.t was changed during the run"):
            run.follow()
        run.source.sql(undo)
        run.follow()
    # Objects that the run and its sessions create for themselves are no change.
    run.source.sql("CREATE TEMP TABLE mine (id int); CREATE INDEX ON t (body)")
    run.cutover()


def test_an_index_that_is_built_again_concurrently_is_no_change(databases: Databases, tmp_path: Path) -> None:
    run = verified(databases, tmp_path, PARTITIONED, "CREATE TABLE m (id int, d int, v text, PRIMARY KEY (id, d))")
    for side, key in ((run.source, "m1_pkey"), (run.target, "m_pkey")):
        before = side.value(f"SELECT '{key}'::regclass::oid")
        side.sql(f"REINDEX INDEX CONCURRENTLY {key}")
        assert side.value(f"SELECT '{key}'::regclass::oid") != before
        run.source.sql("UPDATE m SET v = v || '.' WHERE id < 3")
        run.follow()
    run.cutover()
    run.assert_same(m="SELECT * FROM m")


def test_renamed_enum_label_is_copied_by_the_command_in_the_error(databases: Databases, tmp_path: Path) -> None:
    run = verified(databases, tmp_path, PLAIN, PLAIN_NEW, PLAIN_MAPPING)
    run.source.sql("ALTER TYPE st RENAME VALUE 'a' TO 'z'")
    with pytest.raises(Blocked, match="item") as blocked:
        run.follow()
    assert blocked.value.step == "migrate --restart-table public.item"
    assert "'a', 'b'" in blocked.value.why
    assert "'z', 'b'" in blocked.value.why
    run.restart("item")
    assert run.verify().equal
    assert run.target.rows("SELECT DISTINCT kind FROM item") == [("z",)]


@pytest.mark.parametrize(
    ("old", "table"),
    [
        ("CREATE TABLE t (v text); INSERT INTO t VALUES ('old')", "keyless"),
        ("CREATE TABLE t (v text PRIMARY KEY); INSERT INTO t VALUES ('old')", "keyed"),
    ],
    ids=["keyless", "keyed"],
)
def test_a_table_replaced_by_renaming_is_another_table(
    databases: Databases, tmp_path: Path, old: str, table: str
) -> None:
    new = "CREATE TABLE t (v text PRIMARY KEY)" if table == "keyed" else "CREATE TABLE t (v text)"
    run = verified(databases, tmp_path, old, new)
    run.source.sql(
        "CREATE TABLE t2 (LIKE t INCLUDING ALL); INSERT INTO t2 SELECT 'new' || n FROM generate_series(1, 8) n;"
        " ALTER TABLE t RENAME TO t_old; ALTER TABLE t2 RENAME TO t"
    )
    with pytest.raises(Blocked):
        run.cutover()
    (tmp_path / "mapping.yaml").write_text("$omit: [t_old]\n")
    run.restart("t")
    assert run.verify().equal
    run.cutover()
    run.assert_same(t="SELECT * FROM t")


#: Tables, with the statements that create them.
ADDED = {
    "payments": "CREATE TABLE payments (id int PRIMARY KEY); INSERT INTO payments SELECT generate_series(1, 100)",
    "parts": "CREATE TABLE parts (id int) PARTITION BY HASH (id)",
    "late.charges": "CREATE SCHEMA late; CREATE TABLE late.charges (id int)",
    "alike": "CREATE TABLE alike (LIKE item)",
}


@pytest.mark.parametrize("when", ["setup", "verify"])
def test_table_created_during_the_run_blocks_it_until_it_is_omitted(
    databases: Databases, tmp_path: Path, when: str
) -> None:
    run = LiveRun(databases, tmp_path, PLAIN, PLAIN_NEW, PLAIN_MAPPING)
    run.setup()
    if when == "verify":
        run.migrate()
        assert run.verify().equal
    for number, (name, change) in enumerate(ADDED.items(), 1):
        run.source.sql(change)
        for command in (run.follow, run.cutover) if when == "verify" else (run.migrate,):
            with pytest.raises(Blocked, match="the set of the source's tables was changed") as blocked:
                command()
            assert name.rpartition(".")[2] in blocked.value.why
        (tmp_path / "mapping.yaml").write_text(f"{PLAIN_MAPPING}$omit: [{', '.join(list(ADDED)[:number])}]\n")
        run.migrate()
    assert run.verify().equal
    run.cutover()


def test_a_table_dropped_during_the_run_blocks_it(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(
        databases, tmp_path, f"{PLAIN} CREATE TABLE spare (id int)", PLAIN_NEW, f"{PLAIN_MAPPING}$omit: [spare]\n"
    )
    run.setup()
    run.migrate()
    run.source.sql("DROP TABLE spare")
    with pytest.raises(Blocked, match="tables was changed"):
        run.follow()


def test_a_large_object_created_during_the_run_blocks_it(databases: Databases, tmp_path: Path) -> None:
    run = verified(databases, tmp_path, PLAIN, PLAIN_NEW, PLAIN_MAPPING)
    run.source.sql("SELECT lo_from_bytea(0, 'late')")
    with pytest.raises(Blocked, match="large objects"):
        run.follow()
    (tmp_path / "mapping.yaml").write_text(f"{PLAIN_MAPPING}$large_objects: leave\n")
    run.migrate()
    assert run.verify().equal
    run.cutover()


def test_table_created_while_the_application_is_stopped_blocks_verify(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, PLAIN, PLAIN_NEW, PLAIN_MAPPING, capture=False)
    run.setup(capture=False)
    run.migrate()
    run.source.sql("CREATE TABLE payments (id int)")
    with pytest.raises(Blocked, match="tables was changed"):
        run.verify()


PARENTS = """
CREATE TABLE parent (id int PRIMARY KEY, mail text);
CREATE TABLE child (id int PRIMARY KEY, p int);
INSERT INTO parent SELECT n, 'Mail' || n FROM generate_series(1, 20) n;
INSERT INTO child SELECT n, n % 20 + 1 FROM generate_series(1, 100) n;
"""
PARENTS_NEW = """
CREATE TABLE parent (id int PRIMARY KEY, mail text);
CREATE TABLE child (id int PRIMARY KEY, p int);
CREATE TABLE audit (id int);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit VALUES (1); RETURN NULL; END';
"""
#: DDL in the target after the verification, and the statement that undoes it; without one the rows are compared again.
IN_THE_TARGET = {
    "a cascading key": (
        "ALTER TABLE child ADD CONSTRAINT late FOREIGN KEY (p) REFERENCES parent ON DELETE CASCADE",
        "ALTER TABLE child DROP CONSTRAINT late",
    ),
    "a trigger": (
        "CREATE TRIGGER late AFTER DELETE ON parent FOR EACH ROW EXECUTE FUNCTION noted()",
        "DROP TRIGGER late ON parent",
    ),
    "a rule": (
        "CREATE RULE late AS ON DELETE TO parent DO ALSO INSERT INTO audit VALUES (OLD.id)",
        "DROP RULE late ON parent",
    ),
    "a rewrite of values": ("ALTER TABLE parent ALTER COLUMN mail TYPE text USING lower(mail)", None),
}


@pytest.mark.parametrize(("change", "undo"), IN_THE_TARGET.values(), ids=IN_THE_TARGET)
def test_ddl_in_the_target_after_verification_blocks_the_next_pass(
    databases: Databases, tmp_path: Path, change: str, undo: str | None
) -> None:
    run = verified(databases, tmp_path, PARENTS, PARENTS_NEW)
    run.target.sql(change)
    run.source.sql("UPDATE parent SET mail = mail || '!' WHERE id <= 5")
    for command in (run.follow, run.cutover):
        with pytest.raises(Blocked, match="target table public"):
            command()
    assert run.target.value("SELECT count(*) FROM child") == 100
    assert run.target.value("SELECT count(*) FROM audit") == 0
    if undo is not None:
        run.target.sql(undo)
    else:
        assert not run.verify().equal
        run.verify(repair=True)
    run.follow()
    assert run.verify().equal
    run.cutover()
    run.assert_same(parent="SELECT * FROM parent", child="SELECT * FROM child")


def test_ddl_in_the_target_under_the_lock_stops_the_cutover(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last pass has no rows, so it does not check the target."""
    run = verified(databases, tmp_path, PARENTS, PARENTS_NEW)
    change, undo = IN_THE_TARGET["a trigger"]
    synchronise = cutover._synchronise

    def late(*args: Any) -> None:
        synchronise(*args)
        run.target.sql(change)

    monkeypatch.setattr(cutover, "_synchronise", late)
    with pytest.raises(Blocked, match=r"target table public\.parent"):
        run.cutover()
    monkeypatch.undo()
    assert run.open_sides("UPDATE parent SET mail = mail") == {"source"}
    assert run.target.value("SELECT cutover_phase FROM confiture.run") is None
    assert undo is not None
    run.target.sql(undo)
    run.cutover()


RENAMED = {
    "plain": "CREATE TABLE t (a int, id int PRIMARY KEY, v text)",
    "partitioned": "CREATE TABLE t (a int, id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
    " CREATE TABLE t1 (v text, gone int, id int NOT NULL, a int); ALTER TABLE t1 DROP COLUMN gone;"
    " ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (100000)",
}


@pytest.mark.parametrize("old", RENAMED.values(), ids=RENAMED)
def test_renaming_a_key_column_blocks_the_run_and_not_the_application(
    databases: Databases, tmp_path: Path, old: str
) -> None:
    rows = "INSERT INTO t SELECT -n, n, 'v' FROM generate_series(1, 50) n"
    run = verified(databases, tmp_path, f"{old}; {rows}", "CREATE TABLE t (a int, id int PRIMARY KEY, v text)")
    run.source.sql("UPDATE t SET v = 'before' WHERE id = 3; UPDATE t SET id = 60 WHERE id = 4")
    run.follow()
    run.assert_same(t="SELECT a, id, v FROM t")
    run.source.sql("ALTER TABLE t RENAME COLUMN id TO t_id")
    run.source.sql(
        "INSERT INTO t (a, t_id, v) VALUES (1, 1000, 'new'); UPDATE t SET v = 'u' WHERE t_id = 7;"
        " UPDATE t SET t_id = 2000 WHERE t_id = 8; DELETE FROM t WHERE t_id = 9"
    )
    with pytest.raises(Blocked, match="was changed"):
        run.follow()
    run.source.sql("ALTER TABLE t RENAME COLUMN t_id TO id")
    run.follow()
    run.assert_same(t="SELECT a, id, v FROM t")


def test_one_query_compares_a_thousand_tables(databases: Databases, tmp_path: Path) -> None:
    database = databases.make()
    database.sql(
        "CREATE SCHEMA confiture_00000000; DO $$ BEGIN FOR i IN 1..1000 LOOP"
        " EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text)', i); END LOOP; END $$"
    )
    with database.connect() as connection:
        refs = [TableRef("public", f"t{n}") for n in range(1, 1001)]
        session = Session(config.resolve(database.conninfo, tmp_path), "test")
        with session, session.transaction() as tx:
            source.create_table(tx, "confiture_00000000", "fingerprint")
            fingerprint.record(tx, "confiture_00000000", fingerprint.oids(tx, refs), fingerprint.MEANING)
        connection.execute("ALTER TABLE t500 ADD COLUMN more int")
        with session, session.transaction() as tx:
            counted: list[object] = []
            execute = psycopg.Connection.execute
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(psycopg.Connection, "execute", lambda *a, **k: (counted.append(a), execute(*a, **k))[1])
                found = fingerprint.changes(tx, "confiture_00000000", fingerprint.MEANING)
            assert [(str(c.table), c.kind) for c in found] == [("public.t500", "columns")]
            assert len(counted) == 1
            with pytest.raises(Refused):
                fingerprint.refuse_changed(tx, "confiture_00000000", "source", fingerprint.MEANING)
