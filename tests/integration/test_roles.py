"""Ordinary roles: everything that they lack is reported at once, and running exactly the printed statements suffices.

Roles belong to the server. Each test uses names of its own and drops them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from confiture.commands.endpoints import Endpoints
from confiture.config import Database
from confiture.errors import ConfitureError, MissingPrivileges, Refused
from confiture.plan import free_connections
from confiture.plan.model import SOURCE_CONNECTIONS, TARGET_CONNECTIONS
from confiture.postgres.connection import place
from confiture.postgres.session import Session
from confiture.types import quoted
from live import LiveRun
from servers import Databases, TestDatabase

TABLE = "CREATE TABLE item (id int PRIMARY KEY, n int); CREATE INDEX ON item (n);"
ROWS = "INSERT INTO item SELECT n, n FROM generate_series(1, 50) n;"
STATEMENT = re.compile(r": ((?:GRANT|ALTER ROLE|CREATE ROLE) .*)$", re.MULTILINE)


@dataclass
class Ordinary:
    """A run of two roles without privileges: ``mover`` on the source, ``owner`` on the target, which it owns.

    :ivar prefix: of the names of roles; a reserved word or a blank in it has to be quoted.
    """

    live: LiveRun
    prefix: str
    made: list[str] = field(default_factory=list)

    def role(self, name: str, options: str = "") -> str:
        """Create a role. Returns its name as written in SQL."""
        full = f"{self.prefix}{name}"
        if options:
            self.admin("source", f"CREATE ROLE {quoted(full)} {options}")
        self.made.append(full)
        return quoted(full)

    def admin(self, side: str, statements: str) -> None:
        """Run statements as the superuser."""
        (self.live.source if side == "source" else self.live.target).sql(statements)

    def refusal(self, command: str = "setup", **choices: object) -> ConfitureError:
        """The refusal of a command, which has changed nothing on the source."""
        with pytest.raises(Refused) as refused:
            getattr(self.live, command)(**choices)
        assert self.live.source.rows("SELECT 1 FROM pg_namespace WHERE nspname ~ '^confiture_'") == []
        return refused.value

    def grant_what_it_prints(self, refused: ConfitureError) -> list[str]:
        """Run exactly what the refusal prints, on the side that each line names. Returns the statements."""
        assert isinstance(refused, MissingPrivileges)
        statements = []
        for line in refused.why.splitlines():
            (statement,) = STATEMENT.findall(line)
            assert ("the source" in line) != ("the target" in line), line
            self.admin("source" if "the source" in line else "target", statement)
            statements.append(statement)
        return statements

    def finish(self) -> None:
        """All commands, to the rollback, the second cutover and the cleanup."""
        live = self.live
        live.setup()
        live.migrate()
        live.source.sql("UPDATE item SET n = -1 WHERE id = 7")
        assert live.verify().equal
        live.cutover()
        live.target.sql("UPDATE item SET n = -2 WHERE id = 8")
        live.rollback()
        assert live.source.value("SELECT n FROM item WHERE id = 8") == -2
        assert live.verify().equal
        live.cutover()
        live.cleanup()
        assert live.target.value("SELECT n FROM item WHERE id = 7") == -1


def ordinary(databases: Databases, folder: Path, old: str, new: str, prefix: str, *, exists: bool = True) -> Ordinary:
    live = LiveRun(databases, folder, old, new)
    run = Ordinary(live, f"{live.source.name}{prefix}")
    for name, database in (("mover", live.source), ("owner", live.target)):
        run.role(name, "LOGIN PASSWORD 'x'")
        uri = database.server.conninfo(database.name, user=f"{run.prefix}{name}", password="x")
        live.where = (
            Endpoints(live.where.target, uri, live.project)
            if name == "mover"
            else Endpoints(uri, live.where.source, live.project)
        )
    live.source.sql(f"REVOKE ALL ON DATABASE {live.source.name} FROM PUBLIC")
    live.source.sql(f"GRANT CONNECT ON DATABASE {live.source.name} TO {quoted(f'{run.prefix}mover')}")
    live.source.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    if exists:
        databases.make(live.target.name, options=f"OWNER {quoted(f'{run.prefix}owner')}")
    return run


@pytest.fixture(params=["18", "15"])
def side(request: pytest.FixtureRequest) -> Databases:
    """Databases on each version."""
    return request.getfixturevalue("databases" if request.param == "18" else "old_databases")


#: For what no version does differently.
newest = pytest.mark.parametrize("side", ["18"], indirect=True)


@pytest.fixture
def dropped(side: Databases) -> Iterator[list[Ordinary]]:
    """Runs whose databases and roles are dropped afterwards."""
    runs: list[Ordinary] = []
    yield runs
    side.drop_all()
    with psycopg.connect(TestDatabase(side.server, "postgres").conninfo, autocommit=True) as admin:
        for run in runs:
            for name in reversed(run.made):
                admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def test_the_statements_of_one_refusal_suffice_for_the_whole_run(
    side: Databases, dropped: list[Ordinary], tmp_path: Path
) -> None:
    run = ordinary(side, tmp_path, TABLE + ROWS, TABLE, " select")
    dropped.append(run)
    app = run.role("app", "NOLOGIN")
    run.admin("source", f"ALTER TABLE item OWNER TO {app}; GRANT USAGE ON SCHEMA public TO {app}")
    run.admin("target", f"ALTER DATABASE {run.live.target.name} OWNER TO postgres")
    refused = run.refusal()
    printed = "\n".join(run.grant_what_it_prints(refused))
    assert "GRANT CREATE, TEMPORARY ON DATABASE" in printed
    run.finish()


@newest
def test_without_capture_each_table_and_sequence_has_its_own_grant(
    side: Databases, dropped: list[Ordinary], tmp_path: Path
) -> None:
    serial = "CREATE TABLE item (id serial PRIMARY KEY, n int);"
    old = f'{serial} CREATE SCHEMA "user"; CREATE TABLE "user"."order" (id serial PRIMARY KEY, "end" int); {ROWS}'
    new = f'{serial} CREATE SCHEMA "user"; CREATE TABLE "user"."order" (id serial PRIMARY KEY, "end" int);'
    run = ordinary(side, tmp_path, old, new, " Order")
    dropped.append(run)
    printed = run.grant_what_it_prints(run.refusal(capture=False))
    assert any(s.startswith('GRANT SELECT ON public.item, "user"."order" TO') for s in printed)
    assert any("GRANT SELECT ON SEQUENCE" in s for s in printed)
    run.live.up_to_cutover(capture=False)
    run.live.cutover()
    run.live.cleanup()
    assert run.live.target.value("SELECT count(*) FROM item") == 50


@pytest.mark.parametrize("opened", ["", "GRANT CREATE ON SCHEMA public TO PUBLIC"], ids=["closed", "open"])
def test_all_roles_that_the_ddl_names_are_reported_at_once(
    side: Databases, dropped: list[Ordinary], tmp_path: Path, opened: str
) -> None:
    names = ("reader", "Writer", "new_owner", "analyst", "default", "late")
    run = ordinary(side, tmp_path, TABLE + ROWS, TABLE, "_")
    dropped.append(run)
    run.admin("target", opened)
    reader, writer, owner, analyst, default, late = (run.role(name) for name in names)
    (run.live.project / "db/schema/10/new.sql").write_text(
        f"{TABLE} CREATE TABLE more (id int); GRANT SELECT ON item, more TO {reader}, {writer};"
        f" ALTER TABLE item ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON item TO {analyst} USING (true);"
        f" ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {default};"
        f" ALTER TABLE item OWNER TO {owner};"
        f" DO $$ BEGIN EXECUTE 'GRANT SELECT ON more TO ' || quote_ident('{run.prefix}late'); END $$;"
    )
    refused = run.refusal()
    printed = run.grant_what_it_prints(refused)
    (created,) = (s for s in printed if s.startswith("CREATE ROLE"))
    assert created.split("; ") == [f"CREATE ROLE {r}" for r in (reader, writer, analyst, default, owner, late)]
    run.finish()
    assert run.live.target.value("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'item'") == owner


def test_a_membership_that_does_not_inherit_gets_a_grant_that_helps(
    side: Databases, dropped: list[Ordinary], tmp_path: Path
) -> None:
    run = ordinary(side, tmp_path, TABLE + ROWS, TABLE, "_")
    dropped.append(run)
    app = run.role("app", "NOLOGIN")
    run.admin("source", f"ALTER TABLE item OWNER TO {app}; GRANT USAGE, CREATE ON SCHEMA public TO {app}")
    for member in ("mover", "owner"):
        run.admin("source", f"ALTER ROLE {run.prefix}{member} NOINHERIT; GRANT {app} TO {run.prefix}{member}")
    run.admin("target", f"{TABLE} GRANT CREATE ON SCHEMA public TO {app}; ALTER TABLE item OWNER TO {app}")
    printed = run.grant_what_it_prints(run.refusal())
    modern = int(run.live.source.value("SHOW server_version_num")) >= 160000
    assert sum("WITH INHERIT TRUE" in s if modern else s.endswith(" INHERIT") for s in printed) == 2
    run.finish()


@newest
@pytest.mark.parametrize("forced", ["source", "target"])
def test_forced_row_security_is_refused_until_the_role_sees_every_row(
    side: Databases, dropped: list[Ordinary], tmp_path: Path, forced: str
) -> None:
    row_security = "ALTER TABLE item ENABLE ROW LEVEL SECURITY; ALTER TABLE item FORCE ROW LEVEL SECURITY;"
    tables = {s: TABLE + (row_security if s == forced else "") for s in ("source", "target")}
    run = ordinary(side, tmp_path, tables["source"] + ROWS, tables["target"], "_")
    dropped.append(run)
    app = run.role("app", "NOLOGIN")
    run.admin("source", f"ALTER TABLE item OWNER TO {app}; GRANT USAGE ON SCHEMA public TO {app}")
    printed = run.grant_what_it_prints(run.refusal())
    assert sum(s.endswith("BYPASSRLS") for s in printed) == 1
    run.finish()


def test_a_target_that_cannot_be_created_is_about_createdb_only(
    side: Databases, dropped: list[Ordinary], tmp_path: Path
) -> None:
    run = ordinary(side, tmp_path, TABLE + ROWS, TABLE, "_", exists=False)
    dropped.append(run)
    for command in ("plan", "setup"):
        refused = run.refusal(command)
        assert f"ALTER ROLE {run.prefix}owner CREATEDB" in refused.why
        assert "GRANT CREATE, TEMPORARY ON DATABASE" in refused.why
        assert "WITH INHERIT TRUE" in refused.why or "GRANT postgres TO" in refused.why
        assert "schema public of the target" not in refused.why
    for line in refused.why.splitlines():
        (statement,) = STATEMENT.findall(line)
        run.admin("source", statement)
    with pytest.raises(Refused) as untried:
        run.live.plan()
    create = re.search(r"CREATE DATABASE .*?(?= there, then)", untried.value.fix)
    assert create is not None
    uri = run.live.where.target.replace(f"/{run.live.target.name}", "/postgres")
    with psycopg.connect(uri, autocommit=True) as ours:
        ours.execute(create[0].encode())
    assert run.live.plan().tables
    with psycopg.connect(uri, autocommit=True) as ours:
        ours.execute(f"DROP DATABASE {run.live.target.name}".encode())
    run.finish()


def test_every_key_word_is_quoted_where_the_server_requires_it(side: Databases) -> None:
    with side.make().connect(autocommit=False) as database:
        words = [word for (word,) in database.execute("SELECT word FROM pg_get_keywords()").fetchall()]
        for word in words:
            name = quoted(word)
            if word not in ("public", "none"):  # which no role may have as its name
                database.execute(f"CREATE ROLE {name}; GRANT {name} TO CURRENT_USER".encode())
            database.execute(f"CREATE SCHEMA {name}; CREATE TABLE {name}.{name} ({name} int)".encode())
            database.execute(
                f"GRANT SELECT ON {name}.{name} TO PUBLIC; SELECT {name}::text FROM {name}.{name}".encode()
            )
        database.rollback()
    assert len(words) > 400
    assert [w for w in ("name", "value", "time", "values") if quoted(w) != w] == []


def test_settings_of_the_roles_do_not_change_a_run(side: Databases, dropped: list[Ordinary], tmp_path: Path) -> None:
    run = ordinary(side, tmp_path, TABLE + ROWS, TABLE, "_")
    dropped.append(run)
    array = "CREATE TYPE tag AS ENUM ('a'); ALTER TABLE item ADD tags tag[];"
    run.admin("source", array + "UPDATE item SET tags = '{a,NULL}' WHERE id = 1")
    (run.live.project / "db/schema/10/new.sql").write_text(TABLE + array)
    settings = {
        "default_transaction_read_only": "on",
        "default_transaction_isolation": "serializable",
        "default_transaction_deferrable": "on",
        "statement_timeout": "1ms",
        "lock_timeout": "1ms",
        "idle_in_transaction_session_timeout": "1ms",
        "row_security": "on",
        "search_path": "nowhere",
        "array_nulls": "off",
        "transform_null_equals": "on",
        "quote_all_identifiers": "on",
        "standard_conforming_strings": "off",
    }
    run.grant_what_it_prints(run.refusal())
    for database, role in ((run.live.source, "mover"), (run.live.target, "owner")):
        for name, value in settings.items():
            of_role = f"ALTER ROLE {run.prefix}{role} IN DATABASE {database.name} SET {name} = '{value}'"
            TestDatabase(side.server, "postgres").sql(of_role)
    run.finish()
    assert run.live.target.value("SELECT array_to_string(tags::text[], ',', '?') FROM item WHERE id = 1") == "a,?"


@pytest.mark.parametrize("spare", [0, -1])
def test_the_run_needs_as_many_connections_as_the_plan_requires(
    side: Databases, dropped: list[Ordinary], tmp_path: Path, spare: int
) -> None:
    run = ordinary(side, tmp_path, TABLE + ROWS, TABLE, "_")
    dropped.append(run)
    run.admin("target", "CREATE EXTENSION postgres_fdw")
    run.admin("target", f"GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {run.prefix}owner")
    run.grant_what_it_prints(run.refusal())
    for role, needed in (("mover", SOURCE_CONNECTIONS), ("owner", TARGET_CONNECTIONS)):
        run.admin("source", f"ALTER ROLE {run.prefix}{role} CONNECTION LIMIT {needed + spare}")
    if spare < 0:
        refused = run.refusal()
        for role, needed in (("mover", SOURCE_CONNECTIONS), ("owner", TARGET_CONNECTIONS)):
            assert f"ALTER ROLE {run.prefix}{role} CONNECTION LIMIT {needed}" in refused.why
        return
    assert any(f"{TARGET_CONNECTIONS} connections" in note for note in run.live.plan().notes)
    run.live.choices = run.live.chosen(index_jobs=9)
    run.finish()
    reduced = (
        f"1 index build at a time instead of 9: role {run.prefix}owner has 0 connections to spare, and each needs 1"
    )
    assert reduced in run.live.progress.lines


def test_indexes_are_built_with_the_connections_that_are_left(
    side: Databases, dropped: list[Ordinary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = "".join(f" CREATE INDEX item_n{n} ON item (n, id) WHERE n > {n};" for n in range(9))
    run = ordinary(side, tmp_path, TABLE + ROWS, TABLE + indexes, "_")
    dropped.append(run)
    run.grant_what_it_prints(run.refusal())
    # As if other sessions of the role began after the connections were counted.
    monkeypatch.setattr(free_connections, "TARGET_CONNECTIONS", -4)
    run.live.choices = run.live.chosen(index_jobs=9)
    run.live.setup()
    run.admin("target", f"ALTER ROLE {run.prefix}owner CONNECTION LIMIT {TARGET_CONNECTIONS}")
    run.live.migrate()
    assert any(line.startswith("continuing with ") for line in run.live.progress.lines)
    assert run.live.target.value("SELECT count(*) FROM pg_index WHERE indrelid = 'item'::regclass") == 11


def test_the_place_of_an_application_does_not_name_the_role(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, server = databases.make(name=None), databases.server
    services = tmp_path / "services"
    services.write_text(f"[new]\nhost=127.0.0.1\nport={server.port}\nuser=postgres\ndbname={made.name}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    reached = f"host 127.0.0.1, port {server.port}, database {made.name}"
    for conninfo, wanted in (
        (made.conninfo, reached),
        ("service=new", reached),
        (
            f"host={server.root} port={server.port} user=postgres dbname={made.name}",
            f"socket directory {server.root}, port {server.port}, database {made.name}",
        ),
    ):
        with Session(Database("new", conninfo), "test") as session:
            assert place(session.pg) == wanted
