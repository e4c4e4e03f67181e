"""A server that accepts no writes by its configuration: managed services set it so when the storage is nearly full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from confiture import config
from confiture.commands.databases import find_run
from confiture.errors import ConfitureError, DataFailure, Refused
from confiture.postgres import embedded
from confiture.postgres.embedded import Server
from confiture.postgres.failure import failure
from confiture.postgres.session import Session
from confiture.runner import lease
from confiture.runner.progress import Silent
from confiture.status import report
from confiture.status.facts import Severity
from forked import until
from live import LiveRun
from servers import Databases, TestDatabase

OLD = "CREATE TABLE item (id int PRIMARY KEY, v text); INSERT INTO item SELECT n, 'v' FROM generate_series(1, 50) n"
NEW = "CREATE TABLE item (id bigint PRIMARY KEY, v text)"


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server whose configuration the tests may change."""
    with Server(embedded.scratch()) as running:
        yield running


@contextmanager
def read_only(server: Server) -> Iterator[None]:
    """The server's configuration makes transactions read-only, for the block."""
    admin = TestDatabase(server, "postgres")
    shown = "SHOW default_transaction_read_only"
    try:
        admin.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.sql("SELECT pg_reload_conf()")
        until(lambda: admin.value(shown) == "on", "the server to read its configuration")
        yield
    finally:
        with admin.connect(options="-c default_transaction_read_only=off") as session:
            session.execute("ALTER SYSTEM RESET default_transaction_read_only")
            session.execute("SELECT pg_reload_conf()")
        until(lambda: admin.value(shown) == "off", "the server to read its configuration")


def stops(live: LiveRun, step: str) -> ConfitureError:
    """The error that ends a command on a read-only server."""
    with read_only(live.target.server), pytest.raises((Refused, DataFailure)) as stopped:
        getattr(live, step)()
    assert stopped.value.what == "the target's server accepts no writes"
    assert "storage is nearly full" in stopped.value.why
    return stopped.value


def test_read_only_server_stops_the_run_until_it_accepts_writes(own_server: Server, tmp_path: Path) -> None:
    databases = Databases(own_server)
    live = LiveRun(databases, tmp_path, OLD, NEW)
    assert stops(live, "setup").exit_code == Refused.exit_code
    exists = f"SELECT count(*) FROM pg_database WHERE datname = '{live.target.name}'"
    assert TestDatabase(own_server, "postgres").value(exists) == 0

    live.setup()
    assert stops(live, "migrate").exit_code == DataFailure.exit_code
    assert live.target.value("SELECT count(*) FROM item") == 0
    (run,) = report.report(live.target.conninfo, live.project).runs
    assert run.severity == Severity.CRITICAL
    assert "accepts no writes" in str(run)

    live.migrate()
    assert live.verify().equal
    stops(live, "cutover")
    assert live.open_sides("INSERT INTO item VALUES (0, 'v')") == {"source"}

    with read_only(own_server):  # what drops the run frees space
        live.abort()
    assert live.state == "aborted"
    databases.drop_all()


def test_running_command_stops_at_its_next_checkpoint(own_server: Server, tmp_path: Path) -> None:
    databases = Databases(own_server)
    live = LiveRun(databases, tmp_path, OLD, NEW)
    live.setup()
    source, target = (config.resolve(d.conninfo, live.project) for d in (live.source, live.target))
    run = find_run(target)
    with (
        lease.runner_sessions(source, target, run) as (src, tgt),
        lease.hold(src, tgt, run, "migrate", Silent()) as context,
    ):
        heart = lease._Heart(target, context, lease._fills(run, "migrate"))
        heart.beat()
        context.checkpoint()
        with read_only(own_server):
            heart.beat()
            with pytest.raises(DataFailure):
                context.checkpoint()
        heart.beat()
        context.checkpoint()
        heart._session.close()
    databases.drop_all()


def error_of(session: Session, *statements: str) -> ConfitureError:
    """The error of Confiture for statements that fail."""
    with pytest.raises(psycopg.Error) as raised:
        session.pg.execute("; ".join(statements).encode())
    session.close()
    return failure(raised.value, "testing")


def test_error_of_a_refused_write_names_its_cause(own_server: Server, tmp_path: Path) -> None:
    with Session(config.resolve(own_server.conninfo(), tmp_path), "test") as session:
        refused = error_of(session, "BEGIN READ ONLY", "CREATE TABLE t ()")
        assert refused.what == "the server accepts no writes, while testing"
        assert refused.why.startswith("cannot execute CREATE TABLE in a read-only transaction: managed services")
        of_a_function = error_of(session, "BEGIN READ ONLY", "DO $$ BEGIN CREATE TABLE t (); END $$")
        assert of_a_function.what == "SQL failed while testing"

        own_server.stop()
        (own_server.data / "standby.signal").touch()
        own_server.start()
        standby = error_of(session, "BEGIN READ WRITE")
        assert standby.what == "the server is a standby and accepts no writes, while testing"
        own_server.stop()
        (own_server.data / "standby.signal").unlink()
        own_server.start()
