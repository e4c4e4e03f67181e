"""Every exit code and every refusal: the codes for scripts and the messages for users."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from projects import OLD, Project, error
from servers import Databases

#: Finds a session of the run that waits for a lock of another session.
WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    " AND datname = current_database() AND application_name ~ '^confiture'"
)


@pytest.fixture
def project(tmp_path: Path, databases: Databases) -> Project:
    """A project whose target does not exist yet."""
    source = databases.cloned(OLD)
    target = f"{source.name}_new"
    databases.adopt(target)
    return Project(tmp_path, source, target)


def exists(project: Project) -> bool:
    """Whether the target database exists."""
    name = project.target
    return bool(project.source.rows(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"))


def untouched(project: Project) -> bool:
    """Whether nothing of a run exists: no target, no environment file, no schema on the source."""
    schemas = project.source.rows("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'confiture%'")
    return not exists(project) and not schemas and os.listdir(project.folder / "db/environments") == ["prod.yaml"]


def wait_for_the_lock(project: Project, running: subprocess.Popen[str]) -> None:
    """Wait until the process waits for a lock on the source."""
    while not project.source.rows(WAITING):
        assert running.poll() is None
        time.sleep(0.05)


# 0 and 1 -------------------------------------------------------------------------------------------


def test_a_command_that_is_already_done_reports_it_and_exits_with_0(project: Project) -> None:
    project.reach("verified")
    assert "setup is done already" in project.setup().stderr
    assert "nothing to migrate" in project.step("migrate").stderr
    again = project.step("verify")
    assert "verified already" in again.stderr
    assert "✓ Row counts match" in again.stdout
    project.step("cutover")
    assert "cut over already" in project.step("cutover").stderr
    project.step("cleanup", "--yes")
    assert "cleaned up already" in project.step("cleanup").stderr


def test_a_defect_exits_with_1_and_prints_a_traceback_only_if_verbose(project: Project) -> None:
    broken = {"CONFITURE_FAILPOINT_LOG": str(project.folder / "missing" / "log")}
    done = project.setup(check=1, env=broken)
    assert "internal error: FileNotFoundError" in error(done)
    verbose = project.setup("--verbose", check=1, env=broken)
    assert "Traceback" in verbose.stderr


# 2: usage and configuration ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("migrate", "schema-to-schema", "setup"),
        ("migrate", "schema-to-schema", "migrate", "--target", "x", "--chunk-rows", "0"),
        ("migrate", "schema-to-schema", "verify", "--target", "x", "--format", "xml"),
        *(
            ("migrate", "schema-to-schema", step, "--target", "x", option, value)
            for step, option, value in (
                ("cutover", "--max-write-pause", "inf"),
                ("cutover", "--lock-timeout", "1e300"),
                ("rollback", "--give-up-after", "nan"),
                ("cutover", "--max-staleness", "99999999d"),
                ("throttle", "--max-replica-lag", "inf"),
                ("throttle", "--max-rate", "99999999999999999999"),
            )
        ),
    ],
)
def test_an_invalid_command_line_exits_with_2(project: Project, arguments: tuple[str, ...]) -> None:
    done = project.run(*arguments, check=2)
    assert "Usage: confiture" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_unknown_environment_exits_with_2_and_a_suggestion(project: Project) -> None:
    message = error(project.step("setup", "--source", "prdo", check=2))
    assert "'prdo'" in message
    assert "did you mean prod?" in message
    assert untouched(project)


def test_an_unknown_target_without_a_source_exits_with_2(project: Project) -> None:
    for step in ("migrate", "verify", "cutover"):
        assert "There is no environment" in error(project.step(step, check=2))
    assert "a new run needs --source too" in error(project.step("setup", check=2))


def test_an_unknown_target_and_a_source_by_uri_exit_with_2(project: Project) -> None:
    message = error(project.step("setup", "--source", project.source.conninfo, check=2))
    assert "name the source by its environment" in message
    assert untouched(project)


def test_all_faults_of_an_environment_file_are_listed_and_exit_with_2(project: Project) -> None:
    project.write("db/environments/prod.yaml", "databse_url: x\nsearch_path: {}\n")
    message = error(project.setup(check=2))
    assert "prod.yaml:1:1:" in message
    assert "did you mean database_url?" in message
    assert "prod.yaml:2:14:" in message


def test_an_unset_environment_variable_exits_with_2(project: Project) -> None:
    project.write("db/environments/prod.yaml", "database_url: ${NO_SUCH_VARIABLE}\n")
    assert "NO_SUCH_VARIABLE is not set" in error(project.setup(check=2))


FAULTY_MAPPING = """tb_user:
  login_nam: username
  metadata:
    source_column: settings_json
    transform: "settings_json::jsonbb"
tb_pots:
  body: text
"""


@pytest.mark.parametrize("command", ["plan", "setup", "migrate"])
def test_all_faults_of_a_mapping_are_listed_and_exit_with_2(project: Project, command: str) -> None:
    if command == "migrate":
        project.setup()
    project.write("column_mapping.yaml", FAULTY_MAPPING)
    done = project.step(command, "--source", "prod", "--mapping", "column_mapping.yaml", check=2)
    message = error(done)
    assert "did you mean" in message
    places = [line.split(": ")[0].strip() for line in message.splitlines() if "column_mapping.yaml:" in line]
    assert {"column_mapping.yaml:2:3", "column_mapping.yaml:3:3", "column_mapping.yaml:6:1"} <= set(places)
    if command == "migrate":
        assert project.state == "setup"
        assert project.new.value("SELECT count(*) FROM tb_user") == 0
    else:
        assert untouched(project)


def test_setup_reports_that_it_needs_a_mapping(project: Project) -> None:
    message = error(project.step("setup", "--source", "prod", check=2))
    assert "without a mapping, the plan has 3 faults" in message
    assert "--mapping" in message
    assert untouched(project)


def test_a_missing_mapping_exits_with_2(project: Project) -> None:
    assert "nope.yaml" in error(project.setup("--mapping", "nope.yaml", check=2))
    assert untouched(project)


def test_ddl_that_cannot_run_in_one_transaction_exits_with_2(project: Project) -> None:
    project.write("db/schema/10_tables/30_late.sql", "SELECT 1;\nCOMMIT;\n")
    message = error(project.setup(check=2))
    assert "30_late.sql:2:1" in message
    assert untouched(project)


def test_an_invalid_address_of_the_source_exits_with_2(project: Project) -> None:
    message = error(project.setup("--source-seen-from-target", "host=x password=canary", check=2))
    assert "password" in message
    assert "canary" not in message
    assert untouched(project)


def test_a_hook_that_cannot_be_run_exits_with_2_before_the_cutover(project: Project) -> None:
    project.reach("verified")
    assert "there is no program 'no-such-program'" in error(
        project.step("cutover", "--hook", "switch=no-such-program now", check=2)
    )
    assert "cannot be read" in error(project.step("cutover", "--hook", "switch=sh -c 'half", check=2))
    assert "names no event" in error(project.step("cutover", "--hook", "true", check=2))
    assert "did you mean switch?" in error(project.step("cutover", "--hook", "swich=true", check=2))
    assert project.state == "verified"


def test_a_report_that_cannot_be_written_exits_with_2_before_the_work(project: Project) -> None:
    project.reach("migrating")
    message = error(project.step("verify", "--differences", "no/such/folder/x.jsonl", check=2))
    assert "no/such/folder" in message
    assert project.new.value("SELECT count(*) FROM confiture.verification") == 0


def test_build_without_an_environment_or_a_valid_output_exits_with_2(project: Project) -> None:
    assert "--env" in error(project.run("build", "--apply", check=2))
    assert "cannot be written" in error(project.run("build", "--output", "no/such/file.sql", check=2))


# 3: cannot connect ---------------------------------------------------------------------------------


def test_a_wrong_password_exits_with_3_and_is_not_printed(project: Project, databases: Databases) -> None:
    role = f"{project.source.name}_role"
    project.source.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
    try:
        uri = project.source.server.conninfo(project.source.name, user=role, password="canary-wrong")
        project.write("db/environments/prod.yaml", f"database_url: {uri}\n")
        done = project.setup("--verbose", check=3)
        message = error(done)
        assert "password authentication failed" in message
        assert "canary" not in done.stderr + done.stdout
    finally:
        project.source.sql(f"DROP ROLE {role}")


def test_an_unreachable_server_exits_with_3(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: the connection is refused immediately
        port = taken.getsockname()[1]
        project.write("db/environments/prod.yaml", f"database_url: postgresql://me@127.0.0.1:{port}/prod\n")
        message = error(project.setup(check=3))
    assert f"port {port} failed" in message
    assert "Connection refused" in message


# 4: a precondition refuses -------------------------------------------------------------------------


def test_commands_before_setup_exit_with_4_and_print_the_setup_command(project: Project, databases: Databases) -> None:
    project.write(f"db/environments/{project.target}.yaml", f"like: prod\ndatabase: {project.target}\n")
    for step in (("migrate",), ("verify",), ("cutover",), ("pause",), ("throttle", "--off")):
        assert "setup --target" in error(project.step(*step, check=4))
    databases.make(project.target)
    message = error(project.step("migrate", check=4))
    assert "has no run" in message
    assert "setup --target" in message


def test_a_target_with_rows_exits_with_4_in_setup_and_its_dry_run(project: Project, databases: Databases) -> None:
    databases.make(project.target).sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
    for arguments in ((), ("--dry-run",)):
        message = error(project.setup(*arguments, check=4))
        assert "already holds rows" in message
        assert "in kept" in message
    assert project.new.rows("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'confiture%'") == []


def test_a_second_setup_exits_with_0_or_with_4_for_another_source(project: Project, databases: Databases) -> None:
    project.setup()
    run = project.new.value("SELECT id FROM confiture.run")
    project.setup()
    project.step("setup")  # the journal has recorded the source
    other = databases.cloned(OLD)
    message = error(project.step("setup", "--source", other.conninfo, check=4))
    assert "from another source" in message
    assert f"abort --target {project.target}" in message
    assert project.new.rows("SELECT id FROM confiture.run") == [(run,)]


def test_a_source_other_than_that_of_the_run_exits_with_4(project: Project, databases: Databases) -> None:
    project.setup()
    other = databases.cloned(OLD)
    assert "is not the database that the run began with" in error(
        project.step("migrate", "--source", other.conninfo, check=4)
    )


def test_one_database_as_source_and_target_exits_with_4(project: Project) -> None:
    name = project.source.name
    socket_uri = f"host={project.source.server.root} port={project.source.server.port} user=postgres dbname={name}"
    for same in (project.source.conninfo, socket_uri, name):
        message = error(
            project.run("migrate", "schema-to-schema", "setup", "--source", "prod", "--target", same, check=4)
        )
        assert "source and target are one database" in message
    assert os.listdir(project.folder / "db/environments") == ["prod.yaml"]


def test_a_journal_newer_than_the_tool_exits_with_4(project: Project) -> None:
    project.setup()
    project.new.sql("INSERT INTO confiture.migration (version, name, tool_version) VALUES (999, 'later', '99.0')")
    for step in ("setup", "migrate", "verify", "cutover", "plan"):
        assert "version 999" in error(project.step(step, "--source", "prod", check=4))
    assert "version 999" in error(project.step("abort", "--yes", check=4))


def test_commands_out_of_order_exit_with_4_and_print_the_right_one(project: Project) -> None:
    command = "confiture migrate schema-to-schema {} --target " + project.target
    project.setup()
    assert command.format("migrate") in error(project.step("verify", check=4))
    assert command.format("migrate") in error(project.step("cutover", check=4))
    # Without --yes: the refusal is reported before the question is asked.
    assert command.format("migrate") in error(project.step("cleanup", check=4))
    project.step("migrate", "--mapping", "column_mapping.yaml")
    assert command.format("verify") in error(project.step("cutover", check=4))
    project.step("verify")
    assert command.format("cutover") in error(project.step("cleanup", "--yes", check=4))
    project.step("cutover")
    assert command.format("cleanup") in error(project.step("abort", "--yes", check=4))
    assert command.format("cleanup") in error(project.step("verify", check=4))
    project.step("cleanup", "--yes")
    for step in (("migrate",), ("verify",), ("cutover",), ("pause",), ("resume",), ("throttle", "--off")):
        assert "setup" in error(project.step(*step, check=4))


def test_verify_of_an_unfinished_migration_exits_with_4(project: Project) -> None:
    project.setup()
    done = project.step(
        "migrate", "--mapping", "column_mapping.yaml", "--chunk-rows", "50",
        check=-signal.SIGKILL, env={"CONFITURE_FAILPOINT": "copy.after_commit:2"},
    )  # fmt: skip
    assert done.stdout == ""
    message = error(project.step("verify", check=4))
    assert "not every table is copied" in message
    assert f"migrate --target {project.target}" in message
    project.step("migrate")
    project.step("verify")


def test_migrate_exits_with_4_after_a_killed_setup(project: Project) -> None:
    project.setup(check=-signal.SIGKILL, env={"CONFITURE_FAILPOINT": "setup.before_commit:3"})
    message = error(project.step("migrate", "--mapping", "column_mapping.yaml", check=4))
    assert "run the same setup command again" in message
    project.setup()
    project.step("migrate")


def test_a_new_run_can_begin_after_an_abort(project: Project) -> None:
    project.reach("migrating")
    project.step("abort", "--yes")
    assert "nothing to abort" in project.step("abort").stderr
    assert "setup" in error(project.step("cleanup", "--yes", check=4))
    project.reach("verified")
    assert project.new.rows("SELECT state FROM confiture.run ORDER BY started_at") == [("aborted",), ("verified",)]


def test_a_target_that_cannot_be_created_exits_with_4(project: Project) -> None:
    message = error(project.setup("--locale", "no_such_locale", check=4))
    assert "--locale" in message
    assert untouched(project)


def test_a_missing_new_schema_exits_with_4_and_creates_nothing(project: Project, tmp_path: Path) -> None:
    (project.folder / "db/schema").rename(tmp_path / "elsewhere")
    assert "there is no new schema" in error(project.setup(check=4))
    assert untouched(project)


def test_a_wrong_name_of_the_source_drops_nothing(project: Project) -> None:
    project.reach("cutover")
    message = error(project.step("cleanup", "--drop-source", project.source.name[:-1], "--yes", check=4))
    assert "name it exactly" in message
    assert project.state == "cutover"
    assert project.source.value("SELECT count(*) FROM tb_user") == 300


# 5 and 6 -------------------------------------------------------------------------------------------


GOOD_AND_BAD = "CREATE TABLE fine (id int);\nCREATE TABLE bad (id no_such_type);\n"


def test_a_ddl_error_exits_with_5_and_drops_the_target(project: Project) -> None:
    project.write("db/schema/10_tables/30_bad.sql", GOOD_AND_BAD)
    message = error(project.setup(check=5))
    assert "30_bad.sql:2:" in message
    assert 'type "no_such_type" does not exist' in message
    assert "CREATE TABLE bad" in message
    assert untouched(project)
    project.write("db/schema/10_tables/30_bad.sql", "CREATE TABLE fine (id int);\n")
    project.setup()
    assert project.new.value("SELECT to_regclass('public.fine') IS NOT NULL")


def test_a_row_that_the_target_refuses_is_named_and_exits_with_5(project: Project) -> None:
    project.source.sql("UPDATE tb_user SET settings_json = '{broken' WHERE id = 123")
    project.setup()
    message = error(project.step("migrate", check=5))
    assert "id = 123" in message
    assert "tb_user" in message
    project.source.sql("UPDATE tb_user SET settings_json = '{}' WHERE id = 123")
    project.step("migrate")
    project.step("verify")


def test_dropping_a_source_in_use_exits_with_6(project: Project) -> None:
    project.reach("cutover")
    with project.source.connect():
        message = error(project.step("cleanup", "--drop-source", project.source.name, "--yes", check=6))
    assert "is in use" in message
    project.step("cleanup", "--drop-source", project.source.name, "--yes")
    assert project.new.rows(f"SELECT 1 FROM pg_database WHERE datname = '{project.source.name}'") == []
    assert "cleaned up already" in project.step("cleanup", "--drop-source", project.source.name).stderr


# 7: differences ------------------------------------------------------------------------------------


def test_differences_exit_with_7_and_go_to_a_private_report(project: Project) -> None:
    project.reach("migrating")
    project.new.sql("UPDATE tb_user SET username = 'other' WHERE id = 7; DELETE FROM tb_post WHERE id = 9")
    (project.folder / "differences.jsonl").touch(mode=0o644)
    done = project.step("verify", check=7)
    message = error(done)
    assert "✗ Row counts differ" in done.stdout
    assert "→ tb_post: 500 (source) ≠ 499 (target)" in done.stdout
    assert "✗ Checksum verification failed" in done.stdout
    assert "'login7' (source) ≠ 'other' (target)" in done.stdout
    assert "✓ Foreign key integrity verified" in done.stdout
    assert "--restart-table public.tb_post" in message
    report = project.folder / "differences.jsonl"
    assert report.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    found = {(d["subject"], d["key"]["id"], d["column_name"], d["source_value"], d["target_value"]) for d in lines}
    assert ("public.tb_user", "7", "username", "login7", "other") in found
    assert ("public.tb_post", "9") in {f[:2] for f in found}
    assert project.state == "migrating"


def test_differences_return_a_verified_run_to_migrating(project: Project) -> None:
    project.reach("verified")
    project.source.sql("UPDATE tb_user SET name = 'later' WHERE id = 7")
    project.step("verify", "--again", check=7)
    assert project.state == "migrating"
    project.step("migrate", "--restart-table", "tb_user")
    project.step("verify")
    assert project.new.value("SELECT name FROM tb_user WHERE id = 7") == "later"


# 9: an unfinished cutover, and signals -------------------------------------------------------------


def test_a_failed_hook_exits_with_9_and_the_same_command_repeats_it(project: Project) -> None:
    project.reach("verified")
    hook = project.write("hook.sh", "#!/bin/sh\necho ran >> ran.txt\nexit ${HOOK_CODE:-3}\n")
    hook.chmod(0o755)
    message = error(project.step("cutover", "--hook", "switch=./hook.sh", check=9))
    assert "the target is serving" in message
    assert "exited with code 3" in message
    assert project.state == "cutover"
    project.step("cutover", "--hook", "switch=./hook.sh", env={"HOOK_CODE": "0"})
    assert (project.folder / "ran.txt").read_text() == "ran\nran\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_exits_with_128_plus_its_number(project: Project, number: signal.Signals) -> None:
    project.setup()
    with project.source.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE tb_post IN ACCESS EXCLUSIVE MODE")
        running = subprocess.Popen(
            [sys.executable, "-m", "confiture", "migrate", "schema-to-schema", "migrate", "--target", project.target],
            cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for_the_lock(project, running)
        running.send_signal(number)
        blocker.rollback()
        _, message = running.communicate(timeout=60)
    assert running.returncode == 128 + number, message
    assert "completed work is kept" in message
    project.step("migrate")
    project.step("verify")
