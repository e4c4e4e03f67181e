"""A session that blocks the cutover is named, and ended on request. Confiture never ends its own sessions."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from confiture.errors import CutoverAborted
from confiture.schema_to_schema import table_lock
from confiture.schema_to_schema.outcomes import Limits
from confiture.sql import load
from forked import forks, until
from live import LiveRun
from projects import OLD, Project, error
from servers import Databases, TestDatabase

#: Attempts that fail soon.
SOON = ("--lock-timeout", "0.1", "--give-up-after", "0.3")
ENOUGH = ("--lock-timeout", "0.1", "--give-up-after", "20")
UPDATE = "UPDATE tb_user SET name = name WHERE id = 1"


@pytest.fixture
def verified(tmp_path: Path, databases: Databases) -> Project:
    """A run that is verified."""
    source = databases.cloned(OLD)
    databases.adopt(f"{source.name}_new")
    project = Project(tmp_path, source, f"{source.name}_new")
    project.reach("verified")
    return project


@contextlib.contextmanager
def blocking(database: TestDatabase, statement: str, name: str = "") -> Iterator[psycopg.Connection[Any]]:
    """A session that has run ``statement`` and holds its locks; the command may end it."""
    connection = database.connect(application_name=name, autocommit=False)
    try:
        connection.execute(statement.encode())
        yield connection
    finally:
        connection.close()


def is_alive(database: TestDatabase, connection: psycopg.Connection[Any]) -> bool:
    return bool(database.rows(f"SELECT 1 FROM pg_stat_activity WHERE pid = {connection.info.backend_pid}"))


def events(project: Project) -> list[dict[str, object]]:
    rows = project.new.rows("SELECT detail FROM confiture.event WHERE kind = 'terminate_blocker' ORDER BY id")
    return [detail for (detail,) in rows]


def test_blocking_session_is_ended_on_request_and_shown_without_secrets(verified: Project) -> None:
    with blocking(verified.source, f"{UPDATE} -- password=canary", "the app") as blocker:
        done = verified.step("cutover", "--terminate-blockers", *ENOUGH)
        assert not is_alive(verified.source, blocker)
        pid = blocker.info.backend_pid
    assert f"terminating pid {pid} (postgres, the app, idle in transaction" in done.stderr
    (detail,) = events(verified)
    assert (detail["pid"], detail["user"], detail["application_name"]) == (pid, "postgres", "the app")
    assert (detail["state"], detail["query"]) == ("idle in transaction", f"{UPDATE} -- password=***")
    assert detail["seconds"] is not None
    assert "canary" not in done.stderr
    assert verified.state == "cutover"


def test_session_blocking_a_lock_that_permits_writes_is_ended_too(
    verified: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_lock, "EVICTION_SECONDS", 0.1)
    with blocking(verified.source, "LOCK TABLE tb_user IN SHARE UPDATE EXCLUSIVE MODE") as blocker:
        done = verified.step("cutover", "--terminate-blockers", *ENOUGH)
        assert f"terminating pid {blocker.info.backend_pid}" in done.stderr


def test_no_session_is_ended_by_default_and_the_option_is_reported(verified: Project) -> None:
    with blocking(verified.source, f"{UPDATE} /* password=canary {'x' * 100} */") as blocker:
        reported = error(verified.step("cutover", *SOON, check=8))
        assert is_alive(verified.source, blocker)
        assert f"pid {blocker.info.backend_pid}" in reported
    assert "--terminate-blockers" in reported
    assert UPDATE in reported
    assert "canary" not in reported
    assert "x" * 80 not in reported
    assert events(verified) == []


@pytest.mark.parametrize(
    "name", ["confiture x", "confiture {run} runner", "confiture {run} fdw", "confiture {run} catch-up"]
)
def test_application_session_with_our_name_is_named_and_ended(verified: Project, name: str) -> None:
    run = verified.new.value("SELECT left(id::text, 8) FROM confiture.run")
    with blocking(verified.source, UPDATE, name.format(run=run)) as blocker:
        reported = error(verified.step("cutover", *SOON, check=8))
        assert f"pid {blocker.info.backend_pid} (postgres, {name.format(run=run)}" in reported
        done = verified.step("cutover", "--terminate-blockers", *ENOUGH)
        assert f"terminating pid {blocker.info.backend_pid}" in done.stderr
        assert not is_alive(verified.source, blocker)
    assert verified.state == "cutover"


def test_application_session_with_our_name_blocks_dry_run_visibly(verified: Project) -> None:
    with blocking(verified.source, UPDATE, "confiture 12345678 cutover") as blocker:
        done = verified.step("cutover", "--dry-run", check=None)
        assert f"pid {blocker.info.backend_pid}" in done.stdout + done.stderr


def test_prepared_transactions_are_named_and_left_alone(verified: Project) -> None:
    gid = f"{verified.source.name} prepared"
    with verified.source.connect() as prepared:
        prepared.execute("BEGIN; UPDATE tb_post SET body = body WHERE id = 1")
        prepared.execute(f"PREPARE TRANSACTION '{gid}'".encode())
        reported = error(verified.step("cutover", "--terminate-blockers", *SOON, check=8))
        prepared.execute(f"ROLLBACK PREPARED '{gid}'".encode())
    assert f"the prepared transaction '{gid}' of postgres" in reported
    assert events(verified) == []
    assert verified.state == "verified"


def test_rollback_reports_application_session_with_our_name_on_target(databases: Databases, tmp_path: Path) -> None:
    table = "CREATE TABLE item (id int PRIMARY KEY, n int);"
    live = LiveRun(databases, tmp_path, table + "INSERT INTO item VALUES (1, 1)", table)
    live.through()
    with blocking(live.target, "UPDATE item SET n = 2", "confiture 12345678 catch-up") as blocker:
        with pytest.raises(CutoverAborted) as raised:
            live.rollback(Limits(lock_timeout=0.1, give_up_after=0.3))
        assert f"pid {blocker.info.backend_pid}" in str(raised.value.why)
        live.rollback(Limits(lock_timeout=0.1, give_up_after=20, terminate_blockers=True))
        assert not is_alive(live.target, blocker)


def test_sessions_of_catch_up_are_recorded_before_they_lock_anything(databases: Databases, tmp_path: Path) -> None:
    table = "CREATE TABLE item (id int PRIMARY KEY, n int);"
    live = LiveRun(databases, tmp_path, table + "INSERT INTO item VALUES (1, 1)", table)
    live.setup()
    live.migrate()
    live.source.sql("UPDATE item SET n = 2")
    killed = forks().run(live.arguments("follow"), live.project, CONFITURE_FAILPOINT="catchup.before_source_commit")
    assert killed.code == -signal.SIGKILL, killed.err
    recorded = live.target.rows("SELECT source_backends, target_backends FROM confiture.runner ORDER BY epoch DESC")[0]
    assert [len(side) for side in recorded] == [2, 3]


def test_session_whose_pid_was_reused_is_not_ended(verified: Project) -> None:
    with blocking(verified.source, UPDATE) as other, verified.source.connect() as admin:
        pid = other.info.backend_pid
        started = admin.execute(
            "SELECT extract(epoch FROM backend_start)::text FROM pg_stat_activity WHERE pid = %s", (pid,)
        ).fetchone()
        assert started is not None
        for value, ended in (("1.5", []), (None, []), (started[0], [(True,)])):
            done = admin.execute(load("cutover.sql")["terminate"], {"pid": pid, "started": value}).fetchall()
            assert done == ended


def test_command_killed_while_ending_a_session_can_be_repeated(verified: Project) -> None:
    command = ("cutover", "--terminate-blockers", *ENOUGH)
    with blocking(verified.source, UPDATE) as blocker:
        for point, left in (("blockers.note.before_commit", True), ("blockers.ended.before_commit", False)):
            verified.step(*command, check=-signal.SIGKILL, env={"CONFITURE_FAILPOINT": point})
            # The server ends a session a moment after the command has asked for it.
            if not left:
                until(lambda: not is_alive(verified.source, blocker), "the blocker to end")
            assert is_alive(verified.source, blocker) == left
            assert verified.state == "verified"
        verified.step(*command)
    assert verified.state == "cutover"
