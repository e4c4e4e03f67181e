"""The privileges of ``docs/privileges.md`` suffice for every command, and each one is needed."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from confiture.commands.endpoints import Endpoints
from conftest import ROOT
from live import LiveRun
from projects import OLD, Project, error
from servers import Databases, TestDatabase

PAGE = ROOT / "docs" / "privileges.md"
PASSWORDS = {"source-password": "unspoken1-source", "target-password": "unspoken2-target"}


def blocks(server_version: int) -> list[tuple[str, str]]:
    """The SQL blocks of the page for this version of PostgreSQL, each with the database where it runs."""
    found = re.findall(r"^```sql\n-- on ([^\n]*)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    other = "16 and earlier" if server_version >= 170000 else "17 and later"
    return [(place, text) for place, text in found if other not in place]


@dataclass(frozen=True)
class Site:
    """A project that connects to its databases as the two roles of the page, over TCP with SCRAM."""

    project: Project
    source_role: str
    target_role: str
    names: dict[str, str]
    statements: tuple[tuple[str, str], ...]

    def named(self, text: str) -> str:
        """The SQL of the page with the names of this test."""
        for word, name in self.names.items():
            text = re.sub(rf"\b{re.escape(word)}\b", name, text)
        return text

    def execute(self, *places: str) -> None:
        """Run the page's blocks for these places, as the administrator."""
        for place, text in self.statements:
            if place.split(",")[0] in places and "after" not in place:
                database = self.project.new if place.startswith("prod_new") else self.project.source
                for statement in filter(str.strip, self.named(text).split(";\n")):
                    database.sql(statement)

    def clean(self) -> None:
        """Run the block for the time after the migration. It must suffice to drop the role."""
        (text,) = (text for place, text in self.statements if "after" in place)
        for statement in filter(str.strip, self.named(text).split(";\n")):
            self.project.source.sql(statement)


@pytest.fixture
def site(tmp_path: Path, databases: Databases) -> Iterator[Site]:
    """A site after all steps of the page. The roles have no other privileges."""
    source = databases.cloned(OLD)
    target = f"{source.name}_new"
    databases.adopt(target)
    project = Project(tmp_path, source, target)
    roles = (f"{source.name}_src", f"{source.name}_tgt")
    names = {"confiture_source": roles[0], "confiture_target": roles[1], "prod_new": target, "prod": source.name}
    names["app_owner"] = "postgres"
    version = int(source.value("SHOW server_version_num"))
    site = Site(project, *roles, names={**names, **PASSWORDS}, statements=tuple(blocks(version)))
    source.sql(f"REVOKE ALL ON DATABASE {source.name} FROM PUBLIC")
    site.execute("prod", "the target's server", "prod_new")
    for environment, role, name, password in (
        ("prod", roles[0], source.name, PASSWORDS["source-password"]),
        (target, roles[1], target, PASSWORDS["target-password"]),
    ):
        uri = source.server.conninfo(name, user=role, password=password)
        project.write(f"db/environments/{environment}.yaml", f"database_url: {uri}\n")
    yield site
    _drop(databases, site)


def _drop(databases: Databases, site: Site) -> None:
    databases.drop_all()
    maintenance = TestDatabase(databases.server, "postgres")
    for role in (site.source_role, site.target_role):
        maintenance.sql(f"DROP ROLE IF EXISTS {role}")


@contextlib.contextmanager
def watching(database: TestDatabase) -> Iterator[list[str]]:
    """The queries in pg_stat_activity and the command lines in the process list while the block runs."""
    seen: set[str] = set()
    end = threading.Event()

    def watch() -> None:
        with database.connect() as connection:
            while not end.wait(0.01):
                rows = connection.execute("SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()").fetchall()
                seen.update(query for (query,) in rows if query)
                for path in Path("/proc").glob("[0-9]*/cmdline"):
                    with contextlib.suppress(OSError):
                        seen.add(path.read_bytes().decode(errors="replace"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    shown: list[str] = []
    try:
        yield shown
    finally:
        end.set()
        watcher.join()
        shown += sorted(seen)


def journal(database: TestDatabase) -> str:
    """Every row of the journal as text."""
    tables = database.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'confiture'")
    return "\n".join(str(database.rows(f"SELECT t::text FROM confiture.{name} t")) for (name,) in tables)


def test_documented_privileges_suffice_and_no_password_is_shown(site: Site) -> None:
    project = site.project
    project.new.sql(f"ALTER DATABASE {project.target} SET log_statement = 'ddl'")
    said: list[str] = []
    by_fdw = ("--source", "prod", "--mapping", "column_mapping.yaml", "--strategy", "fdw")
    with watching(project.source) as shown:
        for step in (
            ("plan", *by_fdw, "--format", "json"),
            ("setup", *by_fdw, "--verbose"),
            ("migrate", "--verbose"),
            ("plan", "--format", "json"),
            ("verify", "--format", "json"),
            ("cutover", "--hook", "switch=env"),
        ):
            done = project.step(
                *step, apart=True, env={"PGPASSWORD": "unspoken3", "ANY_URL": "postgresql://a:unspoken4@b/c"}
            )
            said += [done.stdout, done.stderr]
    assert '"strategy": "fdw"' in said[0]
    assert project.new.rows("SELECT umoptions FROM pg_user_mappings") == []
    assert "CONFITURE_TARGET_URL=postgresql://" in said[-1]
    with project.source.connect() as connection:
        ours = connection.execute("SELECT query FROM pg_stat_activity WHERE query ~ 'unspoken'").fetchall()
    log = project.source.server.log.read_text(errors="replace")
    assert "CREATE SERVER" in log
    assert any("confiture" in text for text in shown)
    for place in (*said, *shown, journal(project.new), log, str(ours)):
        assert "unspoken" not in place.replace("query ~ 'unspoken'", "")
    assert project.new.value("SELECT count(*) FROM tb_user") == 300
    project.step("cleanup", "--yes")
    site.clean()


def test_the_sources_password_is_on_the_target_only_while_rows_are_copied(site: Site) -> None:
    project, there = site.project, "SELECT umoptions FROM pg_user_mappings"
    project.setup("--chunk-rows", "50", "--no-capture")
    assert "unspoken1-source" in str(project.new.rows(there))
    project.step("migrate", check=-signal.SIGKILL, env={"CONFITURE_FAILPOINT": "copy.after_commit:3"})
    assert len(project.new.rows(there)) == 1
    project.step("migrate")
    assert project.new.rows(there) == []
    project.step("migrate", "--restart-table", "tb_post")
    assert project.new.rows(there) == []
    project.step("verify")
    assert project.new.value("SELECT count(*) FROM tb_user") == 300


@pytest.mark.parametrize("file", ["password", "service"])
def test_no_password_of_a_file_reaches_a_hook(site: Site, file: str) -> None:
    project, secret = site.project, PASSWORDS["source-password"]
    port, name, role = project.source.server.port, project.source.name, site.source_role
    project.reach("verified")
    if file == "password":
        made = project.write("passwords", f"127.0.0.1:{port}:{name}:{role}:{secret}\n")
        url, variable = f"postgresql://{role}@127.0.0.1:{port}/{name}", "PGPASSFILE"
    else:
        made = project.write("services", f"[old]\nhost=127.0.0.1\nport={port}\nuser={role}\npassword={secret}\n")
        url, variable = f"service=old dbname={name}", "PGSERVICEFILE"
    made.chmod(0o600)
    project.write("db/environments/prod.yaml", f"database_url: {url}\n")
    leaks = {"PLAIN": f"-p{secret}", "ENCODED": "".join(f"%{byte:02x}" for byte in secret.encode()), "KEPT": "kept"}
    done = project.step("cutover", "--hook", "switch=env", apart=True, env={variable: str(made), **leaks})
    assert "KEPT=kept" in done.stderr
    assert f"{variable}={made}" in done.stderr
    assert "PLAIN" not in done.stderr
    assert "ENCODED" not in done.stderr


def test_role_with_the_owners_privileges_captures_writes(site: Site) -> None:
    setup = ("migrate", "schema-to-schema", "setup", "--source", "prod", "--target", site.project.target)
    mapped = (*setup, "--mapping", "column_mapping.yaml")
    reported = error(site.project.run(*mapped, check=4))
    assert "tb_post, tb_user" in reported
    assert f"GRANT postgres TO {site.source_role}" in reported
    assert site.project.source.rows("SELECT 1 FROM pg_trigger WHERE NOT tgisinternal") == []
    site.execute("prod with capture")
    site.project.run(*mapped)
    site.project.step("migrate")
    site.project.source.sql("UPDATE tb_user SET name = 'during' WHERE id = 7")
    for step, *options in (["verify"], ["cutover", "--no-rollback"], ["cleanup", "--yes"]):
        site.project.step(step, *options)
    assert site.project.new.value("SELECT name FROM tb_user WHERE id = 7") == "during"


def test_documented_privileges_suffice_for_an_abort_and_a_new_run(site: Site) -> None:
    site.project.reach("migrating")
    site.project.step("abort", "--yes")
    site.project.reach("verified")


SOURCE_PRIVILEGES = [
    ("CREATE ON DATABASE {source}", "GRANT CREATE ON DATABASE {source} TO {role}"),
    ("TEMPORARY ON DATABASE {source}", "GRANT TEMPORARY ON DATABASE {source} TO {role}"),
    ("USAGE ON SCHEMA public", "GRANT USAGE ON SCHEMA public TO {role}"),
    ("SELECT ON tb_user", "GRANT SELECT ON public.tb_user TO {role}"),
    ("SELECT ON SEQUENCE tb_post_id_seq", "GRANT SELECT ON SEQUENCE public.tb_post_id_seq TO {role}"),
    ("MAINTAIN ON tb_post", "GRANT MAINTAIN ON public.tb_post TO {role}"),
]


def test_each_missing_privilege_on_the_source_is_reported_with_its_grant(site: Site) -> None:
    source, role = site.project.source, site.source_role
    # The privileges of PUBLIC on the schema would replace those of the role.
    source.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for privilege, grant in SOURCE_PRIVILEGES:
        privilege, grant = (text.format(source=source.name, role=role) for text in (privilege, grant))
        source.sql(f"REVOKE {privilege} FROM {role}")
        reported = error(site.project.setup(check=4))
        assert grant in reported, reported
        source.sql(re.search(r"GRANT .*", reported)[0].split(";")[0])  # type: ignore[index]
    assert site.project.new.rows("SELECT 1 FROM pg_namespace WHERE nspname = 'confiture'") == []
    site.project.setup()


def test_all_missing_privileges_are_reported_together(site: Site) -> None:
    site.project.source.sql(f"REVOKE SELECT ON tb_user, tb_post FROM {site.source_role}")
    reported = error(site.project.setup(check=4))
    assert f"GRANT SELECT ON public.tb_post, public.tb_user TO {site.source_role}" in reported


def test_an_omitted_table_needs_no_privilege(site: Site) -> None:
    site.project.source.sql("CREATE TABLE tb_secret (id int)")
    with (site.project.folder / "column_mapping.yaml").open("a") as mapping:
        mapping.write("$omit: [tb_secret]\n")
    site.project.setup()


def test_row_security_is_refused_until_the_role_sees_every_row(site: Site) -> None:
    source, role = site.project.source, site.source_role
    source.sql("ALTER TABLE tb_user ENABLE ROW LEVEL SECURITY")
    assert f"ALTER ROLE {role} BYPASSRLS" in error(site.project.setup(check=4))
    source.sql(f"ALTER ROLE {role} BYPASSRLS")
    site.project.reach("verified")
    assert site.project.new.value("SELECT count(*) FROM tb_user") == 300


def test_row_security_enabled_during_the_run_hides_no_row(site: Site) -> None:
    site.project.setup("--no-capture")
    site.project.source.sql("ALTER TABLE tb_post ENABLE ROW LEVEL SECURITY")
    assert "row-level security" in error(site.project.step("migrate", check=4))
    site.project.source.sql("ALTER TABLE tb_post DISABLE ROW LEVEL SECURITY")
    site.project.step("migrate")
    site.project.step("verify")


def test_target_without_the_create_privilege_is_refused_with_its_grant(site: Site) -> None:
    new = site.project.new
    new.sql(f"ALTER DATABASE {new.name} OWNER TO postgres")
    reported = error(site.project.setup(check=4))
    assert f"GRANT CREATE ON DATABASE {new.name} TO {site.target_role}" in reported
    assert new.rows("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'confiture%'") == []


def test_tables_of_another_owner_on_the_target_are_refused(site: Site) -> None:
    new = site.project.new
    for file in sorted((site.project.folder / "db/schema/10_tables").iterdir()):
        new.sql(file.read_text())
    for table in ("tb_user", "tb_post"):
        assert f"GRANT postgres TO {site.target_role}" in error(site.project.setup(check=4))
        new.sql(f"GRANT SELECT ON {table} TO {site.target_role}")
    reported = error(site.project.setup(check=4))
    assert "(tb_post, tb_user) of the target belongs to postgres: GRANT postgres TO" in reported


def test_missing_createdb_is_reported_when_the_target_does_not_exist(site: Site, databases: Databases) -> None:
    with psycopg.connect(site.project.source.conninfo, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {site.project.target}".encode())
    reported = error(site.project.setup(check=4))
    assert f"ALTER ROLE {site.target_role} CREATEDB" in reported
    TestDatabase(databases.server, "postgres").sql(f"ALTER ROLE {site.target_role} CREATEDB")
    site.project.reach("migrating")


@pytest.mark.parametrize(
    ("undo", "reason"),
    [
        ("REVOKE USAGE ON FOREIGN DATA WRAPPER postgres_fdw FROM {role}", "permission denied for foreign-data wrapper"),
        ("DROP EXTENSION postgres_fdw", "permission denied to create extension"),
    ],
)
def test_postgres_fdw_that_the_role_may_not_use_is_refused_or_not_used(site: Site, undo: str, reason: str) -> None:
    site.project.new.sql(undo.format(role=site.target_role))
    by_fdw = ("--source", "prod", "--mapping", "column_mapping.yaml", "--strategy", "fdw")
    assert reason in error(site.project.step("plan", *by_fdw, check=4))
    site.project.reach("verified")


def test_blocker_of_another_role_is_named_without_further_privileges(site: Site) -> None:
    site.project.reach("verified")
    with site.project.source.connect(autocommit=False) as blocker:
        blocker.execute("UPDATE tb_user SET name = name WHERE id = 1")
        reported = error(site.project.step("cutover", "--give-up-after", "0", check=8))
        assert f"pid {blocker.info.backend_pid} (postgres" in reported
        blocker.rollback()
    site.project.step("cutover")


def test_missing_privilege_to_end_a_session_exits_4_and_names_the_grant(site: Site) -> None:
    project = site.project
    project.reach("verified")
    command = ("cutover", "--terminate-blockers", "--lock-timeout", "0.1", "--give-up-after", "20")
    application = f"{project.source.name}_app"
    project.source.sql(f"CREATE ROLE {application}; GRANT UPDATE, SELECT ON tb_user TO {application}")
    try:
        with project.source.connect(autocommit=False) as blocker:
            blocker.execute(f"SET SESSION AUTHORIZATION {application}; UPDATE tb_user SET name = name WHERE id = 1")
            reported = error(project.step(*command, check=4))
            assert f"GRANT pg_signal_backend TO {site.source_role}" in reported
            assert f"pid {blocker.info.backend_pid}" in reported
            assert project.state == "verified"
            project.source.sql(f"GRANT pg_signal_backend TO {site.source_role}")
            reported = error(project.step(*command, check=4))
            assert "superuser's session" in reported
    finally:
        project.source.sql(f"DROP OWNED BY {application}; DROP ROLE {application}")


# Privileges of PUBLIC on created objects -------------------------------------------------------------

GENEROUS = """
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC;
"""
#: Schemas that PUBLIC may use, functions without a fixed search_path, and SECURITY DEFINER functions of PUBLIC.
OPEN = """
SELECT nspname::text FROM pg_namespace, aclexplode(nspacl) a WHERE nspname ~ '^confiture' AND a.grantee = 0
UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname ~ '^confiture' AND (
    NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)
    OR p.prosecdef AND EXISTS (
        SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0))
"""


def test_default_privileges_grant_public_nothing_on_created_objects(databases: Databases, tmp_path: Path) -> None:
    table = "CREATE TABLE item (id int PRIMARY KEY, n int);"
    live = LiveRun(databases, tmp_path, table + "INSERT INTO item VALUES (1, 1);" + GENEROUS, table)
    databases.make(live.target.name)
    live.target.sql(GENEROUS)
    for step in ("setup", "migrate", "verify", "cutover", "rollback"):
        getattr(live, step)()
        assert live.source.rows(OPEN) + live.target.rows(OPEN) == [], step
    assert live.source.rows(
        "SELECT 1 FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname ~ '^conf'"
    )


def test_superusers_password_is_in_no_log_of_every_statement(databases: Databases, tmp_path: Path) -> None:
    table = "CREATE TABLE item (id int PRIMARY KEY, n int);"
    live = LiveRun(databases, tmp_path, table + "INSERT INTO item VALUES (1, 1)", table)
    databases.make(live.target.name)
    live.target.sql(f"ALTER DATABASE {live.target.name} SET log_statement = 'all'")
    role = f"{live.source.name}_super"
    live.source.sql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'unspoken5'")
    try:
        source = live.source.server.conninfo(live.source.name, user=role, password="unspoken5")
        live.where = Endpoints(live.target.conninfo, source, live.project)
        live.setup()
        assert "unspoken5" in str(live.target.rows("SELECT umoptions FROM pg_user_mappings"))
        log = live.target.server.log.read_text(errors="replace")
        assert "CREATE SERVER" in log
        assert "unspoken5" not in log.replace("PASSWORD 'unspoken5'", "")
    finally:
        databases.drop_all()
        TestDatabase(databases.server, "postgres").sql(f"DROP ROLE {role}")
