"""Every write of the application during the run arrives, whichever statement makes it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

import schemas
from confiture.capture import triggers
from confiture.capture.triggers import Captured
from confiture.errors import Refused
from confiture.postgres.session import Transaction
from confiture.runner import context as runner_context
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE parent (id int PRIMARY KEY, code text UNIQUE, note text);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,
    up int REFERENCES child, body text, big text);
INSERT INTO parent SELECT n, 'c' || n, NULL FROM generate_series(1, 50) n;
INSERT INTO child SELECT n, 1 + n % 50, CASE WHEN n > 1 THEN n - 1 END, 'b' || n, repeat(md5(n::text), 200)
FROM generate_series(1, 200) n;
"""
NEW = """
CREATE TABLE parent (id bigint PRIMARY KEY, code text UNIQUE, remark text);
CREATE TABLE child (id bigint PRIMARY KEY, parent_id bigint REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,
    up bigint REFERENCES child, body text, big text);
CREATE INDEX ON child (parent_id);
"""
MAPPING = "parent:\n  note: remark\n"
WANTED = {
    "parent": "SELECT id, code, note FROM parent",
    "child": "SELECT id, parent_id, up, body, big FROM child",
}


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    """A run whose tables are copied and whose constraints are restored."""
    run = LiveRun(databases, tmp_path, OLD, NEW, MAPPING, chunk_rows=40)
    run.setup()
    run.migrate()
    return run


CASES = {
    "a changed value": "UPDATE parent SET note = 'n' WHERE id = 3; UPDATE child SET body = NULL WHERE id % 7 = 0",
    "NULL to a value and back": "UPDATE parent SET note = 'x'; UPDATE parent SET note = NULL WHERE id < 20",
    "a key update": "UPDATE parent SET id = id + 1000 WHERE id IN (2, 3)",
    "a swap of unique values": "UPDATE parent SET code = 'tmp' WHERE id = 1;"
    " UPDATE parent SET code = 'c1' WHERE id = 2; UPDATE parent SET code = 'c2' WHERE id = 1",
    "a swap of keys": "UPDATE parent SET id = -1 WHERE id = 1; UPDATE parent SET id = 1 WHERE id = 2;"
    " UPDATE parent SET id = 2 WHERE id = -1",
    "a cascade": "UPDATE child SET up = NULL; DELETE FROM parent WHERE id < 10",
    "a child that moves before its parent goes": "UPDATE child SET up = NULL; UPDATE child SET parent_id = 50"
    " WHERE parent_id = 5; DELETE FROM parent WHERE id = 5",
    "a delete and a re-insert": "DELETE FROM child WHERE id = 200; INSERT INTO child VALUES (200, 7, 3, 'again', NULL)",
    "a toasted value that is not changed": "UPDATE child SET body = body || '!' WHERE id < 50",
    "an upsert": "INSERT INTO parent VALUES (1, 'c1', 'u'), (999, 'c999', 'u')"
    " ON CONFLICT (id) DO UPDATE SET note = excluded.note",
    "a merge": "UPDATE child SET up = NULL;"
    " MERGE INTO parent p USING (VALUES (4, 'm'), (777, 'm')) v(id, n) ON p.id = v.id"
    " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'c' || v.id, v.n)",
    "a truncate and new rows": "TRUNCATE child; INSERT INTO child VALUES (5, 5, NULL, 'after', NULL)",
    "a truncate that cascades": "TRUNCATE parent CASCADE; INSERT INTO parent VALUES (1, 'only', NULL)",
    "a reversed self reference": "UPDATE child SET up = CASE WHEN id < 200 THEN id + 1 END",
}


def run_of_every_case(databases: Databases, folder: Path) -> LiveRun:
    """A run of the two tables once for each case."""
    old, new = (schemas.create_each([tables] * len(CASES)) for tables in (OLD, NEW))
    mapping = "".join(f"{schemas.named(number)}.{MAPPING}" for number in range(len(CASES)))
    return LiveRun(databases, folder, old, new, mapping, chunk_rows=40)


def assert_every_case_arrived(run: LiveRun) -> None:
    for number, name in enumerate(CASES):
        for table, columns in (("parent", "id, code, note"), ("child", "id, parent_id, up, body, big")):
            place = f"{schemas.named(number)}.{table}"
            wanted, found = run.source.rows(f"SELECT {columns} FROM {place}"), run.target.rows(f"SELECT * FROM {place}")
            assert sorted(map(str, found)) == sorted(map(str, wanted)), (name, table)


def test_a_change_after_the_copy_arrives(databases: Databases, tmp_path: Path) -> None:
    run = run_of_every_case(databases, tmp_path)
    run.setup()
    run.migrate()
    run.source.sql(schemas.in_each(CASES.values()))
    run.follow()
    assert_every_case_arrived(run)
    assert run.verify().equal


def test_a_change_between_setup_and_the_copy_arrives(databases: Databases, tmp_path: Path) -> None:
    run = run_of_every_case(databases, tmp_path)
    run.setup()
    run.source.sql(schemas.in_each(CASES.values()))
    run.migrate()
    assert_every_case_arrived(run)


def test_rows_copied_into_the_source_arrive(live: LiveRun) -> None:
    with live.source.connect() as writer, writer.cursor().copy("COPY parent FROM STDIN") as copy:
        copy.write("5000\tcopied\t\\N\n")
    live.follow()
    live.assert_same(**WANTED)


def test_a_transaction_that_commits_after_a_whole_pass_is_not_missed(live: LiveRun) -> None:
    with psycopg.connect(live.source.conninfo) as late:
        late.execute("INSERT INTO parent VALUES (6000, 'late', NULL)")
        live.source.sql("INSERT INTO parent VALUES (6001, 'early', NULL)")
        live.follow()
        assert live.target.value("SELECT count(*) FROM parent WHERE id = 6000") == 0
        late.commit()
    live.follow()
    live.assert_same(**WANTED)


def test_a_prepared_transaction_arrives_when_it_is_committed(live: LiveRun) -> None:
    live.source.sql("BEGIN; UPDATE parent SET note = 'prepared' WHERE id = 8; PREPARE TRANSACTION 'p'")
    try:
        live.follow()
        assert live.target.value("SELECT remark FROM parent WHERE id = 8") is None
    finally:
        live.source.sql("COMMIT PREPARED 'p'")
    live.follow()
    live.assert_same(**WANTED)


def test_an_empty_pass_moves_nothing(live: LiveRun) -> None:
    assert live.follow() == 0


def test_role_without_privileges_on_the_run_schema_can_still_write(live: LiveRun) -> None:
    live.source.sql("CREATE ROLE plain_app; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON parent TO plain_app")
    try:
        with live.source.connect() as app:
            app.execute("SET ROLE plain_app")
            app.execute("UPDATE parent SET note = 'mine' WHERE id = 2")
            schema = live.source.run_schema
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(f"SELECT * FROM {schema}.log0002")
    finally:
        live.source.sql("DROP OWNED BY plain_app; DROP ROLE plain_app")
    live.follow()
    live.assert_same(**WANTED)


def test_a_disabled_capture_trigger_blocks_the_run(live: LiveRun) -> None:
    live.source.sql("ALTER TABLE parent DISABLE TRIGGER USER")
    with pytest.raises(Refused, match=r"public.parent was changed during the run"):
        live.follow()


def test_the_target_accepts_writes_from_confiture_only(live: LiveRun) -> None:
    for statement in ("UPDATE parent SET remark = 'no'", "DELETE FROM child", "TRUNCATE child"):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            live.target.sql(statement)


SPLIT_OLD = """
CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL, street text, gone boolean NOT NULL DEFAULT false);
INSERT INTO person SELECT n, 'p' || n, 's' || n, n % 5 = 0 FROM generate_series(1, 100) n;
"""
SPLIT_NEW = """
CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE address (person_id int PRIMARY KEY REFERENCES person, street text);
"""
SPLIT_MAPPING = """
person:
  $where: "NOT gone"
  $omit: [gone]
address:
  $from: person
  $where: "NOT gone AND street IS NOT NULL"
  id: person_id
  $omit: [name, gone]
"""


def test_a_split_follows_rows_in_and_out_of_its_condition(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, SPLIT_OLD, SPLIT_NEW, SPLIT_MAPPING, chunk_rows=30)
    run.setup()
    run.migrate()
    run.source.sql(
        "UPDATE person SET gone = NOT gone WHERE id < 30; UPDATE person SET street = NULL WHERE id = 50;"
        " INSERT INTO person VALUES (500, 'new', 'street'); DELETE FROM person WHERE id = 60"
    )
    run.follow()
    run.assert_same(
        person="SELECT id, name FROM person WHERE NOT gone",
        address="SELECT id, street FROM person WHERE NOT gone AND street IS NOT NULL",
    )


PARTITIONED = """
CREATE TABLE log (id int, day date, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE log_a PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE log_b PARTITION OF log FOR VALUES FROM ('2024-02-01') TO ('2024-03-01') PARTITION BY HASH (id);
CREATE TABLE log_b0 PARTITION OF log_b FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE log_b1 PARTITION OF log_b FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO log SELECT n, date '2024-01-01' + n % 60, 'w' || n FROM generate_series(1, 300) n WHERE n % 60 < 59;
"""


def test_rows_move_between_partitions_of_every_level(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(
        databases, tmp_path, PARTITIONED, "CREATE TABLE log (id int, day date, what text, PRIMARY KEY (id, day))"
    )
    run.setup()
    run.migrate()
    run.source.sql(
        "UPDATE log SET day = day + 31 WHERE day < '2024-01-20'; UPDATE log_b0 SET what = 'leaf';"
        " DELETE FROM log_b WHERE id % 9 = 0; INSERT INTO log_a VALUES (9000, '2024-01-05', 'direct'); TRUNCATE log_b1"
    )
    run.follow()
    run.assert_same(log="SELECT id, day, what FROM log")


@pytest.mark.parametrize("table", ["log", "log_b"])
def test_a_partitioned_table_is_truncated_on_either_side(databases: Databases, tmp_path: Path, table: str) -> None:
    """It has no storage of its own that could be recorded. Only its leaves have."""
    run = LiveRun(databases, tmp_path, PARTITIONED, PARTITIONED.partition("INSERT")[0])
    run.setup()
    run.migrate()
    run.source.sql(f"TRUNCATE {table}; INSERT INTO log VALUES (1, '2024-02-05', 'after')")
    run.follow()
    run.assert_same(log="SELECT * FROM log")
    assert run.verify().equal
    run.cutover()
    run.target.sql(f"INSERT INTO log VALUES (2, '2024-02-05', 'new'); TRUNCATE {table}")
    run.rollback()
    run.assert_same(log="SELECT * FROM log")
    assert not run.source.value("SELECT count(*) FROM log_b")


class Died(Exception):
    """Ends a command as if the process were killed."""


def set_up_after(run: LiveRun, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """Run setup. A table changes between its plan and its capture, and the process dies directly after the capture."""

    def install(tx: Transaction, item: Captured) -> None:
        run.source.sql(statement)
        monkeypatch.setattr(triggers, "install", genuine)
        genuine(tx, item)

    def die(name: str) -> None:
        if name == "capture.after_commit":
            raise Died

    genuine = triggers.install
    monkeypatch.setattr(triggers, "install", install)
    with monkeypatch.context() as deadly:
        deadly.setattr(runner_context, "failpoint", die)
        with pytest.raises(Died):
            run.setup()
    run.setup()


def test_a_table_emptied_between_its_plan_and_its_capture_is_copied(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = LiveRun(databases, tmp_path, PARTITIONED, "CREATE TABLE log (id int PRIMARY KEY, day date, what text)")
    set_up_after(run, monkeypatch, "TRUNCATE log_a, log_b1; INSERT INTO log_a VALUES (1, '2024-01-05', 'after')")
    run.migrate()
    run.assert_same(log="SELECT id, day, what FROM log")


def test_column_added_between_the_plan_and_capture_blocks_the_run(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW, MAPPING)
    set_up_after(run, monkeypatch, "ALTER TABLE parent ADD COLUMN extra int NOT NULL DEFAULT 1")
    with pytest.raises(Refused, match=r"source table public\.parent was changed during the run"):
        run.migrate()


def test_table_without_a_key_is_refused_while_the_application_writes(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, "CREATE TABLE plain (a int)", "CREATE TABLE plain (a int)", recopy_mb=-1)
    with pytest.raises(Refused, match="writes cannot be captured"):
        run.setup()


def test_without_capture_no_trigger_is_created_on_the_source_tables(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW, MAPPING)
    run.setup(capture=False)
    run.migrate()
    assert run.source.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz%'") == 0


def test_publication_of_the_log_does_not_prevent_deletes_of_log_rows(live: LiveRun) -> None:
    """Rows of a published table without replica identity cannot be deleted."""
    logs = live.source.rows(
        "SELECT oid::regclass::text FROM pg_class WHERE relname ~ '^log[0-9]{4}$' AND relkind = 'r'"
    )
    live.source.sql(f"CREATE PUBLICATION every_log FOR TABLE {', '.join(name for (name,) in logs)}")
    live.source.sql("UPDATE parent SET note = 'published' WHERE id < 5")
    live.follow()
    live.assert_same(**WANTED)
