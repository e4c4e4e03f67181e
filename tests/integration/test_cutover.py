"""A cutover changes nothing before its commit, and names the session or the row that blocks it."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from confiture.commands.hooks import environment_of_hook
from confiture.config import Database
from projects import OLD, Project, error
from servers import Databases

#: In addition to OLD: objects that a cutover must restore, and a partitioned table.
MORE_OLD = """
CREATE TABLE tb_event (id bigint, day date, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE tb_event_1 PARTITION OF tb_event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO tb_event SELECT n, '2024-02-01', 'e' || n FROM generate_series(1, 50) n;
"""
MORE_NEW = """
CREATE TABLE tb_event (id bigint, day date, what text, PRIMARY KEY (id, day));
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := NEW.body || '!'; RETURN NEW; END $$;
CREATE TRIGGER stamped BEFORE INSERT ON tb_post FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER never BEFORE INSERT ON tb_post FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE tb_post DISABLE TRIGGER never;
"""


@pytest.fixture
def verified(tmp_path: Path, databases: Databases) -> Project:
    """A run that is verified."""
    source = databases.cloned(OLD + MORE_OLD)
    target = f"{source.name}_new"
    databases.adopt(target)
    project = Project(tmp_path, source, target)
    project.write("db/schema/20_more/10_more.sql", MORE_NEW)
    project.reach("verified")
    return project


def locks(project: Project) -> list[tuple[object, ...]]:
    """Locks on the source's tables that would block a writer."""
    return project.source.rows(
        "SELECT relation::regclass, mode FROM pg_locks WHERE relation::regclass::text IN ('tb_user', 'tb_post')"
        " AND mode NOT IN ('AccessShareLock', 'RowShareLock')"
    )


def test_objects_dropped_for_the_load_are_restored_as_declared(verified: Project) -> None:
    verified.source.sql("SELECT setval('tb_post_id_seq', 700)")
    done = verified.step("cutover")
    new = verified.new
    assert f"Point the application at: host 127.0.0.1, port {new.server.port}, database {new.name}\n" in done.stdout
    assert verified.state == "cutover"
    assert new.value("SELECT writes_served_by FROM confiture.run") == "target"
    key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' AND conname = 'tb_post_user_id_fkey'"
    assert new.value(key) == "FOREIGN KEY (user_id) REFERENCES tb_user(id) ON DELETE CASCADE"
    enabled = "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgfoid = 'stamp'::regproc ORDER BY 1"
    assert new.rows(enabled) == [("never", "D"), ("stamped", "O")]
    assert new.value("INSERT INTO tb_post (user_id, body) VALUES (1, 'new') RETURNING body") == "new!"
    assert new.value("SELECT max(id) FROM tb_post") == 701
    assert new.rows("SELECT indexname FROM pg_indexes WHERE indexname = 'ix_post_user'")


def test_sequence_advanced_after_the_copy_is_set_by_the_next_migrate(verified: Project) -> None:
    verified.source.sql("SELECT setval('tb_post_id_seq', 900)")
    assert "tb_post_id_seq" in error(verified.step("verify", "--again", check=7))
    verified.step("migrate")
    verified.step("verify")
    assert verified.new.value("SELECT last_value FROM tb_post_id_seq") == 900


def test_row_changed_after_verify_exits_8_and_the_source_still_serves(verified: Project) -> None:
    verified.source.sql("UPDATE tb_user SET name = 'changed' WHERE id = 7")
    reported = error(verified.step("cutover", check=8))
    assert "the first: tb_user id = 7 column name" in reported
    assert f"verify --target {verified.target} --again" in reported
    (line,) = (verified.folder / "differences.jsonl").read_text().splitlines()
    assert json.loads(line)["source_value"] == "changed"
    assert (verified.folder / "differences.jsonl").stat().st_mode & 0o777 == 0o600
    assert verified.state == "verified"
    assert verified.new.value("SELECT writes_served_by FROM confiture.run") == "source"
    assert locks(verified) == []
    verified.source.sql("UPDATE tb_user SET name = 'name7' WHERE id = 7")
    verified.step("cutover")


def test_a_blocking_transaction_exits_8_and_is_named(verified: Project) -> None:
    options = {"application_name": "the app's worker", "autocommit": False}
    with verified.source.connect(**options) as blocker:
        blocker.execute("UPDATE tb_user SET name = name WHERE id = 1")
        reported = error(verified.step("cutover", "--lock-timeout", "0.1", "--give-up-after", "0.2", check=8))
        assert f"pid {blocker.info.backend_pid}" in reported
    assert "the app's worker" in reported
    assert "idle in transaction" in reported
    assert verified.state == "verified"
    assert locks(verified) == []


def test_a_writer_of_a_partition_alone_is_named(verified: Project) -> None:
    with verified.source.connect(autocommit=False) as blocker:
        blocker.execute("UPDATE tb_event_1 SET what = what WHERE id = 1")
        reported = error(verified.step("cutover", "--lock-timeout", "0.1", "--give-up-after", "0", check=8))
        assert f"pid {blocker.info.backend_pid}" in reported


def test_a_prepared_transaction_is_named_by_its_gid(verified: Project) -> None:
    gid = f"{verified.source.name} it's"
    with verified.source.connect() as connection:
        connection.execute("BEGIN; UPDATE tb_user SET name = name WHERE id = 1")
        connection.execute("PREPARE TRANSACTION '" + gid.replace("'", "''") + "'")
        reported = error(verified.step("cutover", "--lock-timeout", "0.1", "--give-up-after", "0", check=8))
        connection.execute("ROLLBACK PREPARED '" + gid.replace("'", "''") + "'")
    assert f"the prepared transaction '{gid.replace(chr(39), chr(39) * 2)}'" in reported
    verified.step("cutover")


def test_cutover_continues_when_the_blocker_ends_in_time(verified: Project) -> None:
    with verified.source.connect(autocommit=False) as blocker:
        blocker.execute("UPDATE tb_user SET name = name WHERE id = 1")
        ended = threading.Event()

        def end() -> None:
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"
            while not ended.is_set() and not verified.source.rows(waiting):
                pass
            blocker.rollback()

        ending = threading.Thread(target=end)
        ending.start()
        done = verified.step("cutover", "--lock-timeout", "2", check=None)
        ended.set()
        ending.join()
    assert done.returncode == 0, done.stderr
    assert verified.state == "cutover"


@pytest.mark.parametrize("point", ["cutover.locked", "cutover.switch.before_commit"])
def test_cutover_killed_before_its_commit_can_be_repeated(verified: Project, point: str) -> None:
    verified.step("cutover", check=-signal.SIGKILL, env={"CONFITURE_FAILPOINT": point})
    assert verified.state == "verified"
    verified.step("cutover")
    assert verified.state == "cutover"


def test_cutover_repeated_after_its_commit_reports_it_and_runs_the_hook(verified: Project) -> None:
    hook = ("--hook", "switch=touch hooked")
    verified.step("cutover", *hook, check=-signal.SIGKILL, env={"CONFITURE_FAILPOINT": "cutover.switch.after_commit"})
    assert verified.state == "cutover"
    assert not (verified.folder / "hooked").exists()
    assert "cut over already" in verified.step("cutover", *hook).stderr
    assert (verified.folder / "hooked").exists()


def test_hook_runs_without_a_shell_and_gets_the_address_but_no_secret(verified: Project) -> None:
    project = verified
    hook = project.write("hook.sh", '#!/bin/sh\necho "$@" > arguments\nenv > environment\necho printed\n')
    hook.chmod(0o755)
    secrets = {"PGPASSWORD": "canary1", "APP_URL": "postgres://me:canary2@host/x", "HARMLESS": "kept"}
    done = project.step(
        "cutover", "--hook", "switch=./hook.sh 'a b' $HOME; rm *", "--format", "json", apart=True, env=secrets
    )
    assert (project.folder / "arguments").read_text() == "a b $HOME; rm *\n"
    got = dict(line.partition("=")[::2] for line in (project.folder / "environment").read_text().splitlines())
    assert got["HARMLESS"] == "kept"
    assert got["CONFITURE_TARGET_URL"] == f"postgresql://postgres@127.0.0.1:{project.new.server.port}/{project.target}"
    assert f"dbname={project.target}" in got["CONFITURE_TARGET"]
    assert len(got["CONFITURE_RUN"]) == 8
    assert "canary" not in str(got)
    assert json.loads(done.stdout)["application_url"] == got["CONFITURE_TARGET_URL"].replace("postgres@", "")
    assert "printed" in done.stderr


def test_a_variable_that_is_a_password_does_not_reach_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"DB_PASSWORD": "the-secret", "PATH": "/usr/bin:/the-secret/bin:/bin"})
    source = Database("old", "host=a user=u password=the-secret dbname=d")
    target = Database("new", "host=b user=u dbname=e")
    assert "DB_PASSWORD" not in environment_of_hook("12345678", source, target)
    assert environment_of_hook("12345678", source, target)["PATH"] == "/usr/bin:/bin"
