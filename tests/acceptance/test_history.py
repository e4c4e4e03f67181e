"""A plan that is agreed on before the run, and the history of the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from test_cli import conforms

from projects import MAPPING, OLD, Project, error
from servers import Databases


@pytest.fixture
def project(tmp_path: Path, databases: Databases) -> Project:
    source = databases.cloned(OLD)
    target = f"{source.name}_new"
    databases.adopt(target)
    return Project(tmp_path, source, target)


MAPPED = ("--source", "prod", "--mapping", "column_mapping.yaml")


def test_setup_carries_out_the_given_plan_and_no_other(project: Project) -> None:
    printed = project.step("plan", *MAPPED, "--output", "plan.json").stdout
    file = project.folder / "plan.json"
    document = conforms(file.read_text(), "plan")
    assert printed.endswith(f"wrote plan.json, plan {document['hash']}\n")
    assert " --plan plan.json " in f"{document['next']} "
    # The plan that another DDL leads to is refused before anything is created, and the change is named.
    ddl = project.folder / "db/schema/10_tables/20_post.sql"
    agreed = ddl.read_text()
    ddl.write_text(agreed.replace("body text", "body varchar(200)"))
    refused = error(project.setup("--plan", "plan.json", check=4))
    assert "table tb_post: column body" in refused
    assert document["hash"] in refused
    assert not databases_named(project)
    assert error(project.setup("--plan", "plan.json", "--dry-run", check=4)) == refused
    # So is the plan of other options.
    ddl.write_text(agreed)
    (project.folder / "other.yaml").write_text(MAPPING.replace("::jsonb", "::jsonb || '{}'"))
    assert "column metadata" in error(project.setup("--plan", "plan.json", "--mapping", "other.yaml", check=4))
    project.setup("--plan", "plan.json")
    assert project.new.value("SELECT plan_hash FROM confiture.run") == document["hash"]
    # The same command again compares the plan that is stored.
    project.setup("--plan", "plan.json")
    project.step("migrate")
    project.setup("--plan", "plan.json")
    project.step("plan", "--output", "again.json")
    assert json.loads((project.folder / "again.json").read_text())["hash"] == document["hash"]


def test_plan_hash_identifies_the_ddl_and_the_capture(project: Project) -> None:
    project = replace(project, capture=True)
    project.step("plan", *MAPPED, "--output", "plan.json")
    agreed = json.loads((project.folder / "plan.json").read_text())
    # Neither changes a column of any table.
    assert "capture of the application's writes" in error(
        project.setup("--plan", "plan.json", "--no-capture", "--dry-run", check=4)
    )
    added = project.folder / "db/schema/99_added.sql"
    for ddl in ("CREATE INDEX added ON tb_post (body);", "ALTER TABLE tb_user ADD CHECK (id > 0);", "-- a comment\n"):
        added.write_text(ddl)
        refused = error(project.setup("--plan", "plan.json", check=4))
        assert f"the hash of the DDL files: {agreed['ddl']} in the given plan" in refused
        assert not databases_named(project)
    added.unlink()
    # The next command of a dry run is what was given, without --dry-run.
    given = ("--plan", "plan.json", "--require-approval", "--encoding", "UTF8", "--no-sample", "--accept-small-disk")
    following = project.setup(*given, "--dry-run", "--format", "json").stdout
    words = json.loads(following)["next"]
    assert all(word in words.split() for word in given)
    project.setup("--plan", "plan.json")
    assert project.new.value("SELECT options ->> 'ddl' FROM confiture.run") == agreed["ddl"]
    assert project.new.value("SELECT plan_hash FROM confiture.run") == agreed["hash"]
    # The target has its tables now: a plan that executes no DDL is another one.
    project.step("abort", "--yes")
    project.new.sql("DROP SCHEMA confiture CASCADE")
    ddl = sorted((project.folder / "db/schema").rglob("*.sql"))
    project.new.sql("".join(file.read_text() for file in ddl))
    assert "none now" in error(project.setup("--plan", "plan.json", "--dry-run", check=4))


def test_dry_run_of_setup_exits_as_setup_does_for_a_small_disk(project: Project) -> None:
    small = ("--target-disk", "1kB")
    for more in ((), ("--format", "json")):
        ended = project.setup(*small, "--dry-run", *more, check=4)
        assert "the disk of the target is too small" in error(ended)
        assert "--accept-small-disk" in ended.stdout or json.loads(ended.stdout)["forecast"]["target_disk"]["missing"]
    project.setup(*small, "--dry-run", "--accept-small-disk")
    assert "setup refuses the run without --accept-small-disk" in " ".join(
        project.step("plan", *MAPPED, *small).stdout.split()
    )
    assert not databases_named(project)


def databases_named(project: Project) -> list[tuple[str]]:
    return project.source.rows(f"SELECT 1 FROM pg_database WHERE datname = '{project.target}'")


def test_a_plan_file_that_cannot_be_used_is_refused(project: Project) -> None:
    project.step("plan", *MAPPED, "--output", "plan.json")
    file = project.folder / "plan.json"
    document = json.loads(file.read_text())

    def refusal(text: str) -> str:
        file.write_text(text)
        return error(project.setup("--plan", "plan.json", check=2))

    assert "it is not JSON" in refusal("{")
    assert "it has no plan" in refusal("[]")
    document["tables"][0]["where"] = "true"
    assert "its hash is not that of its plan" in refusal(json.dumps(document))
    document["tables"][0]["number"] = "one"
    assert "tables.0.number" in refusal(json.dumps(document))
    assert "absent.json cannot be read" in error(project.setup("--plan", "absent.json", check=2))
    for output in ("missing/plan.json", "db"):
        assert f"{output} cannot be written" in error(project.step("plan", *MAPPED, "--output", output, check=2))
    assert "omit one of the two" in error(
        project.step("plan", *MAPPED, "--output", "p.json", "--table", "tb_user", check=2)
    )


def test_history_prints_who_did_what_when(project: Project) -> None:
    assert "there is no database" in error(project.run("history", "--target", project.source.conninfo + "x", check=4))
    assert "has no run" in error(project.run("history", "--target", "prod", check=4))
    project.reach("verified")
    project.step("pause")
    role = project.new.value("SELECT session_user")
    (run,) = conforms(project.run("history", "--target", project.target, "--format", "json").stdout, "history")["runs"]
    assert (run["state"], run["source"], run["target"]) == ("verified", "prod", project.target)
    kinds = [event["kind"] for event in run["events"]]
    before_verify = ["created", "forecast recorded", "planned", "begin", "copied"]
    assert [k for k in kinds if k != "start"] == [*before_verify, "verify", "pause"]
    assert {event["role"] for event in run["events"]} == {role}
    assert all("@" in event["actor"] and event["at"][10] == "T" for event in run["events"])
    text = project.run("history", "--target", project.target).stdout
    wide = [line for line in text.splitlines() if len(line) > 80]
    assert [line for line in wide if len(max(line.split(), key=len)) < 64] == []  # a hash is not broken
    assert "begin (setup -> migrating)" in text
    assert f" as role {role}" in text
    # The server names the role, whatever an insert says.
    with project.new.connect() as connection:
        forged = "INSERT INTO confiture.event (run_id, epoch, kind, actor, role) SELECT id, 1, 'x', 'y', 'boss'"
        connection.execute(f"{forged} FROM confiture.run")
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            connection.execute("UPDATE confiture.event SET role = 'boss'")
    assert project.new.value("SELECT role FROM confiture.event WHERE kind = 'x'") == role
    # The next run begins another history.
    project.step("resume")
    project.step("abort", "--yes")
    project.setup()
    (run,) = json.loads(project.run("history", "--target", project.target, "--format", "json").stdout)["runs"]
    assert run["events"][0]["kind"] == "created"
    both = json.loads(project.run("history", "--target", project.target, "--all", "--format", "json").stdout)["runs"]
    assert [each["state"] for each in both] == ["aborted", "setup"]
