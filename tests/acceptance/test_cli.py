"""The command line for users and scripts: its output, its questions, and the files and databases that it changes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import ROOT
from projects import OLD, Project, error
from servers import Databases, TestDatabase

SCHEMAS = ROOT / "src/confiture/schemas"


@pytest.fixture
def project(tmp_path: Path, databases: Databases) -> Project:
    """A project whose target does not exist yet."""
    source = databases.cloned(OLD)
    target = f"{source.name}_new"
    databases.adopt(target)
    return Project(tmp_path, source, target)


# JSON ----------------------------------------------------------------------------------------------


def closed(schema: Any) -> Any:
    """The schema without additional properties, so that it must declare every printed field."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **inner} if "properties" in inner else inner


def conforms(text: str, name: str) -> dict[str, Any]:
    """The document, which must be one JSON text that fits this schema."""
    value: dict[str, Any] = json.loads(text)
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, closed(schema))
    jsonschema.validate({**value, "added_later": 1}, schema)
    return value


def test_every_command_prints_one_json_document_that_fits_its_schema(project: Project) -> None:
    as_json = ("--format", "json")
    mapped = ("--source", "prod", "--mapping", "column_mapping.yaml")
    plan = conforms(project.step("plan", *mapped, *as_json).stdout, "plan")
    assert [t["target"]["name"] for t in plan["tables"]] == ["tb_post", "tb_user"]
    again = conforms(project.step("setup", *mapped, "--dry-run", *as_json).stdout, "plan")
    assert {**again, "forecast": None} == {**plan, "forecast": None}  # it has measurements
    rows = conforms(project.step("preview", *mapped, "--table", "tb_user", "--rows", "2", *as_json).stdout, "preview")
    assert rows["rows"][0]["before"]["login_name"] == rows["rows"][0]["after"]["username"]

    run = conforms(project.step("setup", *mapped, *as_json).stdout, "run")
    assert (run["state"], run["source"], run["writes_served_by"]) == ("setup", "prod", "source")
    assert run["next"] == f"confiture migrate schema-to-schema migrate --target {project.target}"
    assert conforms(project.step("migrate", "--dry-run", *as_json).stdout, "plan")["hash"] == plan["hash"]
    for request in ("pause", "resume"):
        conforms(project.step(request, *as_json).stdout, "run")
    limited = conforms(project.step("throttle", "--max-rate", "900000", *as_json).stdout, "run")
    assert limited["limits"] == {"max_rate": 900000, "max_replica_lag": None, "max_backlog": None}
    assert conforms(project.step("migrate", *as_json).stdout, "run")["rows_copied"] == 800
    verified = conforms(project.step("verify", *as_json).stdout, "verification")
    assert verified["state"] == "verified"
    assert verified["verification"]["equal"] is True
    project.new.sql("UPDATE tb_user SET username = 'other' WHERE id = 7")
    different = conforms(project.step("verify", "--again", *as_json, check=7).stdout, "verification")
    (difference,) = different["verification"]["differences"]
    assert (difference["key"], difference["column_name"]) == ({"id": "7"}, "username")
    project.new.sql("UPDATE tb_user SET username = 'login7' WHERE id = 7")
    project.step("verify")
    assert project.target in conforms(project.step("cutover", *as_json).stdout, "run")["application_url"]
    over = conforms(project.step("cleanup", "--yes", *as_json).stdout, "run")
    assert (over["state"], over["next"], over["writes_served_by"]) == ("cleaned", None, "target")


def test_run_abort_and_build_also_print_json(project: Project, databases: Databases) -> None:
    as_json = ("--format", "json")
    done = project.step("run", "--source", "prod", "--mapping", "column_mapping.yaml", *as_json)
    assert conforms(done.stdout, "verification")["state"] == "verified"
    assert conforms(project.step("abort", "--yes", *as_json).stdout, "run")["state"] == "aborted"
    built = databases.make()
    project.write("db/environments/built.yaml", f"database_url: {built.conninfo}\n")
    assert conforms(project.run("build", "--apply", "--env", "built", *as_json).stdout, "build")["statements"] == 3
    written = conforms(project.run("build", "--output", "all.sql", *as_json).stdout, "build")
    assert (written["output"], written["statements"], len(written["digest"])) == ("all.sql", 3, 64)


# plan, preview and --dry-run -----------------------------------------------------------------------


#: The columns of catalogs that autovacuum may change at any time.
CHANGED_BY_VACUUM = (
    "ARRAY['relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid', 'datfrozenxid']"
)


def contents(database: TestDatabase) -> dict[str, list[str]]:
    """Every row of every catalog and table of a database except statistics, by relation."""
    relations = database.rows(
        "SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'S' FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'S') AND n.nspname NOT LIKE 'pg_toast%' AND c.relname !~ '^pg_statistic'"
    )
    found = {}
    with database.connect() as connection:
        for name, is_sequence in relations:
            row = "ROW(r.*)" if is_sequence else f"(to_jsonb(r) - {CHANGED_BY_VACUUM})"
            rows = connection.execute(f"SELECT {row}::text FROM {name} r".encode()).fetchall()
            found[name] = sorted(text for (text,) in rows)
    return found


def everything(project: Project) -> dict[str, Any]:
    """The contents of both databases, of database ``postgres``, and of the project's files."""
    names = [name for (name,) in project.source.rows("SELECT datname FROM pg_database WHERE datallowconn")]
    ours = [name for name in names if name in ("postgres", project.source.name, project.target)]
    files = {str(p): p.read_bytes() for p in project.folder.rglob("*") if p.is_file()}
    return {"files": files, **{name: contents(TestDatabase(project.source.server, name)) for name in ours}}


READ_ONLY: list[tuple[str, ...]] = [
    ("plan",),
    ("setup", "--dry-run"),
    ("preview", "--table", "tb_user"),
    ("migrate", "--dry-run"),
]


@pytest.mark.parametrize("there", [False, True])
def test_read_only_commands_change_nothing(project: Project, there: bool) -> None:
    if there:
        project.reach("migrating")
    before = everything(project)
    for name, *rest in READ_ONLY:
        project.step(name, "--source", "prod", "--mapping", "column_mapping.yaml", *rest)
        project.step(name, "--source", "prod", "--mapping", "nothing.yaml", *rest, check=2)
    after = everything(project)
    for where, relations in after.items():
        changed = {k for k in relations if relations[k] != before[where].get(k)}
        assert changed == set(), where
    assert before.keys() == after.keys()


def test_plan_of_an_existing_run_prints_the_stored_plan(project: Project) -> None:
    project.setup("--chunk-rows", "77", "--strategy", "copy")
    plan = project.step("plan", "--all").stdout
    assert "chunks of 77 rows" in plan
    assert "strategy  copy (requested)" in plan
    assert "username <- login_name" in plan


def test_preview_shows_rows_before_and_after_the_mapping(project: Project) -> None:
    mapped = ("--source", "prod", "--mapping", "column_mapping.yaml")
    shown = project.step("preview", *mapped, "--table", "tb_user", "--rows", "1").stdout
    assert "before  login_name = login1" in shown
    assert "after   username = login1" in shown
    assert 'after   metadata = {"n": 1}' in shown
    assert "it has tb_post, tb_user" in error(project.step("preview", *mapped, "--table", "no", check=2))


# Output --------------------------------------------------------------------------------------------


def test_results_go_to_stdout_and_progress_goes_to_stderr_as_plain_lines(project: Project) -> None:
    project.setup()
    done = project.step("migrate", apart=True)
    assert done.stdout.splitlines() == [
        "every row is copied (800 by this command)",
        f"Next: confiture migrate schema-to-schema verify --target {project.target}",
    ]
    assert re.search(r"(?m)^[-\d]{10}T[:\d]{8}Z tb_user: copied 300 rows$", done.stderr)
    assert not set("\r\x1b") & set(done.stdout + done.stderr)


def test_verify_reports_each_check_that_passes(project: Project) -> None:
    project.reach("migrating")
    assert project.step("verify").stdout.splitlines() == [
        "✓ Row counts match",
        "  → tb_post: 500 (source) = 500 (target)",
        "  → tb_user: 300 (source) = 300 (target)",
        "✓ Checksum verification passed",
        "✓ Foreign key integrity verified",
        "✓ Constraints and indexes valid",
        "✓ Sequences ahead of their data",
        "source and target agree",
        "Rollback after the cutover: not possible, the run has no capture.",
        f"Next: confiture migrate schema-to-schema cutover --target {project.target}",
    ]


def on_a_terminal(
    project: Project, *arguments: str, typed: str = "", env: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run a command on a pseudo-terminal, and answer its question with ``typed``.

    :return: the exit code and the whole output.
    """
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "confiture", "migrate", "schema-to-schema", *arguments, "--target", project.target],
        cwd=project.folder, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm", **(env or {})},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        ready, _, _ = select.select([master], [], [], 60)
        assert ready, f"no output for 60 s after: {shown!r}"
        try:
            shown += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if typed and b"to continue: " in shown:
            os.write(master, typed.encode())
            typed = ""
    os.close(master)
    return process.wait(), shown.decode()


def test_a_terminal_shows_live_progress_and_no_color_is_honoured(project: Project) -> None:
    project.setup()
    code, shown = on_a_terminal(project, "migrate", "--chunk-rows", "10", env={"NO_COLOR": "1"})
    assert code == 0, shown
    assert "rows/s" in shown
    assert "every row is copied" in shown
    assert not re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", shown), "colours in spite of NO_COLOR"
    assert on_a_terminal(project, "verify", env={"TERM": "dumb"})[1].count("\x1b") == 0


def test_a_destructive_command_asks_for_the_name_only_on_a_terminal(project: Project) -> None:
    project.reach("migrating")
    message = error(project.step("abort", check=2))
    assert "standard input is not a terminal" in message
    assert "--yes" in message
    code, shown = on_a_terminal(project, "abort", typed="yes\n")
    assert code == 2
    assert f"Type {project.target} to continue" in shown
    assert "not confirmed; nothing has changed" in shown
    assert project.state == "migrating"
    code, shown = on_a_terminal(project, "abort", typed=f"{project.target}\n")
    assert code == 0, shown
    assert project.state == "aborted"


def test_dropping_the_source_asks_for_its_name(project: Project) -> None:
    project.reach("cutover")
    drop = ("cleanup", "--drop-source", project.source.name)
    code, shown = on_a_terminal(project, *drop, typed=f"{project.target}\n")
    assert code == 2
    assert f"THE DATABASE {project.source.name}" in shown
    assert project.state == "cutover"
    assert on_a_terminal(project, *drop, typed=f"{project.source.name}\n")[0] == 0
    assert project.new.rows(f"SELECT 1 FROM pg_database WHERE datname = '{project.source.name}'") == []


def test_a_closed_output_pipe_causes_no_traceback(project: Project) -> None:
    confiture = f"{sys.executable} -m confiture"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {confiture} build | true"],
        cwd=project.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_a_closed_stderr_pipe_does_not_stop_the_migration(project: Project) -> None:
    project.setup()
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "confiture", "migrate", "schema-to-schema", "migrate", "--target", project.target],
        cwd=project.folder, stdout=subprocess.PIPE, stderr=write, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 0
    assert "every row is copied" in done.stdout


def test_help_and_version_exit_with_0(project: Project) -> None:
    assert project.run("--version").stdout.startswith("confiture ")
    for command in ((), ("migrate",), ("migrate", "schema-to-schema"), ("build",)):
        assert "Usage: confiture" in project.run(*command, "--help").stdout


def test_the_next_command_can_be_pasted(project: Project) -> None:
    uri = f"host=127.0.0.1 port={project.source.server.port} user=postgres dbname={project.target}"
    done = project.run(
        "migrate", "schema-to-schema", "setup", "--source", "prod", "--target", uri, "--mapping", "column_mapping.yaml"
    )
    following = done.stdout.splitlines()[-1].removeprefix("Next: confiture")
    pasted = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m confiture {following}"],
        cwd=project.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert pasted.returncode == 0, pasted.stderr
