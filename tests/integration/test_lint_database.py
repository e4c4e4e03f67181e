"""The linter with a database: its catalog establishes the same as the files that created it, and weighs findings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import IsolationLevel

from confiture import config
from confiture.lint import check, facts_reader
from confiture.lint.facts import Facts
from confiture.lint.model import Size
from confiture.lint.volatility import NOT_VOLATILE
from confiture.postgres.embedded import Server
from confiture.postgres.session import Session
from confiture.types import TableRef
from conftest import Confiture
from lint_corpus import CASES, SCHEMA, Case
from servers import Databases, TestDatabase

#: Findings that only the catalog shows: objects that use a column, and what CASCADE reaches.
MORE = {
    "drop column": ("column-in-use",),
}


@pytest.fixture(scope="module", params=["18", "15"])
def facts(request: pytest.FixtureRequest) -> Iterator[Facts]:
    running: Server = request.getfixturevalue("server" if request.param == "18" else "old_server")
    databases = Databases(running)
    yield read(databases.cloned(SCHEMA), *(case.text for case in CASES))
    databases.drop_all()


def read(database: TestDatabase, *texts: str) -> Facts:
    found = config.resolve(database.conninfo, Path())
    with (
        Session(found, "lint") as session,
        session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx,
    ):
        return facts_reader.read(tx, texts, ("public",))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_catalog_establishes_the_same_as_the_files(case: Case, facts: Facts) -> None:
    found = [finding.rule for finding in check.findings([case.script], facts)]
    assert sorted(found) == sorted(MORE.get(case.name, case.rules))


def test_the_catalog_shows_sizes_keys_and_dependents(facts: Facts) -> None:
    users = facts.tables[TableRef("public", "users")]
    assert users.size.size_bytes > 8192
    assert users.key == ("id",)
    assert users.columns["name"].type == "character varying(50)"
    assert users.columns["name"].not_null
    assert {(d.kind, d.name, d.column) for d in users.dependents} == {
        ("view", "public.active_users", "id"),
        ("view", "public.active_users", "active"),
        ("generated column", "doubled", "age"),
    }
    events = facts.tables[TableRef("public", "events")]
    assert (events.kind, events.partition_key, events.partitions) == ("p", "at", (TableRef("public", "events_2023"),))
    assert events.size.size_bytes == facts.tables[TableRef("public", "events_2023")].size.size_bytes
    assert facts.tables[TableRef("public", "kinds")].default_partition == TableRef("public", "kinds_other")
    assert facts.indexes[TableRef("public", "items_place")].columns == ("order_id", "line")
    assert facts.functions["secret"]
    assert facts.domains["address"].constrained


def test_the_rows_of_a_table_that_was_never_analyzed_are_not_known(database: TestDatabase) -> None:
    database.sql("CREATE TABLE a (b int)")
    assert read(database, "ALTER TABLE a").tables[TableRef("public", "a")].size == Size(0, None)


def test_names_in_quotes_are_found(database: TestDatabase) -> None:
    database.sql('CREATE TABLE "My ""Table" (b int); CREATE TABLE unnamed (b int)')
    assert list(read(database, 'ALTER TABLE "My ""Table" ADD c int').tables) == [TableRef("public", 'My "Table')]


def test_the_command_weighs_findings_by_the_database(
    database: TestDatabase, tmp_path: Path, confiture: Confiture
) -> None:
    database.sql("CREATE TABLE small (a int); CREATE TABLE big (a int, b text)")
    database.sql("INSERT INTO big SELECT n, repeat('x', 1000) FROM generate_series(1, 30000) n; ANALYZE big")
    folder = tmp_path / "db" / "migrations"
    folder.mkdir(parents=True)
    (folder / "20260101000000_a.up.sql").write_text(
        "ALTER TABLE small ALTER COLUMN a TYPE bigint;\nALTER TABLE big ALTER COLUMN a TYPE bigint;\n"
    )
    arguments = ("migrate", "lint", "--target", database.conninfo, "--large-table", "20MB", "--format", "json")
    done = confiture(*arguments, check=7)
    document = json.loads(done.stdout)
    levels = {(f["table"], f["rule"]): f["level"] for f in document["findings"]}
    assert levels[("public.small", "alter-column-type")] == "note"
    assert levels[("public.big", "alter-column-type")] == "error"
    (big,) = [f for f in document["findings"] if f["table"] == "public.big" and f["rule"] == "alter-column-type"]
    assert big["size"]["rows"] == 30000
    assert "schema-to-schema" in big["weighed"]
    assert "password" not in done.stdout


def test_a_reader_of_the_catalog_can_judge_without_privileges(
    database: TestDatabase, tmp_path: Path, confiture: Confiture
) -> None:
    database.sql(
        "CREATE TABLE secret_table (a int); DROP ROLE IF EXISTS lint_reader; CREATE ROLE lint_reader LOGIN PASSWORD 'x'"
    )
    path = tmp_path / "a.up.sql"
    path.write_text("CREATE INDEX i ON secret_table (a);")
    conninfo = psycopg.conninfo.make_conninfo(database.conninfo, user="lint_reader", password="x")
    done = confiture("migrate", "lint", str(path), "--target", conninfo, check=0)
    assert "note: create-index-without-concurrently" in done.stdout
    database.sql("DROP ROLE lint_reader")


def test_linting_changes_nothing(database: TestDatabase, tmp_path: Path, confiture: Confiture) -> None:
    database.sql("CREATE TABLE a (b int)")
    before = database.rows("SELECT oid, relname, relfilenode, xmin FROM pg_class ORDER BY oid")
    path = tmp_path / "a.up.sql"
    path.write_text("DROP TABLE a; CREATE TABLE c (d int);")
    confiture("migrate", "lint", str(path), "--target", database.conninfo, check=0)
    assert database.rows("SELECT oid, relname, relfilenode, xmin FROM pg_class ORDER BY oid") == before


def test_without_files_the_command_judges_what_is_not_applied(
    database: TestDatabase, tmp_path: Path, confiture: Confiture
) -> None:
    folder = tmp_path / "db" / "migrations"
    folder.mkdir(parents=True)
    (folder / "20260101000000_a.up.sql").write_text("CREATE TABLE a (b varchar(5)); CREATE TABLE c (d int);")
    (folder / "20260101000000_a.down.sql").write_text("DROP TABLE c; DROP TABLE a;")
    lint = ("migrate", "lint", "--target", database.conninfo)
    assert "2 files, 4 statements" in confiture(*lint, check=0).stdout
    confiture("migrate", "up", "--target", database.conninfo, check=0)
    assert "no migration is pending on" in confiture(*lint, check=0).stdout
    second = folder / "20260102000000_b.up.sql"
    second.write_text("CREATE TABLE e (f int);")
    third = folder / "20260103000000_c.up.sql"
    third.write_text("-- confiture: allow unused-thing\nCREATE INDEX g ON e (f);")
    assert "2 files, 2 statements" in confiture(*lint, check=0).stdout
    # The table that the file before creates is empty when this one runs.
    one = confiture(*lint, str(third), check=0).stdout
    assert "create-index-without-concurrently" not in one
    assert "unknown-rule" in one
    confiture("migrate", "up", "--target", database.conninfo, check=0)


def test_the_batches_of_a_sequence_run_as_a_migration(
    database: TestDatabase, tmp_path: Path, confiture: Confiture
) -> None:
    database.sql("CREATE TABLE a (b int, c int); INSERT INTO a SELECT n, NULL FROM generate_series(1, 5000) n")
    path = tmp_path / "all.up.sql"
    path.write_text("UPDATE a SET c = b;")
    found = json.loads(confiture("migrate", "lint", str(path), "--format", "json", check=7).stdout)
    folder = tmp_path / "db" / "migrations"
    folder.mkdir(parents=True)
    text = found["findings"][0]["instead"].partition("\n")[2]
    (folder / "20260101000000_a.up.sql").write_text(f"-- confiture: no-transaction\n{text}")
    confiture("migrate", "up", "--target", database.conninfo, check=0)
    assert database.value("SELECT count(*) FROM a WHERE c = b") == 5000


@pytest.mark.parametrize("version", ["18", "15"])
def test_no_function_that_is_stated_not_to_be_volatile_is(version: str, request: pytest.FixtureRequest) -> None:
    running: Server = request.getfixturevalue("server" if version == "18" else "old_server")
    with psycopg.connect(running.conninfo("postgres")) as connection:
        query = "SELECT proname, bool_or(provolatile = 'v') FROM pg_proc WHERE proname = ANY (%s) GROUP BY proname"
        found = dict(connection.execute(query, (list(NOT_VOLATILE),)).fetchall())
    assert found == dict.fromkeys(NOT_VOLATILE, False)
