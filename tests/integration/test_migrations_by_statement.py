"""Migrations without a transaction: killed between and during statements, failed, edited, and continued."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from forked import Forks, Running, until
from migrating import NO_TRANSACTION, MigrationProject
from servers import Databases

BUILD = NO_TRANSACTION + "CREATE INDEX CONCURRENTLY by_name ON item (name);\nINSERT INTO done VALUES (2)"
INDEX = "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass('by_name')"


@pytest.fixture
def project(tmp_path: Path, databases: Databases, forks: Forks) -> MigrationProject:
    database = databases.cloned(
        "CREATE TABLE item (id int PRIMARY KEY, name text);"
        "INSERT INTO item SELECT n, 'n' || n FROM generate_series(1, 50) n;"
        "CREATE TABLE done (n int); CREATE SCHEMA app"
    )
    return MigrationProject(tmp_path, database, forks)


def numbers(project: MigrationProject) -> list[int]:
    """The statements that ran, each of which inserts its number once."""
    return [n for (n,) in project.database.rows("SELECT n FROM done ORDER BY n")]


def statements(*numbers: int) -> str:
    return NO_TRANSACTION + ";\n".join(f"INSERT INTO done VALUES ({n})" for n in numbers)


def waiting(project: MigrationProject, words: str) -> bool:
    """Whether a session of the command waits for a lock in a statement that begins with the words."""
    query = f"SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '{words}%'"
    return bool(project.database.rows(query + " AND datname = current_database()"))


def until_waiting(project: MigrationProject, running: Running, words: str) -> None:
    until(lambda: waiting(project, words) or not running.alive, f"{words} to wait")


def test_a_failed_migration_continues_behind_its_last_statement(project: MigrationProject) -> None:
    project.write(1, statements(1, 2) + ";\nINSERT INTO nowhere VALUES (3);\nINSERT INTO done VALUES (4)")
    err = project.run("up", code=5).err
    assert "20260101000001_m.up.sql:4:13: the server rejects a statement" in err
    assert "the statements before it are done and do not run again" in err
    assert "20260101000001_m  unfinished (up): 2 statements done" in project.run("status", code=2).out
    project.write(1, statements(1, 2, 3, 4))
    project.run("up")
    assert numbers(project) == [1, 2, 3, 4]
    assert project.standings() == {1: "applied"}


def test_a_statement_that_is_done_cannot_be_edited(project: MigrationProject) -> None:
    project.write(1, statements(1, 2) + ";\nINSERT INTO nowhere VALUES (3)")
    project.run("up", code=5)
    project.write(1, statements(1, 20, 3))
    err = project.run("up", code=4).err
    assert "20260101000001_m.up.sql:3:1: statement 2 was edited" in err
    project.write(1, statements(1))
    assert "statement 2 is missing" in project.run("up", code=4).err
    project.write(1, statements(1, 2).removeprefix(NO_TRANSACTION))
    assert "restore its first line: -- confiture: no-transaction" in project.run("up", code=4).err
    assert numbers(project) == [1, 2]


def test_an_unfinished_migration_can_be_reverted(project: MigrationProject) -> None:
    project.write(1, statements(1) + ";\nINSERT INTO nowhere VALUES (2)", "DELETE FROM done")
    project.run("up", code=5)
    project.run("down")
    assert (numbers(project), project.standings()) == ([], {1: "pending"})


def test_a_partly_reverted_migration_is_finished_by_down(project: MigrationProject) -> None:
    project.write(1, statements(1), NO_TRANSACTION + "DELETE FROM done;\nDROP TABLE nowhere")
    project.run("up")
    project.run("down", code=5)
    assert "revert it completely" in project.run("up", code=4).err
    assert "Next: confiture migrate down --target prod" in project.run("status", code=2).out
    project.write(1, statements(1), NO_TRANSACTION + "DELETE FROM done")
    project.run("down")
    assert project.standings() == {1: "pending"}


@pytest.mark.parametrize(
    "point",
    ["migration.begun.before_commit", "migration.begun.after_commit", "statement.before_commit:2",
     "statement.after_commit:2",
     "statement.begun.before_commit", "statement.begun.after_commit", "statement.ran",
     "statement.done.before_commit", "statement.done.after_commit",
     "migration.finished.before_commit", "migration.finished.after_commit", "state.complete.before_commit"],
)  # fmt: skip
def test_a_killed_migration_runs_each_statement_once(project: MigrationProject, point: str) -> None:
    up = statements(1, 2) + ";\nCREATE INDEX CONCURRENTLY by_name ON item (name);\nINSERT INTO done VALUES (3)"
    project.write(1, up, NO_TRANSACTION + "DROP INDEX CONCURRENTLY by_name;\nDELETE FROM done")
    project.killed_at(point)
    project.run("up")
    assert (numbers(project), project.database.rows(INDEX)) == ([1, 2, 3], [(True,)])
    assert (project.standings(), project.run_state) == ({1: "applied"}, "cleaned")
    project.killed_at("statement.ran", "down")
    project.run("down")
    assert (numbers(project), project.database.rows(INDEX)) == ([], [])


def test_an_invalid_index_of_a_killed_build_is_built_again(project: MigrationProject) -> None:
    project.write(1, BUILD)
    with project.database.connect() as other:
        with other.transaction():
            other.execute("UPDATE item SET name = 'x' WHERE id = 1")
            running = project.start("up")
            until_waiting(project, running, "CREATE INDEX")
            running.signal(signal.SIGKILL)
            running.wait()
        # The server process of the killed command still builds, or has left the index.
        again = project.run("up")
    assert "index by_name" in again.err
    assert (project.database.rows(INDEX), numbers(project)) == ([(True,)], [2])
    resolution = "SELECT resolution FROM confiture.ledger_statement WHERE number = 1"
    assert project.database.rows(resolution) in ([(None,)], [("index by_name is valid: done",)])


def test_an_invalid_index_is_dropped_and_built_again(project: MigrationProject) -> None:
    project.write(1, BUILD)
    project.killed_at("statement.begun.after_commit")
    project.database.sql("CREATE INDEX by_name ON item (name)")
    project.database.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_name'::regclass")
    assert "index by_name was invalid: dropped, it is built again" in project.run("up").err
    assert project.database.rows(INDEX) == [(True,)]


def test_a_kill_while_an_invalid_index_is_dropped_is_continued(project: MigrationProject) -> None:
    project.write(1, BUILD)
    project.killed_at("statement.begun.after_commit")
    project.database.sql("CREATE INDEX by_name ON item (name)")
    project.database.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_name'::regclass")
    project.killed_at("index.dropping")
    project.run("up")
    assert (project.database.rows(INDEX), numbers(project)) == ([(True,)], [2])


def test_a_statement_found_to_be_done_is_found_again_after_a_kill(project: MigrationProject) -> None:
    project.write(1, BUILD)
    project.killed_at("statement.ran")
    project.killed_at("statement.resolved.before_commit")
    assert "index by_name is valid: done" in project.run("up").err
    assert (project.database.rows(INDEX), numbers(project)) == ([(True,)], [2])


def test_a_failure_that_a_kill_left_unrecorded_is_met_again(project: MigrationProject) -> None:
    project.write(1, NO_TRANSACTION + "CREATE UNIQUE INDEX CONCURRENTLY by_name ON item ((id % 2))")
    project.killed_at("statement.failed.before_commit")
    assert "could not create unique index" in project.run("up", code=5).err
    assert project.database.rows(INDEX) == []
    project.write(1, BUILD)
    project.run("up")
    assert (project.database.rows(INDEX), numbers(project)) == ([(True,)], [2])


def test_a_build_that_fails_leaves_nothing_and_may_be_edited(project: MigrationProject) -> None:
    project.write(1, NO_TRANSACTION + "CREATE UNIQUE INDEX CONCURRENTLY by_name ON item ((id % 2))")
    assert "could not create unique index" in project.run("up", code=5).err
    assert project.database.rows(INDEX) == []
    project.write(1, NO_TRANSACTION + "CREATE UNIQUE INDEX CONCURRENTLY by_name ON item (name)")
    project.run("up")
    assert project.database.rows(INDEX) == [(True,)]


def test_an_invalid_index_is_not_taken_for_one_that_exists(project: MigrationProject) -> None:
    project.database.sql("CREATE INDEX by_name ON item (name)")
    project.database.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_name'::regclass")
    project.write(1, NO_TRANSACTION + "CREATE INDEX CONCURRENTLY IF NOT EXISTS by_name ON item (name)")
    assert "existed and is invalid: dropped" in project.run("up").err
    assert project.database.rows(INDEX) == [(True,)]


def test_a_build_beside_a_long_transaction_waits_and_names_it(project: MigrationProject) -> None:
    project.write(1, BUILD)
    with project.database.connect(application_name="shop") as other:
        with other.transaction():
            other.execute("UPDATE item SET name = 'x' WHERE id = 1")
            running = project.start("up", "--lock-timeout", "0.5s", heartbeat=0.2)
            running.until_said(f"waiting for pid {other.info.backend_pid} (postgres, shop, idle in transaction")
            # Neither readers nor writers wait for the build, and no session of the command has a transaction open.
            with project.database.connect() as application:
                application.execute("SET lock_timeout = '5s'; UPDATE item SET name = 'y' WHERE id = 2")
            ours = "application_name LIKE 'confiture%' AND datname = current_database()"
            open_for = f"SELECT count(*) FROM pg_stat_activity WHERE {ours} AND xact_start < now() - interval "
            until(
                lambda: project.database.value(f"{open_for} '1.5 s'") == 1, "the build to wait beyond the lock timeout"
            )
            until(lambda: project.database.value(f"{open_for} '0.4 s'") == 1, "only the build to have a transaction")
            advisory = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert project.database.value(advisory + " AND database = (SELECT oid FROM pg_database"
                                          " WHERE datname = current_database())") == 0  # fmt: skip
        ended = running.wait()
    assert (ended.code, "trying again" in ended.err) == (0, False)
    assert (project.database.rows(INDEX), numbers(project)) == ([(True,)], [2])


def test_a_dropped_index_is_found_to_be_dropped(project: MigrationProject) -> None:
    project.database.sql("CREATE INDEX by_name ON item (name)")
    project.write(1, NO_TRANSACTION + "DROP INDEX CONCURRENTLY by_name;\nINSERT INTO done VALUES (2)")
    project.killed_at("statement.ran")
    assert "by_name does not exist: done" in project.run("up").err
    assert numbers(project) == [2]


def test_a_partition_is_detached_after_a_kill(project: MigrationProject) -> None:
    project.database.sql(
        "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE c PARTITION OF p FOR VALUES IN (1);"
        "INSERT INTO p VALUES (1)"
    )
    project.write(1, NO_TRANSACTION + "ALTER TABLE p DETACH PARTITION c CONCURRENTLY;\nINSERT INTO done VALUES (2)")
    with project.database.connect() as other:
        with other.transaction():
            other.execute("SELECT FROM p")
            err = project.run("up", "--lock-timeout", "2s", "--give-up-after", "0", code=6).err
            assert f"pid {other.info.backend_pid}" in err
            pending = "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'c'::regclass"
            assert project.database.rows(pending) == [(True,)]
        assert "the detachment of c was finalized: done" in project.run("up").err
    assert (project.database.rows(pending), numbers(project)) == ([], [2])


def test_indexes_left_by_an_interrupted_reindex_are_dropped(project: MigrationProject) -> None:
    project.database.sql("CREATE INDEX by_name ON item (name); CREATE INDEX by_name_ccnew ON item (name)")
    project.write(1, NO_TRANSACTION + "REINDEX TABLE CONCURRENTLY item")
    project.killed_at("statement.begun.after_commit")
    project.database.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_name_ccnew'::regclass")
    assert "dropped public.by_name_ccnew" in project.run("up").err
    assert project.database.rows(INDEX) == [(True,)]
    assert project.database.value("SELECT to_regclass('by_name_ccnew') IS NULL")


def test_the_operator_decides_about_a_procedure_that_commits(project: MigrationProject) -> None:
    project.database.sql("CREATE PROCEDURE work() LANGUAGE plpgsql AS 'BEGIN INSERT INTO done VALUES (1); COMMIT; END'")
    project.write(1, NO_TRANSACTION + "CALL work();\nINSERT INTO done VALUES (2)")
    project.killed_at("statement.ran")
    assert "nothing shows whether it is done" in project.run("up", code=4).err
    project.run("up", "--in-doubt", "done")
    assert numbers(project) == [1, 2]


def test_settings_apply_again_when_a_migration_continues(project: MigrationProject) -> None:
    project.write(
        1,
        NO_TRANSACTION + "SET search_path = app;\nCREATE TABLE t (a int);\nCREATE INDEX CONCURRENTLY i ON t (a);\n"
        "CREATE INDEX CONCURRENTLY j ON t (a);\nCREATE TABLE u ()",
    )
    project.killed_at("statement.ran")
    project.run("up")
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'app'::regnamespace ORDER BY 1"
    assert [name for (name,) in project.database.rows(query)] == ["i", "j", "t", "u"]


def test_a_type_gets_its_value_before_the_value_is_used(project: MigrationProject) -> None:
    project.database.sql("CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE m (mood mood)")
    project.write(1, NO_TRANSACTION + "ALTER TYPE mood ADD VALUE 'glad';\nINSERT INTO m VALUES ('glad')")
    project.killed_at("statement.after_commit")
    project.run("up")
    assert project.database.rows("SELECT mood::text FROM m") == [("glad",)]


def test_a_second_signal_cancels_the_wait_and_the_next_command_continues(project: MigrationProject) -> None:
    project.write(1, BUILD)
    with project.database.connect() as other:
        with other.transaction():
            other.execute("UPDATE item SET name = 'x' WHERE id = 1")
            running = project.start("up")
            until_waiting(project, running, "CREATE INDEX")
            running.interrupt_twice()
            assert running.wait().code == 130
        project.run("up")
    assert (project.database.rows(INDEX), numbers(project)) == ([(True,)], [2])


def test_migrations_run_on_an_older_server(tmp_path: Path, old_databases: Databases, forks: Forks) -> None:
    database = old_databases.cloned("CREATE TABLE item (id int, name text); CREATE TABLE done (n int)")
    project = MigrationProject(tmp_path, database, forks)
    project.write(1, "ALTER TABLE item ADD a int", "ALTER TABLE item DROP a")
    project.write(2, BUILD, NO_TRANSACTION + "DROP INDEX CONCURRENTLY by_name;\nDELETE FROM done")
    assert project.json("up", "--dry-run")["migrations"][0]["statements"][0]["locks"][0]["mode"] == "ACCESS EXCLUSIVE"
    project.killed_at("statement.ran")
    project.run("up")
    assert (numbers(project), project.database.rows(INDEX)) == ([2], [(True,)])
    project.run("down", "--to", "0")
    assert (numbers(project), project.database.rows(INDEX)) == ([], [])
