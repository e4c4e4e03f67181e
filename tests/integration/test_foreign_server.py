"""The foreign server: what it connects with, what it leaves in logs, and how its sessions on the source end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from confiture import embedded
from confiture.embedded import Server
from confiture.operations import Where
from live import LiveRun
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE item (id int PRIMARY KEY, n int);
INSERT INTO item SELECT n, n FROM generate_series(1, 300) n;
"""
NEW = "CREATE TABLE item (id int PRIMARY KEY, n int)"
PASSWORDS = {"src": "canary'one\\", "tgt": "canary two"}


def create_role(database: TestDatabase, name: str, password: str) -> None:
    """A role that may log in; its password is in no statement."""
    with database.connect() as admin:
        verifier = admin.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{verifier}'".encode())


def as_roles(live: LiveRun) -> None:
    """Have the run use an ordinary role on each side, which owns what it needs."""
    source, target = live.source, live.target
    for database, role in ((source, f"{source.name}_src"), (target, f"{source.name}_tgt")):
        create_role(source, role, PASSWORDS[role[-3:]])
        if database is target:
            TestDatabase(source.server, "postgres").sql(f"CREATE DATABASE {target.name} OWNER {role}")
            target.sql(
                f"CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {role};"
                f"GRANT ALL ON SCHEMA public TO {role}"
            )
        else:
            database.sql(
                f"ALTER TABLE item OWNER TO {role}; GRANT ALL ON DATABASE {database.name} TO {role};"
                f"GRANT ALL ON SCHEMA public TO {role}"
            )
    live.where = Where(
        *(
            d.server.conninfo(d.name, user=f"{source.name}_{k}", password=PASSWORDS[k])
            for d, k in ((target, "tgt"), (source, "src"))
        ),
        live.project,
    )


# The password ---------------------------------------------------------------------------------------

#: A server that logs as much as one can be told to.
TALKATIVE = {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "log_min_messages": "notice",
    "log_error_verbosity": "verbose",
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_parameter_max_length": "-1",
    "auto_explain.log_verbose": "on",
}  # fmt: skip


@pytest.fixture
def talkative(request: pytest.FixtureRequest) -> Iterator[Databases]:
    bindir = None if request.param == "18" else request.getfixturevalue("old_server").bindir
    user = {} if bindir is None else {"user": "postgres"}
    settings = TALKATIVE
    if bindir is not None and not (bindir.parent / "lib" / "auto_explain.so").exists():
        settings = {k: v for k, v in TALKATIVE.items() if "auto_explain" not in v + k}
    with Server(embedded.scratch(), bindir, settings=settings, **user) as running:
        yield Databases(running)


@pytest.mark.parametrize("talkative", ["18", "15"], indirect=True)
def test_ordinary_roles_password_is_in_no_log_of_a_server_that_logs_everything(
    talkative: Databases, tmp_path: Path
) -> None:
    live = LiveRun(talkative, tmp_path, OLD, NEW, strategy="fdw", capture=False)
    as_roles(live)
    live.setup()
    assert "canary'one" in str(live.target.rows("SELECT umoptions FROM pg_user_mappings"))
    live.migrate()
    log = live.source.server.log.read_text(errors="replace")
    assert live.target.value("SELECT count(*) FROM item") == 300
    assert "CREATE SERVER" in log
    assert "COPY pg_temp.confiture_mapping FROM STDIN" in log
    assert [line for line in log.splitlines() if "canary" in line.replace("'canary'", "")] == []


@pytest.mark.parametrize("talkative", ["18"], indirect=True)
def test_password_is_in_no_log_when_the_mapping_cannot_be_created(talkative: Databases, tmp_path: Path) -> None:
    live = LiveRun(talkative, tmp_path, OLD, NEW, capture=False)
    as_roles(live)
    live.target.sql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused %', tg_tag; END $$;"
        "CREATE EVENT TRIGGER no_mapping ON ddl_command_end WHEN TAG IN ('CREATE USER MAPPING')"
        " EXECUTE FUNCTION refuse()"
    )
    live.setup()
    assert any("refused CREATE USER MAPPING" in line for line in live.progress.lines)
    log = live.source.server.log.read_text(errors="replace")
    assert "refused CREATE USER MAPPING" in log
    assert "canary" not in log
