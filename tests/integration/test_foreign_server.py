"""The foreign server: its connection options, its traces in the logs, and the end of its sessions on the source."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from confiture.commands.endpoints import Endpoints
from confiture.config import Database
from confiture.copy import chunks, foreign_server, foreign_session
from confiture.plan.planner import Planner
from confiture.postgres import embedded
from confiture.postgres.embedded import Server
from confiture.postgres.session import Session
from forked import forks
from live import LiveRun
from proxy import Proxy
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE item (id int PRIMARY KEY, n int);
INSERT INTO item SELECT n, n FROM generate_series(1, 300) n;
"""
NEW = "CREATE TABLE item (id int PRIMARY KEY, n int)"
PASSWORDS = {"src": "canary'one\\", "tgt": "canary two"}


def create_role(database: TestDatabase, name: str, password: str) -> None:
    """Create a role with LOGIN. No statement contains its password."""
    with database.connect() as admin:
        verifier = admin.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{verifier}'".encode())


def as_roles(live: LiveRun) -> None:
    """Connect the run as an ordinary role on each side, which owns the objects that it needs."""
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
    live.where = Endpoints(
        *(
            d.server.conninfo(d.name, user=f"{source.name}_{k}", password=PASSWORDS[k])
            for d, k in ((target, "tgt"), (source, "src"))
        ),
        live.project,
    )


# The password ---------------------------------------------------------------------------------------

#: The settings of a server that logs as much as possible.
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
def test_ordinary_roles_password_is_in_no_log_at_maximum_verbosity(talkative: Databases, tmp_path: Path) -> None:
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
def test_password_is_in_no_log_when_the_mapping_cannot_be_created(
    talkative: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveRun(talkative, tmp_path, OLD, NEW, capture=False)
    # Created after the plan has looked for event triggers.
    monkeypatch.setattr(Planner, "_event_triggers", lambda *_: None)
    monkeypatch.setattr(foreign_server, "NEAR_SECONDS", 0.0)  # otherwise COPY is chosen anyway
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


# TLS ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(old_server: Server) -> Iterator[Server]:
    """A server with TLS, whose certificate is its own root, readable by every role of the machine.

    The packaged server is built without TLS, so the fixture starts the installed one.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    root = embedded.scratch()
    with Server(root, old_server.bindir, user="postgres") as running:
        for name in ("server.key", "server.crt"):
            (running.data / name).touch()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", running.data / "server.key", "-out", running.data / "server.crt"],
            check=True, capture_output=True,
        )  # fmt: skip
        owner = running.data.stat()
        for name in ("server.key", "server.crt"):
            os.chown(running.data / name, owner.st_uid, owner.st_gid)
        (running.data / "server.key").chmod(0o600)
        shutil.copy(running.data / "server.crt", root / "root.crt")
        (root / "root.crt").chmod(0o644)
        running.run("pg_ctl", "-D", str(running.data), "-m", "fast", "-w", "stop")
        running._settings = {**running._settings, "ssl": "on"}
        with pytest.MonkeyPatch.context() as patched:
            # Otherwise libpq in the server looks for certificates in the home of this process, which it may not read.
            patched.setenv("HOME", str(root))
            running.start()
        yield running


@pytest.fixture
def tls(encrypted: Server, tmp_path: Path) -> Iterator[LiveRun]:
    databases = Databases(encrypted)
    yield LiveRun(databases, tmp_path, OLD, NEW, strategy="fdw", capture=False)
    databases.drop_all()


def server_options(live: LiveRun) -> dict[str, str]:
    options = live.target.value("SELECT srvoptions FROM pg_foreign_server WHERE srvname ~ '^confiture_'")
    return dict(option.split("=", 1) for option in options)


def by_service(live: LiveRun, **options: object) -> dict[str, str]:
    """Write a service file with these options. Returns the environment that names it."""
    server = live.source.server
    lines = ["[old]", "host=127.0.0.1", f"port={server.port}", f"dbname={live.source.name}", "user=postgres"]
    file = live.project / "services"
    file.write_text("\n".join([*lines, *(f"{k}={v}" for k, v in options.items())]) + "\n")
    live.where = Endpoints(live.target.conninfo, "service=old", live.project)
    return {"PGSERVICEFILE": str(file)}


def test_foreign_server_verifies_as_the_service_file_specifies(tls: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tls.source.server.root / "root.crt"
    for name, value in by_service(tls, sslmode="verify-full", sslrootcert=root).items():
        monkeypatch.setenv(name, value)
    tls.setup()
    options = server_options(tls)
    assert (options["sslmode"], options["sslrootcert"]) == ("verify-full", str(root))
    tls.migrate()
    assert tls.target.value("SELECT count(*) FROM item") == 300


def test_foreign_server_uses_the_settings_of_the_environment(tls: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tls.source.server.root / "root.crt")
    wanted = {"sslmode": "verify-ca", "sslrootcert": root, "ssl_min_protocol_version": "TLSv1.3"}
    for name, value in (("PGSSLMODE", "verify-ca"), ("PGSSLROOTCERT", root), ("PGSSLMINPROTOCOLVERSION", "TLSv1.3")):
        monkeypatch.setenv(name, value)
    tls.setup()
    assert wanted.items() <= server_options(tls).items()


def test_require_with_a_root_certificate_verifies_as_libpq_does(tls: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tls.source.server.root / "root.crt")
    for name, value in by_service(tls, sslmode="require", sslrootcert=root).items():
        monkeypatch.setenv(name, value)
    tls.setup()
    assert server_options(tls)["sslmode"] == "verify-ca"


def problem(live: LiveRun, conninfo: str) -> str | None:
    """Why the target's server cannot use postgres_fdw."""
    live.target.server.run(
        "createdb", "-h", "127.0.0.1", "-p", str(live.target.server.port), "-U", "postgres", live.target.name
    )
    with (
        Session(Database("old", conninfo), "a") as source,
        Session(Database("new", live.target.conninfo), "b") as target,
    ):
        with target.rehearsal() as tx:
            return foreign_server.problem(tx, source, None)


def test_root_certificate_unreadable_by_the_target_server_forces_copy(tls: LiveRun, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copy(tls.source.server.root / "root.crt", hidden / "root.crt")
    reason = problem(tls, f"{tls.source.conninfo}?sslmode=verify-full&sslrootcert={hidden / 'root.crt'}")
    assert reason is not None
    assert "root certificate file" in reason


def test_certificate_revocation_list_forces_copy(tls: LiveRun, tmp_path: Path) -> None:
    root = tls.source.server.root / "root.crt"
    reason = problem(tls, f"{tls.source.conninfo}?sslmode=verify-ca&sslrootcert={root}&sslcrl={tmp_path / 'root.crl'}")
    assert reason is not None
    assert "lists revoked certificates" in reason


def test_foreign_server_takes_stricter_options_of_a_later_command(
    tls: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls.setup()
    assert server_options(tls)["sslmode"] == "prefer"
    monkeypatch.setenv("PGSSLMODE", "require")
    tls.migrate()
    assert server_options(tls)["sslmode"] == "require"


def test_foreign_server_without_tls_is_refused_if_our_connection_has_tls(
    tls: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_server, "security", lambda source: {"sslmode": "disable"})
    reason = problem(tls, tls.source.conninfo)
    assert reason is not None
    assert "without TLS" in reason


# Sessions on the source -----------------------------------------------------------------------------


@pytest.fixture
def copying(databases: Databases, tmp_path: Path) -> LiveRun:
    """A run that copies by FDW in small chunks."""
    live = LiveRun(databases, tmp_path, OLD, NEW, strategy="fdw", chunk_rows=50)
    live.setup()
    return live


def foreign_sessions(live: LiveRun) -> list[tuple[int, str]]:
    return live.source.rows(
        "SELECT pid, extract(epoch FROM backend_start)::text FROM pg_stat_activity"
        " WHERE application_name ~ '^confiture .* fdw$' AND datname = current_database()"
    )  # type: ignore[return-value]


def test_foreign_session_is_recorded_before_it_reads_a_table(copying: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[bool] = []
    move = chunks.MOVERS["fdw"].move

    class Looking:
        def move(self, *arguments: object) -> int:
            rows = copying.target.value("SELECT source_backends FROM confiture.runner WHERE ended_at IS NULL")
            recorded.append(
                [list(s) for s in foreign_sessions(copying)]
                == [b for *b, _ in rows if tuple(b) in foreign_sessions(copying)]
                != []
            )
            return move(*arguments)  # type: ignore[arg-type]

    monkeypatch.setitem(chunks.MOVERS, "fdw", Looking())
    copying.migrate()
    assert recorded == [True] * 6


def test_foreign_session_that_was_lost_is_replaced_and_recorded_again(
    copying: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session ends twice: between its recording and the copy, and within the copy."""
    seen: set[tuple[int, str]] = set()
    ended: list[str] = []
    check = foreign_session.check
    move = chunks.MOVERS["fdw"].move

    def end(when: str) -> None:
        seen.update(foreign_sessions(copying))
        if when not in ended:
            ended.append(when)
            copying.source.sql(f"SELECT pg_terminate_backend({foreign_sessions(copying)[0][0]}, 5000)")

    def checked(*arguments: object) -> None:
        end("before")
        check(*arguments)  # type: ignore[arg-type]

    class Ending:
        def move(self, *arguments: object) -> int:
            end("within")
            return move(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(foreign_session, "check", checked)
    monkeypatch.setitem(chunks.MOVERS, "fdw", Ending())
    copying.migrate()
    assert len(seen) >= 2
    assert copying.target.value("SELECT count(*) FROM item") == 300


@pytest.mark.parametrize("way", ["retry", "cutover"])
def test_foreign_session_that_is_left_over_is_ended(copying: LiveRun, way: str) -> None:
    """The target's server process is stopped, so its session on the source stays until the next command ends it."""
    started = forks().start(copying.arguments("migrate"), copying.project, CONFITURE_FAILPOINT="copy.before_commit:3")
    assert started.wait().code == -signal.SIGKILL
    left = "INSERT INTO confiture.runner (run_id, epoch, host, pid, command, tool_version, ended_at, ended_why,"
    if way == "cutover":
        copying.migrate()
        assert copying.verify().equal
    with copying.source.connect(application_name="left over", autocommit=False) as session:
        session.execute("SELECT FROM item")
        pid = session.info.backend_pid
        started_at = copying.source.value(
            f"SELECT extract(epoch FROM backend_start)::text FROM pg_stat_activity WHERE pid = {pid}"
        )
        copying.target.sql(
            f"{left} source_backends, target_backends) SELECT run_id, -1, 'h', 1, 'migrate', 'x', now(), 'lost',"
            f" '[[{pid}, \"{started_at}\"]]', '[]' FROM confiture.runner LIMIT 1"
        )
        copying.migrate() if way == "retry" else copying.cutover()
        assert copying.source.rows(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}") == []
        with contextlib.suppress(psycopg.OperationalError):
            session.rollback()


# A network that drops every packet ------------------------------------------------------------------

_CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Start the processes of the block in a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{namespace}") as there:
        assert libc.setns(there.fileno(), _CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert libc.setns(here.fileno(), _CLONE_NEWNET) == 0


@pytest.fixture
def far() -> Iterator[tuple[Server, str, str]]:
    """A server in a network of its own: the server, its address, and the device that leads there."""
    ip, near, there = shutil.which("ip"), "10.213.77.1", "10.213.77.2"
    name = f"cft{os.getpid()}"
    if ip is None or os.geteuid() != 0:
        pytest.skip("a network namespace needs root and iproute2")
    made = subprocess.run([ip, "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespace can be created: {made.stderr.strip()}")
    device = f"cv{os.getpid()}"
    try:
        for command in (
            f"link add {device} type veth peer name {device}p",
            f"link set {device}p netns {name}",
            f"addr add {near}/30 dev {device}",
            f"link set {device} up",
            f"-n {name} addr add {there}/30 dev {device}p",
            f"-n {name} link set {device}p up",
            f"-n {name} link set lo up",
        ):
            subprocess.run([ip, *command.split()], check=True, capture_output=True)
        server = Server(embedded.scratch(), settings={"listen_addresses": "*"})
        with inside(name):
            server.start()
        with (server.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        server.run("pg_ctl", "-D", str(server.data), "reload")
        try:
            yield server, there, device
        finally:
            server.remove()
    finally:
        subprocess.run([ip, "netns", "del", name], check=False)


#: Keepalives end a silent session after 10 s and three probes of 5 s each.
GONE_SECONDS = 60


def test_foreign_session_ends_within_a_minute_if_packets_are_dropped(
    far: tuple[Server, str, str], tmp_path: Path
) -> None:
    server, address, device = far
    with Server(embedded.scratch(), settings={"listen_addresses": "*"}) as near:
        with (near.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        near.run("pg_ctl", "-D", str(near.data), "reload")
        source = TestDatabase(near, "postgres")
        source.sql(OLD)
        old = Database("old", f"host=10.213.77.1 port={near.port} dbname=postgres user=postgres")
        new = Database("new", f"host={address} port={server.port} dbname=postgres user=postgres")
        with Session(old, "runner") as here, Session(new, "runner") as there, there.transaction() as tx:
            foreign_server.install(tx)
            foreign_server.create(tx, here, "old", None)
            tx.pg.execute("CREATE FOREIGN TABLE public.item (id int, n int) SERVER old OPTIONS (schema_name 'public')")
            assert tx.pg.execute("SELECT count(*) FROM public.item").fetchone() == (300,)
            held = (
                "SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE l.relation = 'item'::regclass AND a.state = 'idle in transaction'"
            )
            assert len(source.rows(held)) == 1
            # No host has the address of the frames, so that no packet is refused and none arrives.
            for command in (
                f"neigh replace {address} lladdr 02:00:00:00:00:99 nud permanent dev {device}",
                f"-n cft{os.getpid()} neigh replace 10.213.77.1 lladdr 02:00:00:00:00:98 nud permanent dev {device}p",
            ):
                subprocess.run(["ip", *command.split()], check=True)
            began = time.monotonic()
            while source.rows(held):
                assert time.monotonic() - began < GONE_SECONDS, "the session still holds its lock"
                time.sleep(0.5)
            there._pg.pgconn.finish()  # type: ignore[union-attr]
            raise psycopg.Rollback()


@pytest.mark.parametrize(("behind", "strategy"), [("source", "copy"), ("target", "copy"), ("both", "fdw")])
def test_rows_do_not_travel_through_a_machine_that_is_far_from_both_servers(
    databases: Databases, tmp_path: Path, behind: str, strategy: str
) -> None:
    seen_as = f"host=127.0.0.1 port={databases.server.port}"
    live = LiveRun(databases, tmp_path, OLD, NEW, seen_as=seen_as)
    distant = Proxy(databases.server.port)
    distant.delay = foreign_server.NEAR_SECONDS / 2  # in each direction
    names = {"source": live.source.conninfo, "target": live.target.conninfo}
    for side in names:
        if behind in (side, "both"):
            names[side] = names[side].replace(str(databases.server.port), str(distant.port))
    live.where = replace(live.where, **names)
    try:
        live.setup()
        live.migrate()
        assert live.target.rows("SELECT DISTINCT plan ->> 'strategy' FROM confiture.table_plan") == [(strategy,)]
        assert live.target.value("SELECT count(*) FROM item") == 300
    finally:
        distant.close()
