"""Incremental migrations: applied, reverted, refused, failed and repeated, on a real server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import psycopg
import pytest

from confiture.postgres.embedded import bundled
from conftest import ROOT
from forked import Forks, until
from migrating import NO_TRANSACTION, MigrationProject
from servers import Databases, TestDatabase


@pytest.fixture
def project(tmp_path: Path, databases: Databases, forks: Forks) -> MigrationProject:
    database = databases.cloned(
        "CREATE TABLE customer (id serial PRIMARY KEY, name text);"
        "INSERT INTO customer (name) SELECT 'n' || n FROM generate_series(1, 100) n; ANALYZE customer"
    )
    return MigrationProject(tmp_path, database, forks)


def columns(database: TestDatabase, table: str = "customer") -> list[str]:
    query = f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
    return [name for (name,) in database.rows(query)]


def dumped(database: TestDatabase) -> str:
    done = subprocess.run(
        [str(bundled() / "pg_dump"), database.conninfo], capture_output=True, text=True, check=True, timeout=60
    )
    return "\n".join(line for line in done.stdout.splitlines() if "restrict" not in line)


def test_migrations_are_applied_and_reverted_in_order(project: MigrationProject) -> None:
    project.write(1, "ALTER TABLE customer ADD email text", "ALTER TABLE customer DROP email")
    project.write(
        2, "UPDATE customer SET email = name || '@x'; ALTER TABLE customer ALTER email SET NOT NULL", "SELECT 1"
    )
    assert project.run("status", code=1).out.startswith("WARNING - prod: 2 pending")
    assert "2 migrations applied" in project.run("up").out
    assert columns(project.database) == ["id", "name", "email"]
    assert project.run("status").out.startswith("OK - prod: 2 applied")
    assert "no migration is pending" in project.run("up").out
    assert "1 migration reverted" in project.run("down").out
    assert project.standings() == {1: "applied", 2: "pending"}
    project.run("down", "--to", "0")
    assert columns(project.database) == ["id", "name"]
    assert "no migration is applied" in project.run("down").out
    project.run("up", "--to", "20260101000001")
    assert project.standings() == {1: "applied", 2: "pending"}


def test_each_execution_is_recorded_with_its_role_and_statements(project: MigrationProject) -> None:
    project.write(1, "SELECT 1;\nSELECT 2", "SELECT 3")
    done = project.json("up")
    (one,) = done["migrations"]
    assert (one["version"], one["name"], one["direction"], one["statements"]) == (20260101000001, "m", "up", 2)
    rows = project.database.rows(
        "SELECT role, left(run_id::text, 8), tool_version <> '', actor ~ '@', done_at >= begun_at, seconds >= 0"
        " FROM confiture.ledger"
    )
    assert rows == [("postgres", done["run"], True, True, True, True)]
    assert project.database.rows("SELECT number, done_at IS NOT NULL FROM confiture.ledger_statement") == [
        (1, True),
        (2, True),
    ]
    kinds = [kind for (kind,) in project.database.rows("SELECT kind FROM confiture.event ORDER BY id")]
    assert kinds == ["created", "start", "begin", "migration applied", "complete"]


def test_a_failed_statement_is_named_and_nothing_of_its_file_remains(project: MigrationProject) -> None:
    project.write(1, "CREATE TABLE one ()")
    project.write(2, "CREATE TABLE two ();\n  ALTER TABLE customer\n    DROP nothing")
    err = project.run("up", code=5).err
    assert "db/migrations/20260101000002_m.up.sql:2:3: the server rejects a statement" in err
    assert 'column "nothing" of relation "customer" does not exist' in err
    assert project.database.rows("SELECT to_regclass('one') IS NULL, to_regclass('two') IS NULL") == [(False, True)]
    assert project.standings() == {1: "applied", 2: "pending"}
    reason = project.database.value("SELECT detail ->> 'reason' FROM confiture.event WHERE kind = 'abort'")
    assert "20260101000002_m.up.sql:2:3" in reason
    project.write(2, "CREATE TABLE two ()")
    project.run("up")
    assert project.standings() == {1: "applied", 2: "applied"}


def test_a_deferred_constraint_is_checked_before_the_ledger_is_written(project: MigrationProject) -> None:
    project.write(
        1,
        "CREATE TABLE a (id int PRIMARY KEY, b int REFERENCES a DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO a VALUES (1, 2)",
    )
    assert "a deferred constraint is violated at the end of the file" in project.run("up", code=5).err
    assert project.standings() == {1: "pending"}


@pytest.mark.parametrize("first", ["", NO_TRANSACTION])
def test_the_ledger_is_written_whatever_a_file_sets(project: MigrationProject, first: str) -> None:
    project.database.sql(
        "DROP ROLE IF EXISTS migrated_as; CREATE ROLE migrated_as; GRANT ALL ON SCHEMA public TO PUBLIC"
    )
    project.write(
        1,
        first + "SET SESSION AUTHORIZATION migrated_as; SET search_path = public; SET statement_timeout = '1min';"
        "CREATE TABLE theirs (); SET ROLE migrated_as; SELECT 1",
    )
    project.write(2, first + "CREATE TABLE ours (); SET session_replication_role = replica")
    project.run("up")
    query = "SELECT relname, relowner::regrole::text FROM pg_class WHERE relname IN ('theirs', 'ours') ORDER BY 1"
    assert project.database.rows(query) == [("ours", "postgres"), ("theirs", "migrated_as")]
    assert {row[8] for row in project.ledger} == {"postgres"}
    project.database.sql("DROP OWNED BY migrated_as")


@pytest.mark.parametrize(
    ("sql", "grants"),
    [
        ("CREATE TABLE public.own (a int)", ["GRANT USAGE, CREATE ON SCHEMA public TO migrator"]),
        ("INSERT INTO public.customer (id) VALUES (900)", ["GRANT INSERT ON TABLE customer TO migrator"]),
        (
            "INSERT INTO public.customer (name) VALUES ('n')",
            ["GRANT INSERT ON TABLE customer TO migrator", "GRANT USAGE ON SEQUENCE customer_id_seq TO migrator"],
        ),
        ("UPDATE public.customer SET name = 'm' WHERE id = 1", ["GRANT SELECT, UPDATE ON TABLE customer TO migrator"]),
        ("DELETE FROM public.customer WHERE id = 1", ["GRANT SELECT, DELETE ON TABLE customer TO migrator"]),
        ("TRUNCATE public.customer", ["GRANT TRUNCATE ON TABLE customer TO migrator"]),
        (
            "CREATE TABLE app.own (id int REFERENCES public.customer)",
            ["GRANT REFERENCES ON TABLE customer TO migrator"],
        ),
    ],
)
def test_the_grant_of_an_error_is_what_the_statement_needs(
    project: MigrationProject, sql: str, grants: list[str]
) -> None:
    database = project.database
    database.sql(
        "DROP ROLE IF EXISTS migrator; CREATE ROLE migrator LOGIN PASSWORD 'x';"
        " CREATE SCHEMA app AUTHORIZATION migrator;"
        f"GRANT CREATE ON DATABASE {database.name} TO migrator"
    )
    conninfo = psycopg.conninfo.make_conninfo(database.conninfo, user="migrator", password="x")
    (project.folder / "db/environments/prod.yaml").write_text(f"database_url: {conninfo}\n")
    project.write(1, sql)
    for grant in grants:
        assert project.run("up", code=4).err.splitlines()[-1].strip() == grant
        database.sql(grant)
    project.run("up")
    database.sql("DROP OWNED BY migrator")


def test_files_of_one_project_run_in_the_search_path_of_the_environment(project: MigrationProject) -> None:
    project.database.sql("CREATE SCHEMA app")
    environment = project.folder / "db/environments/prod.yaml"
    environment.write_text(environment.read_text() + "search_path: [app, public]\n")
    project.write(1, "CREATE TABLE one ()")
    project.write(2, NO_TRANSACTION + "CREATE TABLE two (a int);\nCREATE INDEX CONCURRENTLY two_a ON two (a)")
    project.run("up")
    assert project.database.value("SELECT to_regclass('app.two_a') IS NOT NULL AND to_regclass('app.one') IS NOT NULL")


def test_an_applied_file_that_was_edited_is_refused_with_both_checksums(project: MigrationProject) -> None:
    project.write(1, "CREATE TABLE one ()", "DROP TABLE one")
    project.write(2, "CREATE TABLE two ()", "DROP TABLE two")
    project.run("up", "--to", "20260101000001")
    before = project.ledger[0][4]
    project.write(1, "CREATE TABLE one () -- edited")
    err = project.run("up", code=4).err
    now = project.json("status", code=2)["migrations"][0]["file_checksum"]
    assert f"was edited: the file has {now}, the ledger has {before}" in err
    assert project.standings() == {1: "edited", 2: "pending"}
    (project.migrations / "20260101000001_m.up.sql").unlink()
    (project.migrations / "20260101000001_m.down.sql").unlink()
    assert "the file of 20260101000001_m, which is applied, is missing" in project.run("up", code=4).err
    assert project.standings() == {1: "missing", 2: "pending"}


def test_a_gap_is_filled_only_on_request_and_recorded(project: MigrationProject) -> None:
    project.write(2, "CREATE TABLE two ()", "DROP TABLE two")
    project.run("up")
    project.write(1, "CREATE TABLE one ()", "DROP TABLE one")
    assert "out of order" in project.run("up", code=4).err
    assert project.standings() == {1: "out of order", 2: "applied"}
    project.run("up", "--out-of-order")
    assert [row[6] for row in project.ledger] == [True, False]


def test_a_missing_down_file_stops_down_before_anything_is_reverted(project: MigrationProject) -> None:
    project.write(1, "CREATE TABLE one ()")
    project.write(2, "CREATE TABLE two ()", "DROP TABLE two")
    project.run("up")
    assert "20260101000001_m.down.sql is missing" in project.run("down", "--to", "0", code=4).err
    assert project.standings() == {1: "applied", 2: "applied"}


def test_baseline_records_what_the_database_has_without_running_it(project: MigrationProject) -> None:
    project.write(1, "CREATE TABLE customer (); COMMIT", "DROP TABLE customer")
    project.write(2, "CREATE TABLE two ()")
    assert project.json("baseline 20260101000001")["recorded"] == [20260101000001]
    assert [row[7] for row in project.ledger] == [True]
    project.run("up")
    assert project.standings() == {1: "applied", 2: "applied"}
    assert "later migration" in project.run("baseline 20260101000001", code=4).err


def test_a_failure_killed_before_its_run_ends_is_continued(project: MigrationProject) -> None:
    project.write(1, "SELECT 1 / 0")
    project.killed_at("state.abort.before_commit")
    project.write(1, "CREATE TABLE one ()")
    project.run("up")
    assert (project.standings(), project.run_state) == ({1: "applied"}, "cleaned")


def test_a_killed_baseline_is_repeated(project: MigrationProject) -> None:
    project.write(1, "CREATE TABLE nowhere.one ()")
    for point in ("migrations.begun", "baseline.before_commit", "baseline.after_commit"):
        project.killed_at(point, "baseline 20260101000001")
        assert project.standings() == {1: "applied" if point == "baseline.after_commit" else "pending"}
    project.run("baseline 20260101000001")
    assert (project.standings(), project.run_state) == ({1: "applied"}, "cleaned")


def test_baseline_accepts_files_that_were_edited_or_replaced(project: MigrationProject) -> None:
    project.write(1, "CREATE TABLE one ()")
    project.write(2, "CREATE TABLE two ()")
    project.run("up")
    (project.migrations / "20260101000001_m.up.sql").unlink()
    project.write(2, "CREATE TABLE one (); CREATE TABLE two ()")
    done = project.json("baseline 20260101000002")
    assert done == {"schema_version": 1, "recorded": [20260101000002], "discarded": [20260101000001]}
    assert "no migration is pending" in project.run("up").out


def test_a_dry_run_prints_the_locks_and_changes_nothing_at_all(project: MigrationProject) -> None:
    project.write(1, "ALTER TABLE customer ADD email text;\nDROP TABLE customer CASCADE", "SELECT 1")
    project.write(
        2,
        NO_TRANSACTION + "CREATE TABLE two (a int);\nCREATE INDEX CONCURRENTLY two_a ON two (a);\n"
        "ALTER TABLE two ADD UNIQUE USING INDEX two_a",
    )
    before = dumped(project.database)
    done = project.json("up", "--dry-run")
    schema = json.loads((ROOT / "src/confiture/schemas/migrations_dry_run.json").read_text())
    jsonschema.validate(done, schema)
    add, drop = done["migrations"][0]["statements"]
    assert add["locks"] == [
        {"relation": "public.customer", "kind": "table", "mode": "ACCESS EXCLUSIVE",
         "bytes": add["locks"][0]["bytes"], "rows": 100}
    ]  # fmt: skip
    assert add["locks"][0]["bytes"] >= 8192
    assert {lock["relation"] for lock in drop["locks"]} >= {"public.customer_pkey", "public.customer_id_seq"}
    _, index, unique = done["migrations"][1]["statements"]
    assert (index["ran"], index["reason"]) == (False, "CREATE INDEX CONCURRENTLY cannot run in a transaction")
    assert "another statement did not run before it" in unique["reason"]
    assert dumped(project.database) == before
    assert "ACCESS EXCLUSIVE on table public.customer" in project.run("up", "--dry-run").out


def test_a_dry_run_waits_for_a_lock_no_longer_than_its_timeout(project: MigrationProject) -> None:
    project.write(1, "SELECT 1;\nALTER TABLE customer ADD email text")
    with project.database.connect(application_name="shop") as other, other.transaction():
        other.execute("SELECT FROM customer")
        err = project.run("up", "--dry-run", "--lock-timeout", "800ms", code=6).err
        assert "20260101000001_m.up.sql:2:1: timed out waiting for a lock" in err
        assert f"pid {other.info.backend_pid} (postgres, shop, idle in transaction" in err


def test_a_dry_run_accepts_an_enum_value_that_an_earlier_file_adds(project: MigrationProject) -> None:
    project.database.sql("CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE feeling (mood mood)")
    project.write(1, "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'it''s bad' BEFORE 'ok'")
    project.write(2, "INSERT INTO feeling VALUES ('it''s bad')")
    project.write(3, NO_TRANSACTION + "ALTER TYPE mood ADD VALUE 'fine';\nINSERT INTO feeling VALUES ('fine')")
    _, second, third = project.json("up", "--dry-run")["migrations"]
    for used in (second["statements"][0], third["statements"][1]):
        assert not used["ran"]
        assert used["reason"].startswith("in a real run, the value is committed before: unsafe use of new value")
    assert len(project.json("up")["migrations"]) == 3


def test_a_dry_run_refuses_an_enum_value_that_the_same_file_adds(project: MigrationProject) -> None:
    project.database.sql("CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE feeling (mood mood)")
    project.write(1, "ALTER TYPE mood ADD VALUE 'bad'")
    project.write(2, "ALTER TYPE mood ADD VALUE 'fine';\nINSERT INTO feeling VALUES ('fine')")
    for options in (["--dry-run"], []):
        err = project.run("up", *options, code=5).err
        assert "m.up.sql:2:29: the server rejects a statement" in err
        assert "use the value in a migration of its own; or make the first line of the file" in err


def test_a_dry_run_gives_each_file_a_session_as_a_real_run_does(project: MigrationProject) -> None:
    own = "CREATE TEMP TABLE own (a int);\nPREPARE mine AS SELECT 1;\nDECLARE c CURSOR WITH HOLD FOR SELECT 1;\n"
    for number in (1, 2):
        project.write(number, f"{own}SET search_path = nowhere;\nCREATE TABLE public.t{number} (a int)")
    done = project.json("up", "--dry-run")
    assert all(one["ran"] for each in done["migrations"] for one in each["statements"])
    project.run("up")


@pytest.mark.parametrize("sql", ["REINDEX TABLE part", "CALL commits()", "VACUUM (ANALYZE) customer"])
def test_a_statement_that_needs_no_transaction_names_the_first_line(project: MigrationProject, sql: str) -> None:
    project.database.sql(
        "CREATE TABLE part (a int) PARTITION BY LIST (a); CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);"
        "CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'"
    )
    project.write(1, sql)
    assert "make the first line of the file: -- confiture: no-transaction" in project.run("up", code=None).err
    project.write(1, NO_TRANSACTION + sql)
    project.run("up")


def test_status_names_no_command_that_up_refuses(project: MigrationProject) -> None:
    for number in (1, 3):
        project.write(number, "SELECT 1")
    project.run("up")
    project.write(2, "SELECT 1")
    assert project.json("status", code=2)["next"] == "confiture migrate up --target prod --out-of-order"
    assert "give the file a later version; or apply it out of order" in project.run("status", code=2).out
    project.write(3, "SELECT 2")
    assert project.json("status", code=2)["next"] is None
    assert "Next: restore the files; or accept them as they are: confiture" in project.run("status", code=2).out


def test_status_needs_no_ledger_and_no_write(project: MigrationProject) -> None:
    project.database.sql(f"ALTER DATABASE {project.database.name} SET default_transaction_read_only = on")
    project.write(1, "SELECT 1")
    found = project.json("status", code=1)
    jsonschema.validate(found, json.loads((ROOT / "src/confiture/schemas/migrations_status.json").read_text()))
    assert found["next"] == "confiture migrate up --target prod"
    assert project.database.value("SELECT to_regnamespace('confiture') IS NULL")
    assert project.run("status", "--bogus", code=3).err
    project.write(1, "SELECT 1", name="other")
    assert "two files have the version" in project.run("status", code=3).err


def test_a_second_command_is_refused_while_the_first_works(project: MigrationProject) -> None:
    project.write(1, "SELECT pg_advisory_lock_shared(7)")
    with project.database.connect() as other:
        other.execute("SELECT pg_advisory_lock(7)")
        first = project.start("up", "--lock-timeout", "60s", heartbeat=0.2)
        first.until_said("waiting for pid")
        err = project.run("up", code=6).err
        assert "is held by" in err
        assert project.standings() == {1: "pending"}
        other.execute("SELECT pg_advisory_unlock(7)")
        assert first.wait().code == 0


def test_a_blocked_migration_names_the_session_and_is_rolled_back(project: MigrationProject) -> None:
    project.write(1, "CREATE TABLE one ();\nALTER TABLE customer ADD email text")
    with project.database.connect(application_name="shop") as other, other.transaction():
        other.execute("SELECT FROM customer")
        err = project.run("up", "--lock-timeout", "0.8s", "--give-up-after", "0", code=6).err
        assert f"blocked by pid {other.info.backend_pid} (postgres, shop, idle in transaction" in err
        assert project.standings() == {1: "pending"}
    project.run("up")
    assert project.standings() == {1: "applied"}


def test_a_blocked_migration_is_repeated_until_the_lock_is_free(project: MigrationProject) -> None:
    project.write(1, "CREATE TABLE one ();\nALTER TABLE customer ADD email text")
    with project.database.connect() as other:
        with other.transaction():
            other.execute("SELECT FROM customer")
            running = project.start("up", "--lock-timeout", "0.5s")
            running.until_said("trying again")
            # The application does not wait for the migration's lock for longer than the lock timeout.
            with project.database.connect() as application:
                application.execute("SET lock_timeout = '10s'")
                application.execute("SELECT FROM customer")
        assert running.wait().code == 0
    assert columns(project.database) == ["id", "name", "email"]


def test_a_command_that_lost_its_connection_repeats_the_transaction(project: MigrationProject) -> None:
    project.write(1, "CREATE TABLE one ();\nSELECT pg_advisory_lock_shared(7)")
    with project.database.connect() as other:
        other.execute("SELECT pg_advisory_lock(7)")
        running = project.start("up", "--lock-timeout", "60s")
        running.until_said("waiting for pid")
        ended = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'confiture % migration' AND datname = current_database()"
        )
        assert other.execute(ended).fetchall() == [(True,)]
        other.execute("SELECT pg_advisory_unlock(7)")
        assert running.wait().code == 0
    assert project.standings() == {1: "applied"}


@pytest.mark.parametrize("first", ["", NO_TRANSACTION])
def test_a_migration_whose_commit_is_answered_by_nothing_runs_once(project: MigrationProject, first: str) -> None:
    project.write(1, first + "INSERT INTO customer (name) VALUES ('new')")
    done = project.start("up")
    assert done.wait().code == 0
    commits = done.points.read_text().split().count("commit.lost")
    insert, delete = "INSERT INTO customer (name) VALUES ('other')", "DELETE FROM customer WHERE name = 'other'"
    project.write(2, first + insert, delete)
    for hit in range(1, commits + 1):
        project.run("up", code=None, CONFITURE_FAILPOINT=f"commit.lost:{hit}")
        project.run("up")
        assert project.database.value("SELECT count(*) FROM customer WHERE name = 'other'") == 1
        project.write(
            2, first + "INSERT INTO customer (name) VALUES ('other')", "DELETE FROM customer WHERE name = 'other'"
        )
        project.run("down")


def test_a_killed_run_of_migrations_blocks_a_move_until_it_is_completed(
    project: MigrationProject, databases: Databases
) -> None:
    project.write(1, "CREATE TABLE one ()")
    project.killed_at("migration.after_commit")
    assert project.run_state == "migrating"
    project.run("up")
    assert project.run_state == "cleaned"
    until(lambda: not _sessions(project.database), "the end of the sessions")


def _sessions(database: TestDatabase) -> list[tuple[int]]:
    return database.rows(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'confiture%'"
    )


def test_a_lock_that_cannot_be_had_leaves_no_session_behind(project: MigrationProject) -> None:  # wording: locks
    project.write(1, "LOCK TABLE customer NOWAIT")
    with project.database.connect() as other, other.transaction():
        other.execute("LOCK TABLE customer")
        project.run("up", "--give-up-after", "0", code=6)
    with pytest.raises(psycopg.errors.UndefinedColumn), project.database.connect() as connection:
        connection.execute("SELECT nothing FROM confiture.ledger")
