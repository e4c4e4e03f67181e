"""setup: it creates the target on the source's server, accepts every form of name, and refuses unsuitable servers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from confiture.errors import Refused
from confiture.postgres import embedded
from confiture.postgres.connection import refuse_version
from confiture.postgres.embedded import Server
from projects import OLD, Project, error
from servers import Databases, TestDatabase

#: Encoding and locale, under the names that the catalog of this version uses.
LOCALE = (
    "SELECT key, value FROM pg_database d, jsonb_each_text(to_jsonb(d)) WHERE datname = '{}'"
    " AND key IN ('encoding', 'datlocprovider', 'datcollate', 'datctype', 'datlocale', 'daticulocale') ORDER BY key"
)


@pytest.fixture
def project(tmp_path: Path, databases: Databases) -> Project:
    """A project whose target does not exist yet."""
    return make_project(tmp_path, databases, databases.cloned(OLD))


def make_project(folder: Path, databases: Databases, source: TestDatabase) -> Project:
    """The target is named after the source, and dropped after the test."""
    target = f"{source.name}_new"
    databases.adopt(target)
    return Project(folder, source, target)


# The target ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("databases", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"),
        ("databases", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C'"),
        ("old_databases", "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'"),
    ],
)
def test_setup_creates_the_target_with_the_sources_encoding_and_locale(
    request: pytest.FixtureRequest, tmp_path: Path, where: str, options: str
) -> None:
    databases: Databases = request.getfixturevalue(where)
    try:
        source = databases.make(options=options)
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.SyntaxError) as refused:
        pytest.skip(f"this PostgreSQL does not support it: {refused}")
    source.sql(OLD)
    project = make_project(tmp_path, databases, source)
    said = project.setup().stderr
    assert source.rows(LOCALE.format(project.target)) == source.rows(LOCALE.format(source.name))
    file = project.folder / f"db/environments/{project.target}.yaml"
    assert f"wrote db/environments/{project.target}.yaml" in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == f"like: prod\ndatabase: {project.target}\n"


def test_setup_creates_the_target_with_a_given_encoding_and_locale(project: Project) -> None:
    project.setup("--encoding", "SQL_ASCII", "--locale", "C")
    found = dict(project.source.rows(LOCALE.format(project.target)))
    assert (found["encoding"], found["datlocprovider"], found["datcollate"], found["datctype"]) == ("0", "c", "C", "C")


def test_setup_creates_a_target_given_by_uri_and_writes_no_environment(project: Project) -> None:
    uri = project.new.conninfo
    mapped = ("--mapping", "column_mapping.yaml")
    project.run("migrate", "schema-to-schema", "setup", "--source", "prod", "--target", uri, *mapped)
    assert project.state == "setup"
    assert os.listdir(project.folder / "db/environments") == ["prod.yaml"]
    project.run("migrate", "schema-to-schema", "migrate", "--target", uri)


def test_every_form_of_database_name_works(project: Project, tmp_path: Path) -> None:
    server = project.source.server
    project.write(f"db/environments/{project.target}.yaml", f"like: prod\ndatabase: {project.target}\n")
    project.write(
        "db/environments/prod.yaml",
        "database_url: postgresql://${DB_USER}@127.0.0.1:${DB_PORT:-1}/" + project.source.name + "\n",
    )
    variables = {"DB_USER": "postgres", "DB_PORT": str(server.port)}
    services = project.write(
        "services.conf",
        f"[old]\nhost=127.0.0.1\nport={server.port}\nuser=postgres\ndbname={project.source.name}\n"
        f"[new]\nhost=127.0.0.1\nport={server.port}\nuser=postgres\ndbname={project.target}\n"
        f"[server]\nhost=127.0.0.1\nport={server.port}\nuser=postgres\n",
    )
    service = {"PGSERVICEFILE": str(services)}
    project.setup(env=variables)
    schema = ("migrate", "schema-to-schema")
    # The target is given by service. The journal names the source's environment, which is in this project.
    project.run(
        *schema, "migrate", "--target", "service=new", "--mapping", "column_mapping.yaml", env=variables | service
    )
    project.run(*schema, "verify", "--target", f"service=server dbname={project.target}", env=variables | service)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.step("plan", "--project", str(project.folder), cwd=elsewhere, env=variables)
    # Outside the project, --source gives the address of the source.
    project.run(
        *schema, "cutover", "--target", project.new.conninfo, "--source", "service=old", cwd=elsewhere, env=service
    )
    assert project.state == "cutover"


def test_a_password_from_a_passfile_works_for_both_sides(project: Project) -> None:
    role = f"{project.source.name}_role"
    project.source.sql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'from-the-file'")
    try:
        passfile = project.write("passfile", f"127.0.0.1:{project.source.server.port}:*:{role}:from-the-file\n")
        passfile.chmod(0o600)
        uri = project.source.server.conninfo(project.source.name, user=role)
        project.write("db/environments/prod.yaml", f"database_url: {uri}\n")
        known = {"PGPASSFILE": str(passfile)}
        by_fdw = ("--mapping", "column_mapping.yaml", "--strategy", "fdw")
        plan = project.step("plan", "--all", "--source", "prod", *by_fdw, env=known).stdout
        assert plan.count("strategy  fdw (requested)") == 2
        project.setup("--strategy", "fdw", env=known)
        project.step("migrate", env=known)
        # In any folder, the target is enough: the journal has the address of the source without its password.
        project.run(
            "migrate", "schema-to-schema", "verify", "--target",
            project.source.server.conninfo(project.target, user=role), cwd=project.folder / "db/schema", env=known,
        )  # fmt: skip
    finally:
        for name in (project.target, project.source.name):
            TestDatabase(project.source.server, name).sql(f"REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}")
        project.source.sql(f"ALTER DATABASE {project.target} OWNER TO postgres; DROP ROLE {role}")


# Two servers, and how the target reaches the source ------------------------------------------------


@pytest.mark.parametrize("older", ["source", "target"])
def test_source_and_target_may_have_different_server_versions(
    tmp_path: Path, databases: Databases, old_databases: Databases, older: str
) -> None:
    on_source, on_target = (old_databases, databases) if older == "source" else (databases, old_databases)
    source = on_source.cloned(OLD)
    target = TestDatabase(on_target.server, f"{source.name}_new")
    on_target.adopt(target.name)
    project = Project(tmp_path, source, target.name)
    project.write(f"db/environments/{target.name}.yaml", f"database_url: {target.conninfo}\n")
    project.setup()
    for step in ("migrate", "verify", "cutover"):
        project.step(step)
    project.step("cleanup", "--yes", "--drop-source", source.name)
    assert target.value("SELECT count(*) FROM tb_post") == 500
    assert (
        TestDatabase(on_source.server, "postgres").rows(f"SELECT 1 FROM pg_database WHERE datname = '{source.name}'")
        == []
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "host=127.0.0.1 port=1"])
def test_a_source_that_the_target_cannot_reach_is_copied_with_copy(project: Project, address: str) -> None:
    arguments = ("--source", "prod", "--mapping", "column_mapping.yaml", "--source-seen-from-target", address)
    plan = project.step("plan", "--all", *arguments).stdout
    assert plan.count("strategy  copy") == 2
    message = error(project.step("plan", *arguments, "--strategy", "fdw", check=4))
    assert "strategy fdw was requested, but" in message
    assert "cannot use postgres_fdw on the source: could not connect" in message
    project.step("setup", *arguments)
    project.step("migrate")
    project.step("verify")


def test_copy_is_used_if_the_sources_address_reaches_another_server(project: Project, old_server: Server) -> None:
    TestDatabase(old_server, "postgres").sql(f"CREATE DATABASE {project.source.name}")
    try:
        address = f"127.0.0.1:{old_server.port}"
        arguments = ("--mapping", "column_mapping.yaml", "--source-seen-from-target", address)
        refused = project.step("plan", "--source", "prod", *arguments, "--strategy", "fdw", check=4)
        assert "reaches another server under the source's address" in error(refused)
    finally:
        TestDatabase(old_server, "postgres").sql(f"DROP DATABASE {project.source.name}")


def test_copy_is_used_if_the_target_lacks_the_extension(project: Project, databases: Databases) -> None:
    databases.make(project.target)
    # PostgreSQL 18 looks for extensions in the configured path only. This path has none.
    project.new.sql(f"ALTER DATABASE {project.target} SET extension_control_path = '/nowhere'")
    by_fdw = ("--source", "prod", "--mapping", "column_mapping.yaml", "--strategy", "fdw")
    assert 'extension "postgres_fdw" is not available' in error(project.step("plan", *by_fdw, check=4))
    project.reach("verified")


# Servers that are refused --------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "known"), [(130014, False), (140000, True), (180099, True), (190000, False)])
def test_versions_outside_14_to_18_are_refused(version: int, known: bool) -> None:
    if known:
        refuse_version("prod", version)
        return
    with pytest.raises(Refused, match=f"prod runs PostgreSQL {version // 10000}"):
        refuse_version("prod", version)


@pytest.fixture(scope="module")
def unsafe_server() -> Iterator[Server]:
    """A server with fsync=off, which can lose committed data in a crash."""
    with Server(embedded.scratch(), settings={"fsync": "off"}) as running:
        TestDatabase(running, "postgres").sql("CREATE DATABASE unsafe")
        TestDatabase(running, "unsafe").sql(OLD)
        yield running


def test_fsync_off_is_refused_on_either_side_unless_accepted(project: Project, unsafe_server: Server) -> None:
    unsafe, target = TestDatabase(unsafe_server, "unsafe"), TestDatabase(unsafe_server, "unsafe_new")
    setup = ("migrate", "schema-to-schema", "setup", "--mapping", "column_mapping.yaml")
    for source, into in ((unsafe.conninfo, project.new.conninfo), ("prod", target.conninfo)):
        message = error(project.run(*setup, "--source", source, "--target", into, check=4))
        assert "fsync=off" in message
        assert "--accept-fsync-off" in message
        # The database that setup created is dropped again.
        assert unsafe.rows("SELECT 1 FROM pg_database WHERE datname = 'unsafe_new'") == []
        assert project.source.rows(f"SELECT 1 FROM pg_database WHERE datname = '{project.target}'") == []
    project.run(*setup, "--source", unsafe.conninfo, "--target", target.conninfo, "--accept-fsync-off")
    project.run(
        "migrate", "schema-to-schema", "migrate", "--target", target.conninfo, "--mapping", "column_mapping.yaml"
    )


def test_a_standby_is_refused_on_either_side(project: Project, unsafe_server: Server) -> None:
    unsafe_server.stop()
    signal_file = unsafe_server.data / "standby.signal"
    signal_file.touch()
    try:
        unsafe_server.start()
        unsafe = TestDatabase(unsafe_server, "unsafe").conninfo
        setup = ("migrate", "schema-to-schema", "setup", "--accept-fsync-off")
        assert "the source is a standby" in error(
            project.run(*setup, "--source", unsafe, "--target", project.new.conninfo, check=4)
        )
        assert "the target is a standby" in error(project.run(*setup, "--source", "prod", "--target", unsafe, check=4))
    finally:
        unsafe_server.stop()
        signal_file.unlink(missing_ok=True)
        unsafe_server.start()


@pytest.fixture
def pooler(tmp_path: Path, project: Project) -> Iterator[int]:
    """The port of a PgBouncer in front of the server, with transaction pooling."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    port = embedded.free_port()
    config = tmp_path / "pgbouncer.ini"
    server = project.source.server
    config.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\nignore_startup_parameters = extra_float_digits\n"
    )
    user = ["-u", "nobody"] if os.geteuid() == 0 else []  # wording: ok: the name of a system account
    log = tmp_path / "pgbouncer.log"
    with log.open("w") as output:
        running = subprocess.Popen([program, *user, str(config)], stdout=output, stderr=output)
    try:
        while True:
            assert running.poll() is None, log.read_text()
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname={project.source.name}").close()
                break
        yield port
    finally:
        running.terminate()
        running.wait()


def test_a_transaction_pooler_is_refused(project: Project, pooler: int) -> None:
    uri = f"postgresql://postgres@127.0.0.1:{pooler}/{project.source.name}"
    message = error(
        project.run("migrate", "schema-to-schema", "setup", "--source", uri, "--target", project.new.conninfo, check=4)
    )
    assert "connection pooler" in message
    assert "the PostgreSQL server itself" in message
    assert project.source.rows(f"SELECT 1 FROM pg_database WHERE datname = '{project.target}'") == []


# A full disk ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(unsafe_server: Server) -> Iterator[Path]:
    """A tablespace ``small`` on a file system that is full soon. To mount it needs root."""
    folder = unsafe_server.root / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        owner = unsafe_server.data.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        TestDatabase(unsafe_server, "postgres").sql(f"CREATE TABLESPACE small LOCATION '{folder}'")
        yield folder
    finally:
        unsafe_server.stop("immediate")  # no later test uses this server
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_exits_with_5_and_the_same_command_later_finishes(
    tmp_path: Path, unsafe_server: Server, small_disk: Path
) -> None:
    TestDatabase(unsafe_server, "postgres").sql("CREATE DATABASE wide TEMPLATE unsafe")
    project = Project(tmp_path, TestDatabase(unsafe_server, "wide"), "wide_new")
    project.source.sql("INSERT INTO tb_post (user_id, body) SELECT 1, repeat('x', 900) FROM generate_series(1, 40000)")
    made = "CREATE DATABASE wide_new TEMPLATE template0 TABLESPACE small STRATEGY file_copy"
    TestDatabase(unsafe_server, "postgres").sql(made)
    refused = error(project.setup("--accept-fsync-off", check=4))
    assert re.search(rf"[0-9.]+ MiB are free \(the disk of {small_disk}\): [0-9.]+ MiB are missing", refused)
    project.setup("--accept-fsync-off", "--accept-small-disk")
    message = error(project.step("migrate", "--chunk-rows", "1000", check=5))
    assert "disk full" in message
    assert "No space left on device" in message
    assert "run the same command again" in message
    assert project.new.value("SELECT count(*) FROM confiture.chunk WHERE status = 'done'") > 0
    subprocess.run(["mount", "-o", "remount,size=300m", small_disk], check=True)
    project.step("migrate")
    project.step("verify")
    assert project.new.value("SELECT count(*) FROM tb_post") == 40500
