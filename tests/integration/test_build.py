"""Building from DDL: which files, in which order, as one text, and into a database completely or not at all."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from confiture import ddl
from confiture.build import DdlFile, apply, collect, digest, render
from confiture.errors import ConfitureError, DataFailure, FaultyInput, Refused, UsageError
from confiture.postgres.embedded import bundled
from conftest import Confiture
from servers import TestDatabase

PG_DUMP = str(bundled() / "pg_dump")


class FreshDatabase(Protocol):
    """An empty database."""

    conninfo: str


Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def connection(database: FreshDatabase) -> Iterator[Connection]:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        yield connection


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    return tmp_path / "db/schema"


def write(schema: Path, **files: str) -> None:
    """Files by name; ``__`` stands for a slash."""
    for name, text in files.items():
        path = schema / (name.replace("__", "/") + ".sql")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def one_file(text: str) -> tuple[DdlFile, ...]:
    return (DdlFile(Path("db/schema/a.sql"), "a.sql", text),)


def build(connection: Connection, files: tuple[DdlFile, ...]) -> int:
    with connection.transaction():
        return apply(connection, files)


def refused(connection: Connection, text: str) -> ConfitureError:
    with pytest.raises(ConfitureError) as raised:
        build(connection, one_file(text))
    return raised.value


def relations(connection: Connection) -> list[str]:
    rows = connection.execute(
        "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    )
    return [name for (name,) in rows]


# Files


def test_files_run_in_the_byte_order_of_their_path_components(schema: Path) -> None:
    write(schema, b="", a__z="", a__B__c="", a__b="", a0="", a__10_x="", a__9_x="", A__a="")
    assert [file.relative for file in collect(schema, (), ())] == [
        "A/a.sql",
        "a/10_x.sql",
        "a/9_x.sql",
        "a/B/c.sql",
        "a/b.sql",
        "a/z.sql",
        "a0.sql",
        "b.sql",
    ]


def test_only_visible_sql_files_are_collected(schema: Path) -> None:
    write(schema, a="SELECT 1", **{".hidden": "", ".git__b": ""})
    (schema / "README.md").write_text("x")
    assert [file.relative for file in collect(schema, (), ())] == ["a.sql"]


def test_a_file_with_capital_letters_in_its_ending_is_not_left_out(schema: Path) -> None:
    write(schema, a="SELECT 1")
    (schema / "b.SQL").write_text("SELECT 2")
    with pytest.raises(UsageError, match=r"b\.SQL cannot be read") as raised:
        collect(schema, (), ())
    assert "capital letters; rename it" in raised.value.why


def test_include_and_exclude_match_a_glob_or_folder_and_exclude_wins(schema: Path) -> None:
    write(schema, **{"10_t__a": "", "10_t__dev__b": "", "90_seed__c": ""})

    def chosen(include: list[str], exclude: list[str]) -> list[str]:
        return [file.relative for file in collect(schema, include, exclude)]

    assert chosen(["10_*/*"], []) == ["10_t/a.sql", "10_t/dev/b.sql"]
    assert chosen([], ["*/dev/*", "90_seed"]) == ["10_t/a.sql"]
    assert chosen(["10_t/", "90_seed/c.sql"], ["10_t/dev"]) == ["10_t/a.sql", "90_seed/c.sql"]
    with pytest.raises(UsageError, match="no DDL") as raised:
        chosen(["nothing"], [])
    assert "3 *.sql files" in raised.value.why


def test_linked_folders_are_followed_and_a_loop_is_refused(schema: Path, tmp_path: Path) -> None:
    write(tmp_path / "shared", a="SELECT 1")
    schema.mkdir(parents=True)
    (schema / "10_shared").symlink_to(tmp_path / "shared")
    assert [file.relative for file in collect(schema, (), ())] == ["10_shared/a.sql"]
    (schema / "20_loop").symlink_to(schema)
    with pytest.raises(UsageError, match="20_loop cannot be read"):
        collect(schema, (), ())


def test_a_missing_folder_is_a_usage_error(schema: Path) -> None:
    with pytest.raises(UsageError) as raised:
        collect(schema, (), ())
    assert str(schema) in raised.value.why


@pytest.mark.parametrize("content", [b"SELECT 1;\nSELECT '\xe9';", b"SELECT 1;\nSELECT '\0';"])
def test_file_that_is_not_utf8_text_is_reported_with_its_line(schema: Path, content: bytes) -> None:
    write(schema, a="")
    (schema / "a.sql").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.sql:2 cannot be read"):
        collect(schema, (), ())


@pytest.mark.parametrize("name", [b"a\n; DROP TABLE t.sql", b"\xff.sql"])
def test_file_name_that_cannot_be_part_of_a_comment_is_refused(schema: Path, name: bytes) -> None:
    schema.mkdir(parents=True)
    Path(os.fsdecode(os.path.join(os.fsencode(schema), name))).write_text("SELECT 1")
    with pytest.raises(UsageError, match="name cannot be used"):
        collect(schema, (), ())


def test_a_byte_order_mark_is_dropped_and_line_ends_are_kept(schema: Path) -> None:
    write(schema, a="")
    (schema / "a.sql").write_bytes(b"\xef\xbb\xbfSELECT 1;\r\n")
    assert collect(schema, (), ())[0].text == "SELECT 1;\r\n"


# One text


def test_rendering_names_each_file_and_ends_its_last_statement() -> None:
    files = (
        DdlFile(Path("a"), "10/a.sql", "SELECT 1"),
        DdlFile(Path("b"), "10/b.sql", "SELECT 2 -- b"),
        DdlFile(Path("c"), "20/c.sql", "SELECT 3;\n"),
        DdlFile(Path("d"), "20/d.sql", ""),
    )
    assert render(files) == (
        "-- 10/a.sql\nSELECT 1\n;\n\n-- 10/b.sql\nSELECT 2 -- b\n;\n\n-- 20/c.sql\nSELECT 3;\n\n-- 20/d.sql\n"
    )
    assert [s.text for s in ddl.split(render(files))] == ["SELECT 1", "SELECT 2", "SELECT 3"]


def test_rendering_refuses_the_same_files_as_applying() -> None:
    with pytest.raises(FaultyInput, match="one transaction"):
        render(one_file("VACUUM"))


# Into a database

#: Valid statements that are easily split in the wrong place.
TRICKY = r"""
CREATE TABLE t (a int, "b;""c" text DEFAULT 'x;''y', c text DEFAULT E'it\'s;', "end" int);
COMMENT ON TABLE t IS E'one\n'
    'two\';three';  -- an escape string continues
CREATE RULE r AS ON INSERT TO t WHERE new.a < 0 DO INSTEAD (SELECT 1; DELETE FROM t WHERE a = 0; SELECT ')');
CREATE FUNCTION f1() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN RETURN length($$1;2$$); END; $f$;
CREATE FUNCTION f2(x int) RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN x > 0 THEN 1 ELSE 2 END; END;
CREATE FUNCTION f3() RETURNS int BEGIN ATOMIC SELECT 1 end; SELECT 2 AS case;
  RETURN (SELECT max(t.end) FROM t); END;
CREATE OR REPLACE PROCEDURE begin() BEGIN ATOMIC INSERT INTO t (a) VALUES (1); DELETE FROM t; END;
CREATE FUNCTION f4() RETURNS void BEGIN /* ; */ ATOMIC END;
CREATE FUNCTION f5() RETURNS int LANGUAGE sql RETURN CASE WHEN true THEN 1 END;
DO $do$ BEGIN EXECUTE $$SELECT ';'$$; END $do$;
CREATE VIEW v AS SELECT 1*/* ; /* nested; */ ' */2 AS n, 3+--; '
5 AS m, U&'d\0061t;a' AS u, U&'!0061;' UESCAPE '!' AS w, B'01' AS b, $ü$;$ü$ AS d, 7 % 4 AS "%s";
CREATE FUNCTION a$b$c() RETURNS text LANGUAGE sql AS 'SELECT '';''' ;
CREATE FUNCTION f6(text) RETURNS text LANGUAGE sql AS $$SELECT $1||';%'$$;;
SELECT format('%s;%I', 'a', 'b'), '{}'::jsonb ? 'a', 5 %2;
CREATE VIEW w AS SELECT begin atomic FROM (SELECT 1 AS begin) AS s;
CREATE SCHEMA s CREATE TABLE inner_t (a int) CREATE VIEW inner_v AS SELECT a FROM inner_t;
SAVEPOINT p;
ROLLBACK TO p;
CREATE TABLE the_last (a int)
"""


def test_tricky_statements_are_split_where_the_server_splits_them(connection: Connection) -> None:
    assert build(connection, one_file(TRICKY)) == 19
    assert relations(connection) == ["t", "the_last", "v", "w"]
    assert connection.execute('SELECT n, m, u, w, b, d, "%s" FROM v').fetchone() == (
        2, 8, "dat;a", "a;", "01", ";", 3,
    )  # fmt: skip
    assert connection.execute("SELECT f1(), f2(1), f5(), f6('a')").fetchone() == (3, 1, 1, "a;%")
    assert connection.execute("SELECT obj_description('t'::regclass)").fetchone() == ("one\ntwo';three",)


def test_a_rendered_text_builds_what_its_files_build(connection: Connection) -> None:
    files = (
        DdlFile(Path("a"), "a.sql", "CREATE TABLE a (x int) -- no semicolon"),
        DdlFile(Path("b"), "b.sql", "CREATE TABLE b (x int)"),
    )
    with connection.transaction(force_rollback=True):
        apply(connection, files)
        built = relations(connection)
    build(connection, one_file(render(files)))
    assert relations(connection) == built == ["a", "b"]


def test_failing_statement_is_reported_with_its_position_and_hint(connection: Connection) -> None:
    text = "CREATE TABLE a (x int);\nSELECT 1; CREATE VIEW v AS\n  SELECT é.x,\n    xx\n  FROM a AS é;\n"
    error = refused(connection, text)
    assert isinstance(error, DataFailure)
    assert error.what == "db/schema/a.sql:4:5: the server rejects a statement"
    assert 'column "xx" does not exist' in error.why
    assert "in the statement of line 2: CREATE VIEW v AS SELECT é.x, xx FROM a AS é" in error.why
    assert 'reference the column "é.x"' in error.fix
    assert relations(connection) == []


@pytest.mark.parametrize("good", [0, 1, 99, 100, 250])
@pytest.mark.parametrize(
    ("bad", "column"), [("CREATE VIEW v AS SELECT nothing", 25), ("CREATE TABLE t0 (a int)", 1), ("GRANT x TO y z", 14)]
)
def test_position_of_a_failure_is_exact_among_many_statements(
    connection: Connection, caplog: pytest.LogCaptureFixture, good: int, bad: str, column: int
) -> None:
    before = (
        "".join(f"CREATE TABLE t{n} (a int);\n" for n in range(good)) or "SET x.y = '0'; CREATE TABLE t0 (a int);\n"
    )
    after = "".join(f"CREATE TABLE u{n} (a int);\n" for n in range(150))
    error = refused(connection, f"{before}{bad};\n{after}")
    assert error.what.startswith(f"db/schema/a.sql:{max(good, 1) + 1}:{column}: ")
    assert bad in error.why
    assert relations(connection) == []
    assert caplog.text == ""


def test_function_that_changes_how_files_are_read_stops_the_build(connection: Connection) -> None:
    body = "SELECT set_config('standard_conforming_strings', 'off', false)"
    text = f"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $${body}$$; CREATE TABLE t AS SELECT f();"
    error = refused(connection, text + "CREATE TABLE u (a int);")
    assert "standard_conforming_strings must remain on" in error.what
    assert relations(connection) == []


def test_build_that_loses_its_connection_names_the_statement(database: TestDatabase) -> None:
    body = "SELECT pg_terminate_backend(pg_backend_pid())"
    text = f"CREATE TABLE t (a int); CREATE FUNCTION f() RETURNS bool LANGUAGE sql AS '{body}';"
    with database.connect() as connection:
        connection.execute("BEGIN")
        with pytest.raises(ConfitureError) as raised:
            apply(connection, one_file(text + "CREATE TABLE u AS SELECT f(); CREATE TABLE v (a int);"))
    assert raised.value.exit_code in (3, 5)
    assert "CREATE TABLE u AS SELECT f()" in raised.value.why


def test_failure_without_a_position_names_the_start_of_the_statement(connection: Connection) -> None:
    error = refused(connection, "CREATE TABLE a (x int);\n\n  CREATE TABLE a (x int)")
    assert error.what.startswith("db/schema/a.sql:3:3: ")
    assert "was rolled back" in error.fix


def test_every_line_of_a_failure_is_one_line(connection: Connection) -> None:
    error = refused(connection, "DO $$ BEGIN RAISE 'one\ntwo' USING HINT = 'three'; END $$" + " " * 500)
    assert [len(line.splitlines()) for line in error.lines()] == [1, 1, 1]
    assert error.fix == "three"


@pytest.mark.parametrize("literal", ["'hunter2'", "E'hunter2'", "$$hunter2$$", "$a$hunter2$a$"])
def test_a_failure_shows_no_password(connection: Connection, literal: str) -> None:
    error = refused(connection, f"CREATE ROLE pg_x LOGIN PASSWORD {literal}")
    assert "hunter2" not in " ".join([*error.lines(), error.detail])
    assert "CREATE ROLE pg_x" in error.why


def test_faults_of_all_files_are_reported_before_any_statement_runs(connection: Connection) -> None:
    files = (
        DdlFile(Path("s/a.sql"), "a.sql", "BEGIN;\nCREATE TABLE a (x int);\nCOMMIT;\n"),
        DdlFile(Path("s/b.sql"), "b.sql", "CREATE TABLE b (x int);\n\\connect c\n"),
        DdlFile(Path("s/c.sql"), "c.sql", "CREATE INDEX CONCURRENTLY i ON a (x)"),
    )
    with connection.transaction(), pytest.raises(FaultyInput) as raised:
        apply(connection, files)
    assert [(fault.file, fault.line) for fault in raised.value.faults] == [
        ("s/a.sql", 1),
        ("s/a.sql", 3),
        ("s/b.sql", 2),
        ("s/c.sql", 1),
    ]
    assert "s/a.sql:1:1: BEGIN cannot be part of a build (delete it" in raised.value.why
    assert raised.value.exit_code == 2
    assert relations(connection) == []


def test_server_rejects_a_nontransactional_statement_not_foreseen(connection: Connection) -> None:
    error = refused(connection, "CREATE TABLE a ();\nREINDEX (CONCURRENTLY) TABLE a")
    assert error.what.startswith("db/schema/a.sql:2:")
    assert "cannot run inside a transaction block" in error.why


def test_unforeseen_statement_that_ends_the_transaction_stops_the_build(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ddl, "refusal", lambda statement: None)
    connection.execute("BEGIN")
    with pytest.raises(DataFailure, match="ended the build's transaction"):
        apply(connection, one_file("SELECT 1; COMMIT; CREATE TABLE a (x int)"))
    assert relations(connection) == []


def test_no_statement_runs_without_the_callers_transaction(connection: Connection) -> None:
    with pytest.raises(RuntimeError, match="caller's transaction"):
        apply(connection, one_file("CREATE TABLE a (x int)"))
    assert relations(connection) == []


def test_missing_privilege_is_reported_with_file_and_position(connection: Connection) -> None:
    error = refused(connection, "SELECT 1;\nSET ROLE pg_monitor;\nCREATE SCHEMA a")
    assert isinstance(error, Refused)
    assert error.what.startswith("db/schema/a.sql:3:1: missing privilege")


@pytest.mark.parametrize("setting", ["client_encoding = 'LATIN1'", "standard_conforming_strings = off"])
def test_setting_that_changes_how_files_are_read_stops_the_build(connection: Connection, setting: str) -> None:
    error = refused(connection, f"SET {setting}; CREATE TABLE a (x text DEFAULT 'é\\')")
    assert setting.split()[0] in error.what
    assert relations(connection) == []


def test_unqualified_names_resolve_by_the_callers_search_path(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("CREATE SCHEMA app; SET LOCAL search_path = app")
        apply(connection, one_file("CREATE TABLE a (x int)"))
    assert connection.execute("SELECT to_regclass('app.a') IS NOT NULL").fetchone() == (True,)


def dumped(database: FreshDatabase) -> str:
    command = [PG_DUMP, "--schema-only", "--no-owner", "--dbname", database.conninfo]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def without_restrict(dump: str) -> list[str]:
    # The key after the word differs each time.
    return [line for line in dump.splitlines() if not line.startswith("\\")]


def test_a_dump_of_pg_dump_can_be_built(connection: Connection, database: FreshDatabase) -> None:
    connection.execute("CREATE SCHEMA app; SET search_path = app")
    build(connection, one_file(TRICKY))
    first = dumped(database)
    assert "set_config('search_path', ''" in first
    connection.execute("DROP SCHEMA app, s CASCADE")
    with psycopg.connect(database.conninfo, autocommit=True) as thrown_away:
        build(thrown_away, one_file(first))
    assert without_restrict(dumped(database)) == without_restrict(first)


# The header and the list


def test_digest_depends_on_the_path_and_the_contents_of_each_file() -> None:
    files = (DdlFile(Path("a"), "a.sql", "SELECT 1;"), DdlFile(Path("b"), "b.sql", "SELECT 2;"))
    others = (
        files[:1],
        files[::-1],
        (DdlFile(Path("a"), "a.sql", "SELECT 1; "), files[1]),
        (DdlFile(Path("a"), "c.sql", "SELECT 1;"), files[1]),
        (DdlFile(Path("a"), "a.sqlS", "ELECT 1;"), files[1]),
    )
    assert digest(files) == digest((DdlFile(Path("elsewhere/a"), "a.sql", "SELECT 1;"), files[1]))
    assert len({digest(files), *map(digest, others)}) == 6


def test_one_file_is_the_same_each_time_and_runs_in_psql(
    schema: Path, tmp_path: Path, database: TestDatabase, confiture: Confiture
) -> None:
    write(schema, **{"10__b": "CREATE TABLE b (x int)", "10__a": "CREATE TABLE a (x int);\nCREATE INDEX ON a (x);"})
    for name in ("one.sql", "two.sql"):
        assert confiture("build", "--output", name, cwd=tmp_path).returncode == 0
    text = (tmp_path / "one.sql").read_text()
    assert text == (tmp_path / "two.sql").read_text() == confiture("build", cwd=tmp_path).stdout
    assert text.startswith("-- DDL of all files, written by confiture ")
    assert "-- 2 files, 3 statements, sha256:" in text
    psql = str(bundled() / "psql")
    subprocess.run(
        [psql, "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", tmp_path / "one.sql", database.conninfo], check=True
    )
    assert database.value("SELECT count(*) FROM pg_class WHERE relname IN ('a', 'b', 'a_x_idx')") == 3


def test_header_names_the_environment_and_the_list_has_its_files(
    schema: Path, tmp_path: Path, confiture: Confiture
) -> None:
    write(schema, **{"10__a": "SELECT 1; SELECT 2", "20_seed__b": "SELECT 3"})
    (tmp_path / "db/environments").mkdir()
    (tmp_path / "db/environments/prod.yaml").write_text("database_url: postgresql://x\nexclude: [20_seed]\n")
    assert confiture("build", "--env", "prod", cwd=tmp_path).stdout.startswith("-- DDL of environment prod, written")
    listed = confiture("build", "--list", cwd=tmp_path).stdout.split("\n")
    assert [line.split() for line in listed[1:3]] == [["2", "10/a.sql"], ["1", "20_seed/b.sql"]]
    document = json.loads(confiture("build", "--env", "prod", "--list", "--format", "json", cwd=tmp_path).stdout)
    assert document["files"] == [{"path": "10/a.sql", "statements": 2}]
    assert document["digest"] == digest(collect(schema, (), ("20_seed",)))
