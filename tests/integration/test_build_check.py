"""``build --check``: a database is compared with its DDL, and nothing of the scratch build stays."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import jsonschema
import psycopg
import pytest

from confiture import commands
from confiture.cli.build import build
from confiture.commands.check import Checked
from confiture.errors import ConfitureError, DataFailure, Held, Refused
from confiture.postgres import embedded
from confiture.postgres.embedded import Server
from confiture.render import differences as rendered
from confiture.scratch_build import beside, embedded_server
from conftest import ROOT, Confiture
from every_object import EVERY_OBJECT, STATED
from forked import is_alive, until
from servers import Databases, TestDatabase

TABLES = (
    "CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL);\nCREATE TABLE pet (person int REFERENCES person);\n"
)


class Project:
    """A project with one DDL file, which is built in a database of a server and compared with it."""

    def __init__(self, folder: Path, databases: Databases) -> None:
        self.folder = folder
        self.databases = databases
        self.file = folder / "db/schema/10/all.sql"
        self.file.parent.mkdir(parents=True)
        self.scratch: str | None = None

    def built(self, text: str) -> TestDatabase:
        """A database that ``build --apply`` builds from the DDL."""
        self.file.write_text(text)
        made = self.databases.make()
        commands.build.build_database(made.conninfo, self.folder)
        return made

    def check(self, database: TestDatabase, *, ignore: tuple[str, ...] = (), column_order: bool = False) -> Checked:
        """Compare a database with the DDL."""
        return commands.check.check(
            database.conninfo, self.folder, scratch=self.scratch, ignore=ignore, column_order=column_order
        )

    def found(self, database: TestDatabase, **options: bool) -> list[str]:
        """The objects that differ, each with the names of its properties that differ."""
        return [
            " ".join((d.status, d.kind, d.name, *(p.name for p in d.properties if d.status == "different")))
            for d in self.check(database, **options).differences  # type: ignore[arg-type]
        ]


@pytest.fixture
def project(tmp_path: Path, databases: Databases) -> Project:
    """Compares with a build in a scratch database beside the compared one."""
    made = Project(tmp_path, databases)
    made.scratch = "confiture_test_scratch"
    return made


@pytest.fixture
def on_this_machine(project: Project) -> Project:
    """Compares with a build on a server of this machine."""
    project.scratch = None
    return project


def everything_on(server: Server) -> tuple[list[str], ...]:
    """The databases and the roles of a server, and the settings of databases."""
    queries = (
        "SELECT datname FROM pg_database WHERE datname !~ '^template_' ORDER BY 1",
        "SELECT rolname FROM pg_roles ORDER BY 1",
        "SELECT setconfig::text FROM pg_db_role_setting ORDER BY 1",
    )
    with psycopg.connect(server.conninfo()) as connection:
        return tuple([row[0] for row in connection.execute(query.encode()).fetchall()] for query in queries)


def test_database_that_its_ddl_builds_is_equal(on_this_machine: Project) -> None:
    database = on_this_machine.built(EVERY_OBJECT + STATED)
    checked = on_this_machine.check(database)
    assert checked.differences == ()
    assert (checked.scratch.embedded, checked.scratch.version) == (True, 18)
    assert checked.objects > 80


def test_database_of_another_version_is_compared_on_its_server(tmp_path: Path, old_databases: Databases) -> None:
    project = Project(tmp_path, old_databases)
    database = project.built(EVERY_OBJECT + STATED)
    checked = project.check(database)
    assert checked.differences == ()
    assert (checked.scratch.embedded, checked.scratch.version) == (False, checked.version)
    assert "PostgreSQL 18" in (checked.scratch.reason or "")


def test_missing_extra_and_changed_objects_are_named(project: Project) -> None:
    database = project.built(TABLES)
    database.sql("DROP TABLE pet; CREATE VIEW more AS SELECT 1; ALTER TABLE person ALTER name TYPE varchar(9)")
    assert project.found(database) == [
        "extra view public.more",
        "different column public.person.name type",
        "missing table public.pet",
    ]


def test_text_shows_both_values_and_fits_the_terminal(project: Project) -> None:
    database = project.built(TABLES + "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';")
    database.sql(
        "ALTER TABLE person ALTER name SET DEFAULT 'x'; DROP TABLE pet;"
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS E'-- two\\nSELECT 2';"
        "CREATE INDEX ON person (lower(name), upper(name), length(name), reverse(name)) WHERE name <> 'a long value'"
    )
    lines = rendered.text(project.check(database).differences)
    assert lines[:6] == [
        "differs function public.f()",
        "    body (- DDL, + database)",
        "      @@ -1 +1,2 @@",
        "      -SELECT 1",
        "      +-- two",
        "      +SELECT 2",
    ]
    assert "    default" in lines
    assert "      DDL       (none)" in lines
    assert "      database  'x'::text" in lines
    assert lines[-1] == "missing table public.pet"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("statement", ["GRANT SELECT ON person TO PUBLIC", "COMMENT ON TABLE person IS 'a'"])
def test_grants_and_comments_are_compared_where_the_ddl_has_any(project: Project, statement: str) -> None:
    database = project.built(TABLES)
    database.sql(statement)
    assert project.found(database) == []
    project.file.write_text(TABLES + "GRANT SELECT ON pet TO PUBLIC; COMMENT ON TABLE pet IS 'b';")
    assert [name.rpartition(" ")[0] for name in project.found(database)] == [
        "different table public.person",
        "different table public.pet comment",
    ]


def test_a_statement_without_effect_states_what_is_compared(project: Project) -> None:
    database = project.built(TABLES + "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT pg_monitor TO CURRENT_USER;")
    assert project.found(database) == []
    database.sql("GRANT CREATE ON SCHEMA public TO PUBLIC")
    assert project.found(database) == ["different schema public grants"]
    project.file.write_text(TABLES + "GRANT pg_monitor TO CURRENT_USER;")
    assert project.found(database) == []


def test_version_of_an_extension_is_compared_where_the_ddl_names_one(project: Project) -> None:
    database = project.built(TABLES)
    database.sql("CREATE EXTENSION pg_trgm VERSION '1.5'; COMMENT ON TABLE pet IS 'a'")
    project.file.write_text(TABLES + "CREATE EXTENSION pg_trgm;")
    assert project.found(database) == []
    project.file.write_text(TABLES + "CREATE EXTENSION pg_trgm VERSION '1.6';")
    assert project.found(database) == ["different extension pg_trgm version"]


def test_owner_is_compared_where_the_ddl_names_one(project: Project) -> None:
    database = project.built(TABLES + "ALTER TABLE pet OWNER TO pg_monitor;")
    assert project.found(database) == []
    database.sql("ALTER TABLE person OWNER TO pg_monitor; ALTER TABLE pet OWNER TO CURRENT_USER")
    assert project.found(database) == ["different table public.pet owner"]


def test_order_of_columns_is_compared_only_on_request(project: Project) -> None:
    database = project.built(TABLES)
    database.sql("ALTER TABLE person DROP name, ADD extra int, ADD name text NOT NULL")
    project.file.write_text(TABLES.replace("name text NOT NULL", "name text NOT NULL, extra int"))
    assert project.found(database) == []
    assert project.found(database, column_order=True) == ["different table public.person column order"]


def test_ignored_objects_and_their_parts_are_not_compared(project: Project) -> None:
    database = project.built(TABLES)
    database.sql("CREATE TABLE event_2024 (a int); CREATE SCHEMA app; CREATE TABLE app.x (a int); DROP TABLE pet")
    database.sql("ALTER TABLE person ADD extra int")
    assert project.check(database, ignore=("event_*", "app*", "pet", "public.person")).differences == ()
    left = project.check(database, ignore=("event_*", "app.x", "pet")).differences
    assert [d.name for d in left] == ["app", "public.person.extra"]


def test_files_may_set_the_session_as_they_do_in_a_build(project: Project) -> None:
    text = "CREATE SCHEMA app; SET search_path = app; SET ROLE pg_monitor; RESET ROLE;"
    database = project.built(text + "CREATE TABLE t (a int); SET quote_all_identifiers = on; SET datestyle = german;")
    assert project.found(database) == []


def test_nothing_of_a_scratch_build_stays_on_the_server(project: Project, server: Server) -> None:
    database = project.built(TABLES)
    before = everything_on(server)
    project.file.write_text(
        TABLES + f"CREATE ROLE scratch_role; GRANT SELECT ON pet TO scratch_role;"
        f"ALTER DATABASE {database.name} SET work_mem = '7MB'; ALTER ROLE postgres SET work_mem = '7MB';"
    )
    assert project.found(database) == ["different table public.pet grants"]
    assert everything_on(server) == before


def test_statement_that_creates_an_existing_role_is_left_out(project: Project, server: Server) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute('CREATE ROLE "Existing ""Role"')
    try:
        project.file.write_text('CREATE ROLE "Existing ""Role" LOGIN; CREATE USER MAPPING_ROLE; ' + TABLES)
        database = project.databases.cloned(TABLES)
        assert project.found(database) == []
        project.scratch = None
        assert project.found(database) == []
    finally:
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute('DROP ROLE "Existing ""Role"')


def test_roles_of_the_database_exist_on_the_server_of_this_machine(on_this_machine: Project, server: Server) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute("CREATE ROLE check_parent NOLOGIN; CREATE ROLE check_member IN ROLE check_parent")
    try:
        project = on_this_machine
        database = project.built(
            TABLES + "GRANT SELECT ON pet TO check_parent; SET ROLE check_member; SET ROLE check_parent; RESET ROLE;"
        )
        checked = project.check(database)
        assert (checked.scratch.embedded, checked.differences) == (True, ())
        database.sql("REVOKE ALL ON pet FROM check_parent")
    finally:
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute("DROP ROLE check_member; DROP ROLE check_parent")


def test_server_of_the_database_is_used_when_the_other_lacks_an_object(
    on_this_machine: Project, server: Server
) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute("SET allow_in_place_tablespaces = on")
        admin.execute("CREATE TABLESPACE check_space LOCATION ''")
    database = on_this_machine.built("CREATE TABLE t (a int) TABLESPACE check_space;")
    checked = on_this_machine.check(database)
    assert (checked.scratch.embedded, checked.differences) == (False, ())
    assert "all.sql:1:" in (checked.scratch.reason or "")
    database.sql("DROP TABLE t")
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute("DROP TABLESPACE check_space")


def test_server_of_the_database_is_used_when_the_other_does_not_start(
    on_this_machine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = on_this_machine.built(TABLES)
    monkeypatch.setattr(embedded_server, "_SETTINGS", {"max_connections": "none"})
    checked = on_this_machine.check(database)
    assert (checked.scratch.embedded, checked.differences) == (False, ())
    assert "pg_ctl failed" in (checked.scratch.reason or "")
    parent = embedded.scratch_parents()[0]
    assert [root for root in parent.glob("confiture-check-*") if abandoned(root)] == []


@pytest.mark.parametrize("scratch", [None, "confiture_test_scratch"])
def test_error_in_the_ddl_is_reported_with_its_position(project: Project, server: Server, scratch: str | None) -> None:
    database = project.built(TABLES)
    before = everything_on(server)
    project.scratch = scratch
    project.file.write_text(TABLES + "CREATE VIEW v AS\n  SELECT missing FROM person;")
    with pytest.raises(DataFailure, match=r"all\.sql:4:10: the server rejects a statement"):
        project.check(database)
    assert everything_on(server) == before


def test_rows_that_violate_a_deferred_constraint_are_reported(project: Project) -> None:
    database = project.built(TABLES)
    project.file.write_text(
        TABLES
        + "ALTER TABLE pet ALTER CONSTRAINT pet_person_fkey DEFERRABLE INITIALLY DEFERRED; INSERT INTO pet VALUES (7);"
    )
    with pytest.raises(DataFailure, match="deferred constraint"):
        project.check(database)


def test_second_check_of_a_database_is_refused(project: Project) -> None:
    database = project.built(TABLES)
    with database.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s, 0)", (beside._CHECK_LOCK,))
        with pytest.raises(Held, match="another command checks"):
            project.check(database)
    assert project.found(database) == []


def test_existing_database_is_not_used_as_a_scratch_database(project: Project) -> None:
    database, other = project.built(TABLES), project.databases.make()
    project.scratch = other.name
    with pytest.raises(Refused, match=f"the database {other.name} exists"):
        project.check(database)
    assert other.value("SELECT 1") == 1


@pytest.fixture
def limited(project: Project, server: Server) -> Iterator[Callable[[TestDatabase], str]]:
    """The conninfo of a role without CREATEDB for a database."""
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute("CREATE ROLE check_limited LOGIN PASSWORD 'x'")
        yield lambda database: server.conninfo(database.name, user="check_limited", password="x")
        admin.execute("DROP ROLE check_limited")


def test_role_without_createdb_is_referred_to_the_statement(
    project: Project, limited: Callable[[TestDatabase], str]
) -> None:
    database = project.built(TABLES)
    with pytest.raises(Refused) as refused:
        commands.check.check(limited(database), project.folder, scratch="s", ignore=(), column_order=False)
    assert "lacks CREATEDB" in refused.value.why
    assert 'ALTER ROLE "check_limited" CREATEDB' in refused.value.fix


def test_role_that_may_only_connect_checks_on_this_machine(
    project: Project, limited: Callable[[TestDatabase], str]
) -> None:
    database = project.built(EVERY_OBJECT)
    checked = commands.check.check(limited(database), project.folder, scratch=None, ignore=(), column_order=False)
    assert (checked.scratch.embedded, checked.differences) == (True, ())


def test_lock_table_of_the_server_is_not_exhausted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    database = project.built(TABLES)
    monkeypatch.setattr(beside, "_SHARE_OF_LOCKS", 0.0001)
    with pytest.raises(Refused, match="lock table"):
        project.check(database)


@pytest.mark.parametrize("point", ["scratch.unmarked", "scratch.created"])
def test_scratch_database_of_a_killed_check_is_dropped_by_the_next(
    project: Project, server: Server, confiture: Confiture, point: str
) -> None:
    database = project.built(TABLES)
    before = everything_on(server)
    words = ("build", "--check", "--env", database.conninfo, "--scratch", "killed_scratch")
    killed = confiture(*words, cwd=project.folder, env={"CONFITURE_FAILPOINT": point})
    assert killed.returncode == -signal.SIGKILL
    assert everything_on(server) != before
    assert project.found(database) == []
    assert everything_on(server) == before


def abandoned(root: Path) -> bool:
    """Whether no command holds the lock of the folder of a server; other tests run such commands."""
    with (root / "lock").open() as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def test_server_of_a_killed_check_is_removed_by_the_next(on_this_machine: Project, confiture: Confiture) -> None:
    database = on_this_machine.built(TABLES)
    words = ("build", "--check", "--env", database.conninfo)
    killed = confiture(*words, cwd=on_this_machine.folder, env={"CONFITURE_FAILPOINT": "scratch.server_started"})
    assert killed.returncode == -signal.SIGKILL
    (left,) = [root for root in embedded.scratch_parents()[0].glob("confiture-check-*") if abandoned(root)]
    pid = Server(left).pid
    assert on_this_machine.found(database) == []
    assert not left.exists()
    assert pid is not None
    # The server removes its lock file, for which pg_ctl waits, before its process ends.
    until(lambda: not is_alive(pid), "the server to end")


def test_object_that_is_dropped_while_it_is_described_is_left_out(project: Project) -> None:
    database = project.built(TABLES)
    database.sql("CREATE VIEW short_lived AS SELECT name FROM person")
    waiting = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{database.name}' AND wait_event_type = 'Lock'"
    with database.connect(autocommit=False) as other, ThreadPoolExecutor(1) as pool:
        other.execute("DROP VIEW short_lived")
        checking = pool.submit(project.found, database)
        until(lambda: bool(database.rows(waiting)), "the description to wait for the view")
        other.commit()
        assert checking.result() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drops_the_scratch_database(project: Project, server: Server, number: signal.Signals) -> None:
    database = project.built(TABLES)
    before = everything_on(server)
    project.file.write_text(TABLES + "SELECT pg_sleep(100) AS in_scratch;")
    words = ("-m", "confiture", "build", "--check", "--env", database.conninfo, "--scratch", "signalled_scratch")
    with subprocess.Popen([sys.executable, *words], cwd=project.folder, stderr=subprocess.PIPE) as process:
        asleep = "SELECT 1 FROM pg_stat_activity WHERE datname = 'signalled_scratch' AND wait_event = 'PgSleep'"
        until(lambda: bool(database.rows(asleep)), "the statement of the scratch build")
        process.send_signal(number)
        assert process.wait() == 128 + number
    assert everything_on(server) == before


def test_command_prints_the_document_of_its_schema(project: Project, confiture: Confiture) -> None:
    database = project.built(TABLES)
    schema = json.loads((ROOT / "src/confiture/schemas/check.json").read_text())
    words = ("build", "--check", "--env", database.conninfo, "--scratch", "s", "--format", "json")
    done = confiture(*words, cwd=project.folder)
    assert done.returncode == 0, done.stderr
    jsonschema.validate(json.loads(done.stdout), schema)
    assert json.loads(done.stdout)["equal"] is True
    database.sql("DROP TABLE pet; ALTER TABLE person ADD extra int")
    done = confiture(*words, cwd=project.folder)
    assert done.returncode == 7
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema)
    assert [(d["status"], d["name"], d["part_of"]) for d in found["differences"]] == [
        ("extra", "public.person.extra", "table public.person"),
        ("missing", "public.pet", None),
    ]
    assert "differs from its DDL" in done.stderr


def test_two_tasks_and_options_of_another_task_are_refused(project: Project) -> None:
    for options in ({"apply": True, "check": True}, {"check": True, "list_files": True}, {"scratch": "x"}):
        with pytest.raises(ConfitureError) as raised:
            build(**options)  # type: ignore[arg-type]
        assert raised.value.exit_code == 2
