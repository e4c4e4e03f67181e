"""The write block: one function closes a database to every kind of write, on every leaf and for every snapshot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from confiture import config
from confiture.capture import write_block
from confiture.errors import Blocked
from confiture.journal import source
from confiture.postgres.session import Session
from forked import until
from live import LiveRun
from servers import Databases, TestDatabase

SCHEMA = "confiture_00000000"
TABLES = """
CREATE TABLE plain (id int PRIMARY KEY, n int);
CREATE TABLE parted (id int, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE other (id int PRIMARY KEY);
INSERT INTO plain SELECT n, n FROM generate_series(1, 10) n;
INSERT INTO parted SELECT n, n FROM generate_series(1, 10) n;
INSERT INTO other SELECT generate_series(1, 10);
CREATE FUNCTION writes() RETURNS void LANGUAGE plpgsql AS 'BEGIN UPDATE plain SET n = 0 WHERE id = 2; END';
"""
CLOSED = psycopg.errors.ReadOnlySqlTransaction


class Blocking:
    """A database with the write block's triggers, open until :meth:`close`."""

    def __init__(self, database: TestDatabase, folder: Path) -> None:
        self.database = database
        database.sql(f"CREATE SCHEMA {SCHEMA}")
        self.session = Session(config.resolve(database.conninfo, folder), "test")
        with self.session.transaction() as tx:
            source.create_table(tx, SCHEMA, "fingerprint")
            write_block.unblock(tx, SCHEMA)
            for name in ("plain", "parted", "other"):
                write_block.install(tx, SCHEMA, [config_ref(name)])

    def close(self) -> None:
        """Close the database as a cutover does, under a lock that waits for writers."""
        with self.session.transaction() as tx:
            tx.pg.execute("LOCK TABLE public.plain, public.parted, public.other IN SHARE ROW EXCLUSIVE MODE")
            write_block.block(tx, SCHEMA, "closed", "elsewhere")


def config_ref(name: str) -> write_block.TableRef:
    return write_block.TableRef("public", name)


@pytest.fixture(params=["databases", "old_databases"], ids=["newest", "old"])
def blocking(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blocking]:
    """A database with the write block, on each of both servers."""
    made: Databases = request.getfixturevalue(request.param)
    found = Blocking(made.cloned(TABLES), tmp_path)
    yield found
    found.session.close()


WRITES = {
    "insert": "INSERT INTO plain VALUES (100, 1)",
    "update": "UPDATE plain SET n = 5",
    "delete": "DELETE FROM plain",
    "truncate": "TRUNCATE plain",
    "truncate with others": "TRUNCATE other, plain",
    "merge": "MERGE INTO plain p USING other o ON p.id = o.id WHEN MATCHED THEN UPDATE SET n = 7",
    "merge that inserts": "MERGE INTO plain p USING (SELECT 500 AS id) o ON p.id = o.id"
    " WHEN NOT MATCHED THEN INSERT VALUES (o.id, 1)",
    "a leaf by its name": "INSERT INTO leaf VALUES (100, 50)",
    "a leaf through its root": "INSERT INTO parted VALUES (101, 51)",
    "truncate of a leaf": "TRUNCATE leaf",
    "insert select": "INSERT INTO plain SELECT id + 1000, 1 FROM other",
    "a function": "SELECT writes()",
    "a statement with a CTE": "WITH gone AS (DELETE FROM other RETURNING id) SELECT count(*) FROM gone",
    "on conflict": "INSERT INTO plain VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = 9",
    "without user triggers": "SET session_replication_role = replica; UPDATE plain SET n = 3",
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_closed_database_refuses_each_way_of_writing(blocking: Blocking, write: str) -> None:
    with blocking.database.connect(autocommit=False) as before:
        before.execute(write.encode())
        before.rollback()
    blocking.close()
    with pytest.raises(CLOSED, match="closed"):
        blocking.database.sql(write)


def test_copy_is_refused_at_its_first_row_and_at_its_last(blocking: Blocking) -> None:
    blocking.close()
    for rows in ("100\t1\n", "".join(f"{n}\t1\n" for n in range(100, 5000))):
        with blocking.database.connect() as connection, pytest.raises(CLOSED):
            with connection.cursor().copy("COPY plain FROM STDIN") as copy:
                copy.write(rows)
    assert blocking.database.value("SELECT count(*) FROM plain") == 10


OLDER = {
    "repeatable read": psycopg.IsolationLevel.REPEATABLE_READ,
    "serializable": psycopg.IsolationLevel.SERIALIZABLE,
    "read committed": psycopg.IsolationLevel.READ_COMMITTED,
}


@pytest.mark.parametrize("isolation", OLDER.values(), ids=OLDER)
def test_a_transaction_that_began_before_the_closing_is_refused(
    blocking: Blocking, isolation: psycopg.IsolationLevel
) -> None:
    with blocking.database.connect(autocommit=False) as older:
        older.isolation_level = isolation
        older.execute("SELECT count(*) FROM other")
        blocking.close()
        with pytest.raises(CLOSED):
            older.execute("UPDATE plain SET n = 5 WHERE id = 1")


def test_prepared_statements_and_compiled_functions_are_refused(blocking: Blocking) -> None:
    """The session has already fired the trigger, so it has cached the compiled function."""
    with blocking.database.connect() as connection:
        connection.execute("PREPARE p AS UPDATE plain SET n = n + 1 WHERE id = 1")
        connection.execute("EXECUTE p")
        connection.execute("SELECT writes()")
        blocking.close()
        for statement in ("EXECUTE p", "SELECT writes()"):
            with pytest.raises(CLOSED):
                connection.execute(statement)


def test_a_statement_that_runs_during_the_closing_is_refused(blocking: Blocking) -> None:
    """One statement writes to a table without a write block, waits, and then writes to a table that is closed."""
    blocking.database.sql(
        "CREATE TABLE free (n int); CREATE FUNCTION slowly() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO free VALUES (1); PERFORM pg_advisory_lock(7); UPDATE plain SET n = 0; END $$"
    )
    failed: list[BaseException] = []
    with blocking.database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        runner = threading.Thread(target=_run, args=(blocking.database, "SELECT slowly()", failed.append))
        runner.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%slowly%'"
        until(lambda: blocking.database.rows(waits), "the statement waiting")
        blocking.close()
    runner.join(timeout=60)
    assert [type(error) for error in failed] == [CLOSED]


def test_a_writer_that_waits_for_the_lock_is_refused_afterwards(blocking: Blocking) -> None:
    failed: list[BaseException] = []
    with blocking.session.transaction() as tx:
        tx.pg.execute("LOCK TABLE public.plain, public.parted IN SHARE ROW EXCLUSIVE MODE")
        writer = threading.Thread(target=_run, args=(blocking.database, "UPDATE plain SET n = 1", failed.append))
        writer.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE plain%'"
        until(lambda: blocking.database.rows(waits), "the writer waiting")
        write_block.block(tx, SCHEMA, "closed", "elsewhere")
    writer.join(timeout=60)
    assert [type(error) for error in failed] == [CLOSED]


def _run(database: TestDatabase, statement: str, failed: Callable[[BaseException], None]) -> None:
    try:
        database.sql(statement)
    except psycopg.Error as error:
        failed(error)


def test_a_partition_that_is_attached_later_is_also_closed(blocking: Blocking) -> None:
    blocking.close()
    blocking.database.sql(
        "CREATE TABLE late (id int, d int, PRIMARY KEY (id, d));"
        " ALTER TABLE parted ATTACH PARTITION late FOR VALUES FROM (100) TO (200)"
    )
    for write in ("INSERT INTO late VALUES (1, 150)", "INSERT INTO parted VALUES (1, 150)"):
        with pytest.raises(CLOSED):
            blocking.database.sql(write)


def test_a_database_accepts_writes_again_after_the_opening(blocking: Blocking) -> None:
    blocking.close()
    with blocking.session.transaction() as tx:
        write_block.unblock(tx, SCHEMA)
    blocking.database.sql("UPDATE plain SET n = 3; TRUNCATE leaf; INSERT INTO parted VALUES (200, 5)")
    with blocking.session.transaction() as tx:
        assert not write_block.is_blocked(tx, SCHEMA)
        assert write_block.is_intact(tx, SCHEMA)


DAMAGES = {
    "triggers of a leaf disabled and enabled": "ALTER TABLE leaf DISABLE TRIGGER ALL;"
    " ALTER TABLE leaf ENABLE TRIGGER ALL",
    "triggers of the root dropped": "DO $$ DECLARE n name; BEGIN FOR n IN SELECT tgname FROM pg_trigger WHERE tgrelid ="
    " 'parted'::regclass AND NOT tgisinternal LOOP EXECUTE format('DROP TRIGGER %I ON parted', n); END LOOP; END $$",
    "a partition attached": "CREATE TABLE late (id int, d int, PRIMARY KEY (id, d));"
    " ALTER TABLE parted ATTACH PARTITION late FOR VALUES FROM (100) TO (200)",
    "a partition detached": "ALTER TABLE parted DETACH PARTITION leaf",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_every_change_that_may_have_permitted_a_write_is_detected(blocking: Blocking, damage: str) -> None:
    blocking.close()
    blocking.database.sql(damage)
    with blocking.session.transaction() as tx, pytest.raises(Blocked, match="damaged"):
        write_block.refuse_damaged(tx, SCHEMA, "source")


def test_follow_and_rollback_detect_a_leaf_that_permitted_writes(databases: Databases, tmp_path: Path) -> None:
    old = TABLES.partition("CREATE FUNCTION")[0]
    run = LiveRun(databases, tmp_path, old, old.partition("INSERT")[0])
    run.through()
    run.source.sql(
        "ALTER TABLE leaf DISABLE TRIGGER ALL; INSERT INTO leaf VALUES (5000, 7); ALTER TABLE leaf ENABLE TRIGGER ALL"
    )
    for command in (run.follow, run.rollback):
        with pytest.raises(Blocked, match="write block of the source was damaged") as blocked:
            command()
        assert blocked.value.step == "verify --again"
    found = run.verify()
    assert [d.kind for d in found.differences] == ["not in source"] or not found.equal
    assert not run.verify(repair=True).differences
    run.rollback()
    assert run.source.rows("SELECT 1 FROM parted WHERE id = 5000") == []


def test_closing_takes_one_statement_for_any_number_of_tables(databases: Databases, tmp_path: Path) -> None:
    database = databases.cloned(TABLES)
    blocking = Blocking(database, tmp_path)
    counted: list[object] = []
    execute = psycopg.Connection.execute
    with blocking.session.transaction() as tx, pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Connection, "execute", lambda *a, **k: (counted.append(a), execute(*a, **k))[1])
        write_block.block(tx, SCHEMA, "closed", "elsewhere")
    assert len(counted) == 1
    blocking.session.close()
