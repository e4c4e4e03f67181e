"""cutover --dry-run refuses what a cutover would refuse, measures its pause, and changes nothing."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest

from confiture import commands
from confiture.errors import CutoverAborted
from confiture.render import rehearsal as render
from confiture.schema_to_schema.outcomes import Limits, Rehearsal
from confiture.status.report import report
from conftest import ROOT
from live import LiveRun
from projects import OLD, Project, error
from servers import Databases, TestDatabase

#: Every object, with the row version that describes it, so that a rewrite is detected even if it is reverted.
CATALOG = """
    SELECT 'trigger', oid::text, xmin::text, tgenabled::text FROM pg_trigger
    UNION ALL SELECT 'constraint', oid::text, xmin::text, '' FROM pg_constraint
    UNION ALL SELECT 'function', oid::text, xmin::text, '' FROM pg_proc
    UNION ALL SELECT 'attribute', attrelid::text || '.' || attnum, xmin::text, '' FROM pg_attribute
        WHERE attrelid IN (SELECT oid FROM pg_class WHERE relpersistence = 'p')
    UNION ALL SELECT 'relation', oid::text, relfilenode::text, relacl::text FROM pg_class WHERE relpersistence = 'p'
    UNION ALL SELECT 'schema', oid::text, xmin::text, '' FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    ORDER BY 1, 2
"""
JOURNAL = """
    SELECT 'run', to_jsonb(r) - 'epoch' FROM confiture.run r
    UNION ALL SELECT 'deferred', to_jsonb(d) FROM confiture.deferred_object d
    UNION ALL SELECT 'step', to_jsonb(s) FROM confiture.step s
    UNION ALL SELECT 'verification', to_jsonb(v) FROM confiture.verification v
    ORDER BY 1, 2
"""
SEQUENCES = "SELECT schemaname, sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'"
LOCKS = """
    SELECT DISTINCT l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a USING (pid)
    WHERE a.application_name LIKE 'confiture%%' AND l.database = (SELECT oid FROM pg_database WHERE datname = %s)
      AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
"""
#: Lock modes that do not block writers.
HARMLESS = {"AccessShareLock", "RowShareLock", "ShareUpdateExclusiveLock"}


def everything(source: TestDatabase, target: TestDatabase) -> list[object]:
    return [source.rows(CATALOG), target.rows(CATALOG), target.rows(JOURNAL), target.rows(SEQUENCES)]


@contextlib.contextmanager
def watching_locks(database: TestDatabase) -> Iterator[set[str]]:
    """The modes in which confiture locks or tries to lock tables while the block runs."""
    seen: set[str] = set()
    end = threading.Event()

    def watch() -> None:
        with database.connect() as connection:
            while not end.is_set():
                seen.update(mode for (mode,) in connection.execute(LOCKS, (database.name,)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        end.set()
        watcher.join()


def events(database: TestDatabase, kind: str) -> list[dict[str, Any]]:
    """The details of the run's events of one kind."""
    return [row[0] for row in database.rows(f"SELECT detail FROM confiture.event WHERE kind = '{kind}' ORDER BY id")]


def seconds_of(pause: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(pause[name]) for name in ("began_at", "ended_at"))
    return (ended - began).total_seconds()


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    """A live run that is verified."""
    old = """
        CREATE TABLE account (id int PRIMARY KEY, owner text);
        CREATE TABLE history (id serial PRIMARY KEY, account_id int REFERENCES account);
        CREATE TABLE keyless (what text);
        INSERT INTO keyless VALUES ('a'), ('b');
        INSERT INTO account SELECT n, 'o' || n FROM generate_series(1, 50) n;
        INSERT INTO history (account_id) SELECT n FROM generate_series(1, 50) n;
    """
    new = """
        CREATE TABLE keyless (what text);
        CREATE TABLE account (id bigint PRIMARY KEY, owner text);
        CREATE TABLE history (id serial PRIMARY KEY, account_id bigint REFERENCES account ON DELETE CASCADE);
    """
    made = LiveRun(databases, tmp_path, old, new)
    made.up_to_cutover()
    return made


def rehearse(live: LiveRun, limits: Limits | None = None) -> Rehearsal:
    """The rehearsal of a cutover that would succeed.

    :raises CutoverAborted: the problem of another one.
    """
    found = rehearsed(live, limits)
    if found.problem is not None:
        raise found.problem
    return found


def rehearsed(live: LiveRun, limits: Limits | None = None, *, ignore_blockers: bool = False) -> Rehearsal:
    report = live.project / "differences.jsonl"
    _, found = commands.cutover.rehearse(
        live.where, limits or Limits(), report, live.progress, ignore_blockers=ignore_blockers
    )
    assert found is not None
    return found


def test_live_rehearsal_changes_nothing_and_blocks_no_writer(live: LiveRun) -> None:
    before = everything(live.source, live.target)
    with (
        live.source.connect(application_name="the app", autocommit=False) as writer,
        live.source.connect(application_name="a vacuum", autocommit=False) as vacuum,
    ):
        vacuum.execute("LOCK TABLE account IN SHARE UPDATE EXCLUSIVE MODE")
        writer.execute("UPDATE account SET owner = 'waits' WHERE id = 7")
        live.source.sql("UPDATE account SET owner = 'new' WHERE id = 8; INSERT INTO history (account_id) VALUES (1)")
        live.source.sql("INSERT INTO keyless VALUES ('c')")
        with watching_locks(live.source) as locks:
            found = rehearsed(live, ignore_blockers=True)
        assert {(b.pid, b.application_name) for b in found.blockers} == {
            (writer.info.backend_pid, "the app"),
            (vacuum.info.backend_pid, "a vacuum"),
        }
        # The rehearsal waited for the vacuum, so the watcher has seen its lock.
        assert "ShareUpdateExclusiveLock" in locks
        assert locks <= HARMLESS
    assert everything(live.source, live.target) == before
    # Its only changes are those that `follow` applies at any time.
    assert live.target.value("SELECT owner FROM account WHERE id = 8") == "new"
    assert live.target.value("SELECT count(*) FROM keyless") == 2
    names = [p.name.split()[0] for p in found.parts]
    assert names == ["lock", "catch", "compare", "copy", "set", "close", "open"]
    assert all(p.seconds > 0 for p in found.parts)
    assert found.seconds == sum(p.seconds for p in found.parts)
    (recorded,) = events(live.target, "rehearsed")
    assert [p["name"] for p in recorded["parts"]] == [p.name for p in found.parts]
    assert (recorded["seconds"], recorded["limit"], recorded["problem"]) == (found.seconds, 5.0, None)
    assert {b["application_name"] for b in recorded["blockers"]} == {"the app", "a vacuum"}
    status = report(live.target.conninfo, live.project).runs[0]
    assert status.rehearsal is not None
    assert status.rehearsal["seconds"] == found.seconds
    assert status.write_pause is None
    assert "waits" not in json.dumps(recorded), "a statement shows values"
    live.cutover()
    (pause,) = events(live.target, "write pause")
    assert [p["name"] for p in pause["parts"]] == [
        "lock the source",
        "catch up",
        "compare the changed keys",
        "copy the tables without a key",
        "set the sequences",
        "open the target",
        "close the source",
        "commit on both sides",
    ]
    assert pause["seconds"] == pytest.approx(sum(p["seconds"] for p in pause["parts"]), abs=1e-5)
    assert seconds_of(pause) == pytest.approx(pause["seconds"], abs=1e-5)
    assert 0 < pause["seconds"] < pause["limit"] == 5.0
    assert pause["complete"]
    status = report(live.target.conninfo, live.project).runs[0]
    assert status.write_pause is not None
    assert status.write_pause["seconds"] == pause["seconds"]
    assert status.write_pause["parts"] == pause["parts"]


def test_session_that_blocks_the_lock_is_the_problem_of_a_rehearsal(live: LiveRun) -> None:
    """The parts are measured all the same. A transaction that is shorter than the lock timeout is no problem."""
    with live.source.connect(application_name="the report", autocommit=False) as reader:
        reader.execute("UPDATE account SET owner = 'x' WHERE id = 3; SELECT pg_sleep(0.6)")
        found = rehearsed(live)
        assert found.problem is not None
        assert "the report" in str(found.problem.why)
        assert found.problem.exit_code == 8
        assert len(found.parts) == 7
        assert rehearsed(live, ignore_blockers=True).problem is None
        assert rehearsed(live, Limits(lock_timeout=600)).problem is None
        # A cutover with this option would terminate it.
        assert rehearsed(live, Limits(terminate_blockers=True)).problem is None
    assert rehearsed(live).problem is None


def test_rehearsal_that_is_too_slow_shows_its_parts(live: LiveRun) -> None:
    found = rehearsed(live, Limits(max_write_pause=0.0001))
    assert found.problem is not None
    assert len(found.parts) == 7
    assert "would be aborted now" in render.said(found, "cutover")
    assert "catch up" in "\n".join(render.text(found))
    assert "expected write pause" in render.text(found)[0]
    assert found.complete


def test_rehearsal_of_rows_that_differ_shows_what_it_measured_and_blockers(live: LiveRun) -> None:
    live.tamper("UPDATE account SET owner = 'tampered' WHERE id = 5")
    live.touch("account", 5)
    with live.source.connect(application_name="the report", autocommit=False) as reader:
        reader.execute("LOCK TABLE account IN ROW EXCLUSIVE MODE")
        found = rehearsed(live)
    assert "differ" in str(found.problem)
    assert not found.complete
    assert "measured before the problem" in render.text(found)[0]
    (recorded,) = events(live.target, "rehearsed")
    assert not recorded["complete"]
    assert "differ" in recorded["problem"]
    assert "the report" in render.text(found)[-1]


def test_rehearsed_rollback_reports_its_blockers(databases: Databases, tmp_path: Path) -> None:
    account = "CREATE TABLE account (id int PRIMARY KEY, owner text); INSERT INTO account VALUES (3, 'a');"
    live = LiveRun(databases, tmp_path, account, account.partition("INSERT")[0])
    live.up_to_cutover()
    live.cutover()
    with live.target.connect(application_name="the report", autocommit=False) as reader:
        reader.execute("UPDATE account SET owner = 'x' WHERE id = 3; SELECT pg_sleep(0.6)")
        _, found = commands.rollback.rehearse(live.where, Limits(), live.progress)
        assert found.problem is not None
        assert "the report" in str(found.problem.why)
        _, found = commands.rollback.rehearse(live.where, Limits(), live.progress, ignore_blockers=True)
        assert found.problem is None
    assert len(found.parts) == 5
    assert [r["command"] for r in events(live.target, "rehearsed")] == ["rollback", "rollback"]
    live.rollback()
    forward, back = events(live.target, "write pause")
    assert (forward["command"], back["command"]) == ("cutover", "rollback")
    assert back["parts"][0]["name"] == "lock the target"
    assert back["parts"][-2]["name"] == "close the target"
    assert 0 < back["seconds"] < 5


def test_a_live_rehearsal_fails_with_the_error_of_the_cutover(live: LiveRun) -> None:
    with pytest.raises(CutoverAborted, match="would exceed --max-write-pause") as late:
        rehearse(live, Limits(max_write_pause=0.0001))
    assert late.value.exit_code == 8
    live.tamper("UPDATE account SET owner = 'tampered' WHERE id = 5")
    live.touch("account", 5)
    before = everything(live.source, live.target)
    with pytest.raises(CutoverAborted, match="differ") as rehearsed:
        rehearse(live)
    assert everything(live.source, live.target) == before
    with pytest.raises(CutoverAborted, match="differ") as real:
        live.cutover()
    assert rehearsed.value.lines() == real.value.lines()


def test_rehearsal_without_capture_compares_all_rows_and_changes_nothing(tmp_path: Path, databases: Databases) -> None:
    source = databases.cloned(OLD)
    databases.adopt(f"{source.name}_new")
    project = Project(tmp_path, source, f"{source.name}_new")
    project.reach("migrating")
    assert error(project.step("cutover", "--dry-run", check=4)) == error(project.step("cutover", check=4))
    project.step("verify")
    before = everything(source, project.new)
    with watching_locks(source) as locks, source.connect(autocommit=False) as reader:
        reader.execute("LOCK TABLE tb_user IN ROW EXCLUSIVE MODE")
        printed = json.loads(project.step("cutover", "--dry-run", "--ignore-blockers", "--format", "json").stdout)
    assert locks <= HARMLESS
    jsonschema.validate(printed, json.loads((ROOT / "src/confiture/schemas/run.json").read_text()))
    assert printed["state"] == "verified"
    assert len(printed["rehearsal"]["blockers"]) == 1
    assert "compare every row" in project.step("cutover", "--dry-run").stdout
    project.step("cutover", "--dry-run", check=-signal.SIGKILL, env={"CONFITURE_FAILPOINT": "rehearsed.before_commit"})
    assert [r["limit"] for r in events(project.new, "rehearsed")] == [None, None]
    source.sql("UPDATE tb_user SET name = 'changed' WHERE id = 7")
    rehearsed = error(project.step("cutover", "--dry-run", check=8))
    assert json.loads((project.folder / "differences.jsonl").read_text())["source_value"] == "changed"
    assert everything(source, project.new) == before
    assert rehearsed == error(project.step("cutover", check=8))
    source.sql("UPDATE tb_user SET name = 'name7' WHERE id = 7")
    project.step("cutover")
    (pause,) = events(project.new, "write pause")
    names = ["lock the source", "set the sequences", "compare every row", "switch"]
    assert ([p["name"] for p in pause["parts"]], pause["limit"]) == (names, None)
    assert "already" in project.step("cutover", "--dry-run").stderr


def test_rehearsal_finds_a_missing_lock_privilege_as_the_cutover_does(tmp_path: Path, databases: Databases) -> None:
    source = databases.cloned(OLD)
    databases.adopt(f"{source.name}_new")
    project = Project(tmp_path, source, f"{source.name}_new")
    role = f"{source.name}_reader"
    source.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT pg_read_all_data, pg_maintain TO {role}")
    source.sql(f"GRANT CREATE ON DATABASE {source.name} TO {role}")
    try:
        url = source.server.conninfo(source.name, user=role, password="x")
        project.write("db/environments/prod.yaml", f"database_url: {url}\n")
        target = source.server.conninfo(project.target)
        project.write(f"db/environments/{project.target}.yaml", f"database_url: {target}\n")
        databases.make(project.target)
        project.reach("verified")
        source.sql(f"REVOKE pg_maintain FROM {role}")
        assert error(project.step("cutover", "--dry-run", check=4)) == error(project.step("cutover", check=4))
    finally:
        with contextlib.suppress(psycopg.Error):
            source.sql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
