"""``status`` of databases with incremental migrations and syncs: read from real journals, killed commands included."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

import synced
from confiture.journal import viewed
from confiture.render import status as render
from confiture.render.metrics import exposition
from confiture.status.details_reader import page_facts
from confiture.status.facts import Report, Severity
from confiture.status.report import report
from confiture.sync import planning
from confiture.web import page
from forked import Forks, until
from imported import modules_of
from migrating import NO_TRANSACTION, MigrationProject
from servers import Databases, TestDatabase
from synced import Synced

SCHEMA = json.loads((resources.files("confiture") / "schemas/status.json").read_text())


@pytest.fixture
def project(tmp_path: Path, databases: Databases, forks: Forks) -> MigrationProject:
    return MigrationProject(tmp_path, databases.cloned("CREATE TABLE item (id int, name text)"), forks)


@pytest.fixture
def sync(databases: Databases, tmp_path: Path) -> Synced:
    return synced.make(databases, tmp_path)


def of(target: str, folder: Path, *, every: bool = False) -> Report:
    """The report, which fits its schema and can be printed in every form."""
    found = report(target, folder, every=every)
    jsonschema.validate(found.as_json(), SCHEMA)
    assert render.text(found).startswith(f"{found.severity.name} ")
    assert f'"{found.severity.name}"}} 1\n' in exposition(found)
    assert "<article" in page.html(page_facts(target, folder, every=every))
    return found


# Migrations -----------------------------------------------------------------------------------------


def test_applied_and_pending_migrations_are_reported(project: MigrationProject) -> None:
    project.write(1, "ALTER TABLE item ADD a int", "ALTER TABLE item DROP a")
    project.write(2, "ALTER TABLE item ADD b int")
    project.run("up", "--to", "20260101000001")
    found = of("prod", project.folder)
    (one,) = found.migrations
    assert (found.severity, one.state, one.applied) == (Severity.OK, "pending", 1)
    assert one.pending == ({"version": 20260101000002, "name": "m", "out_of_order": False},)
    assert one.recent[0]["version"] == 20260101000001
    assert one.recent[0]["role"] == "postgres"
    assert one.next["command"] == "confiture migrate up --target prod"
    project.run("up")
    assert of("prod", project.folder).migrations[0].state == "applied"
    project.run("down", code=4)  # the second one cannot be reverted
    assert of("prod", project.folder).migrations[0].applied == 2


def test_outside_of_the_project_pending_migrations_are_not_known(project: MigrationProject, tmp_path: Path) -> None:
    project.write(1, "SELECT 1")
    project.run("up")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (one,) = of(project.database.conninfo, elsewhere).migrations
    assert (one.applied, one.pending, one.folder, one.missing) == (1, None, None, ())


def test_a_killed_migration_without_a_transaction_is_critical(project: MigrationProject) -> None:
    project.write(1, f"{NO_TRANSACTION}SELECT 1;\nCREATE INDEX CONCURRENTLY item_name ON item (name);\nSELECT 3;\n")
    project.killed_at("statement.ran")
    found = of("prod", project.folder)
    (one,) = found.migrations
    assert found.severity is Severity.CRITICAL
    assert (one.state, one.unfinished[0]["statements"]) == ("unfinished", 3)
    assert "m is unfinished: 1 of 3 statements" in one.reasons[0]
    assert one.next["command"] == "confiture migrate up --target prod"
    project.run(*one.next["command"].split()[2:3])
    assert of("prod", project.folder).severity is Severity.OK


def test_a_transactional_migration_that_was_killed_is_interrupted(project: MigrationProject) -> None:
    project.write(1, "ALTER TABLE item ADD a int; ALTER TABLE item ADD b int")
    project.killed_at("migration.statement")
    (one,) = of("prod", project.folder).migrations
    assert (one.severity, one.state, one.unfinished) == (Severity.CRITICAL, "interrupted", ())
    assert "1 migration is pending" in one.reasons[0]


def test_a_failed_migration_is_a_warning_until_the_next_one(project: MigrationProject) -> None:
    project.write(1, "ALTER TABLE no_such_table ADD a int")
    project.run("up", code=5)
    (one,) = of("prod", project.folder).migrations
    assert one.severity is Severity.WARNING
    assert "migrate up failed" in one.reasons[0]
    assert "no_such_table" in one.reasons[0]
    project.write(1, "ALTER TABLE item ADD a int")
    project.run("up")
    assert of("prod", project.folder).severity is Severity.OK


def test_an_edited_a_missing_and_an_earlier_file_are_warnings(project: MigrationProject) -> None:
    for number in (2, 3):
        project.write(number, "SELECT 1")
    project.run("up")
    project.write(1, "SELECT 1")
    project.write(2, "SELECT 2")
    (project.migrations / "20260101000003_m.up.sql").unlink()
    (one,) = of("prod", project.folder).migrations
    assert one.severity is Severity.WARNING
    assert (one.edited, one.missing) == (("20260101000002_m",), ("20260101000003_m",))
    assert one.pending is not None
    assert one.pending[0]["out_of_order"]
    project.write(4, "SELECT 1", name="wrong name")
    (one,) = of("prod", project.folder).migrations
    assert one.pending is None
    assert "the name of the file" in (one.files_problem or "")


def test_the_session_that_a_migration_waits_for_is_named(project: MigrationProject) -> None:
    project.write(1, f"{NO_TRANSACTION}CREATE INDEX CONCURRENTLY item_name ON item (name)")
    with project.database.connect(autocommit=False, application_name="the shop") as shop:
        shop.execute("INSERT INTO item VALUES (1)")
        running = project.start("up")
        blocked = lambda: any(one.run.blocking for one in report("prod", project.folder).migrations)  # noqa: E731
        until(blocked, "the migration to wait")
        (one,) = of("prod", project.folder).migrations
        assert (one.severity, one.state) == (Severity.OK, "running")
        assert one.run.blocking[0]["application"] == "the shop"
        assert one.run.blocking[0]["pid"] == shop.info.backend_pid
        assert one.next["command"] is None
        shop.rollback()
    assert running.wait().code == 0


# Syncs ----------------------------------------------------------------------------------------------


def test_a_sync_is_reported_with_its_rules_and_its_proof(sync: Synced) -> None:
    sync.run("--sample", "50")
    found = of("local", sync.folder)
    (one,) = found.syncs
    assert (found.severity, one.state, found.runs) == (Severity.OK, "cleaned", ())
    assert {(c["table"], c["column"]) for c in one.masked or ()} >= {("public.customer", "email")}
    assert one.proof is not None
    assert one.proof["passed"]
    assert one.foreign_keys == {"checked": 4, "violations": 0}
    assert one.rows == sum(
        sync.target.value(f"SELECT count(*) FROM {t}") for t in ("country", "customer", "account", "orders", "log")
    )
    assert one.options == ("--sample 50",)
    again = f"confiture sync --to local --project {sync.folder} --from production --sample 50 --replace"
    assert report("local", sync.folder, given_project=sync.folder).syncs[0].next["command"] == again


def test_a_killed_sync_is_critical_and_its_command_continues_it(sync: Synced, forks: Forks) -> None:
    assert sync.killed(forks, "copy.before_commit:3", "--where", "customer=country = 'CH'").code == -9
    found = of("local", sync.folder)
    (one,) = found.syncs
    assert found.severity is Severity.CRITICAL
    assert "the runner is dead" in one.reasons[0]
    command = "confiture sync --to local --from production --where \"customer=country = 'CH'\""
    assert one.next["command"] == command
    sync.run("--where", "customer=country = 'CH'")
    (one,) = of("local", sync.folder).syncs
    assert (one.state, one.restarts) == ("cleaned", 1)


def test_the_last_syncs_are_reported_the_newest_first(sync: Synced) -> None:
    sync.run()
    for _ in range(3):
        sync.run("--replace", "--yes")
    found = of("local", sync.folder)
    assert [one.live for one in found.syncs] == [False] * 3
    assert found.syncs[0].started_at > found.syncs[1].started_at > found.syncs[2].started_at
    assert len(found.shown) == 1
    assert len(of("local", sync.folder, every=True).syncs) == 4


def test_a_leak_is_critical_and_names_the_column(sync: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = planning._entry

    def leaking(*arguments: object) -> object:
        found = entry(*arguments)  # type: ignore[arg-type]
        return replace(found, columns=tuple(c for c in found.columns if c.target != "full_name"))

    with monkeypatch.context() as patched:
        patched.setattr(planning, "_entry", leaking)
        sync.run(check=7)
    (one,) = of("local", sync.folder).syncs
    assert one.severity is Severity.CRITICAL
    assert any("in the masked column public.customer.full_name" in reason for reason in one.reasons), one.reasons
    assert "LEAK in customer.full_name (300 of 300 values)" in " ".join(render.text(of("local", sync.folder)).split())


# All media ------------------------------------------------------------------------------------------


def test_migrations_and_a_sync_of_one_target_share_a_report(sync: Synced, forks: Forks) -> None:
    sync.run()
    folder = sync.folder / "db/migrations"
    folder.mkdir()
    (folder / "20260101000001_a.up.sql").write_text("ALTER TABLE log ADD level int")
    sync.call("migrate", "up", "--target", "local")
    found = of("local", sync.folder)
    assert [type(part).__name__ for part in found.parts] == ["MigrationsReport", "SyncRunReport"]
    assert "local  migrations  1 APPLIED" in render.text(found)
    assert "production -> local  sync" in render.text(found)
    assert "created" in sync.call("history", "--target", "local", "--all").stdout


def test_a_role_that_watches_reads_migrations_and_syncs(sync: Synced) -> None:
    sync.run()
    folder = sync.folder / "db/migrations"
    folder.mkdir()
    (folder / "20260101000001_a.up.sql").write_text("SELECT 1")
    sync.call("migrate", "up", "--target", "local")
    role = f"{sync.target.name}_viewer"
    sync.source.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'canary'")
    try:
        assert f"TO {role};" in sync.call("grants", "--target", "local", "--viewer", role, "--apply").stdout
        assert f"granted: viewers {role}" in sync.call("history", "--target", "local", "--all").stdout
        seen = of(as_role(sync.target, role), sync.folder)
        full = of(sync.target.conninfo, sync.folder)
        assert seen.unknown == ()
        assert seen.syncs[0].proof == full.syncs[0].proof
        assert seen.syncs[0].rows == full.syncs[0].rows
        assert seen.migrations[0].recent == full.migrations[0].recent
    finally:
        sync.target.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_roles_are_granted_a_database_that_has_only_migrations(project: MigrationProject) -> None:
    project.write(1, "SELECT 1")
    project.run("up")
    role = f"{project.database.name}_viewer"
    project.database.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'canary'")
    try:
        project.forks.run(["grants", "--target", "prod", "--viewer", role, "--apply"], project.folder)
        seen = of(as_role(project.database, role), project.folder)
        assert seen.unknown == ()
        assert seen.migrations[0].applied == 1
    finally:
        project.database.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def as_role(database: TestDatabase, role: str) -> str:
    return database.server.conninfo(database.name, user=role, password="canary")


@pytest.mark.parametrize("form", ["text", "json", "nagios", "openmetrics"])
def test_a_report_about_other_media_imports_no_sqlalchemy(sync: Synced, form: str) -> None:
    sync.run()
    target = ["--target", sync.target.conninfo, "--project", str(sync.folder)]
    imported = modules_of("status", *target, "--format", form, code="0")
    assert imported & {"sqlalchemy", "transitions", "networkx"} == set()


def test_a_role_without_a_grant_on_the_ledger_sees_the_rest(sync: Synced) -> None:
    sync.run()
    folder = sync.folder / "db/migrations"
    folder.mkdir()
    (folder / "20260101000001_a.up.sql").write_text("SELECT 1")
    sync.call("migrate", "up", "--target", "local")
    role = f"{sync.target.name}_old"
    sync.source.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'canary'")
    try:
        for statement in viewed.grants_of_viewer(sync.target.name, role):
            sync.target.sql(statement)
        sync.target.sql(f"REVOKE ALL ON confiture.ledger FROM {role}")
        found = report(as_role(sync.target, role), sync.folder)
        assert len(found.syncs) == 1
        assert found.severity is Severity.UNKNOWN
        assert "confiture grants --viewer" in found.unknown[0]
    finally:
        sync.target.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")
