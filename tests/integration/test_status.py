"""``confiture status``: what the on-call reads, and what monitoring exits with."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import psycopg
import pytest

from confiture.render import status as render
from confiture.status import Report, Severity, report
from conftest import Confiture
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE item (id int PRIMARY KEY, name text);
INSERT INTO item SELECT n, 'n' || n FROM generate_series(1, 90) n;
"""
NEW = "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL UNIQUE);"


class Move:
    """A run taken from command to command in processes of its own."""

    def __init__(self, databases: Databases, folder: Path, confiture: Confiture) -> None:
        self.source = databases.cloned(OLD)
        self.target = TestDatabase(databases.server, f"{self.source.name}_new")
        databases.forget(self.target.name)
        self.folder = folder
        self._confiture = confiture
        (folder / "db/schema").mkdir(parents=True)
        (folder / "db/schema/new.sql").write_text(NEW)

    def step(self, name: str, *more: str, check: int | None = 0, failpoint: str = "") -> None:
        env = {"CONFITURE_FAILPOINT": failpoint} if failpoint else None
        names = ["--target", self.target.conninfo, "--project", str(self.folder), *more]
        self._confiture("migrate", "schema-to-schema", name, *names, env=env, check=check)

    def setup(self) -> None:
        self.step("setup", "--source", self.source.conninfo, "--chunk-rows", "10", "--no-capture")

    def report(self) -> Report:
        return report(self.target.conninfo, self.folder)


@pytest.fixture
def move(databases: Databases, tmp_path: Path, confiture: Confiture) -> Move:
    return Move(databases, tmp_path, confiture)


def schema() -> dict[str, object]:
    found: dict[str, object] = json.loads((resources.files("confiture") / "schemas/status.json").read_text())
    return found


def test_each_state_is_told_with_the_next_command_and_fits_the_schema(move: Move) -> None:
    wanted = {"setup": "migrate", "migrate": "verify", "verify": "cutover", "cutover": "cleanup", "cleanup": None}
    for name, following in wanted.items():
        move.setup() if name == "setup" else move.step(name, *(["--yes"] if name == "cleanup" else []))
        found = move.report()
        jsonschema.validate(found.as_json(), schema())
        assert found.severity is Severity.OK, found.summary
        command = found.runs[0].next["command"]
        assert (command is None) == (following is None)
        assert following is None or f"schema-to-schema {following} " in command
        served = "target" if name in ("cutover", "cleanup") else "source"
        assert found.runs[0].writes_served_by == served
        assert f"({served})" in render.text(found)


def test_a_killed_runner_with_work_left_is_critical_at_once(move: Move) -> None:
    move.setup()
    move.step("migrate", "--chunk-rows", "10", check=-9, failpoint="copy.before_commit:4")
    found = move.report()
    run = found.runs[0]
    assert found.severity is Severity.CRITICAL
    assert "runner is dead" in run.reasons[0]
    assert (run.progress.rows_done, run.tables[0].phase) == (30, "copying")
    assert run.tables[0].checkpoint == "id=31"
    assert 0 < run.progress.percent < 100
    assert run.next["command"] == f"confiture migrate schema-to-schema migrate --target {run.target!r}" or (
        "schema-to-schema migrate " in run.next["command"]
    )
    assert "DEAD" in render.text(found)


def test_a_row_that_does_not_fit_is_critical_and_named(move: Move) -> None:
    move.source.sql("UPDATE item SET name = NULL WHERE id = 55")
    move.setup()
    move.step("migrate", check=5)
    run = move.report().runs[0]
    assert run.severity == Severity.CRITICAL
    assert run.tables[0].failed_chunks == 1
    assert any("id = 55" in reason for reason in run.reasons)
    assert run.errors


def test_differences_are_critical(move: Move) -> None:
    move.setup()
    move.step("migrate")
    move.target.sql("UPDATE item SET name = 'other' WHERE id = 3")
    move.step("verify", check=7)
    run = move.report().runs[0]
    assert run.severity == Severity.CRITICAL
    assert (run.verification["status"], run.verification["differences"]) == ("different", 1)


def test_a_database_without_a_journal_is_unknown_when_it_was_named(database: TestDatabase, tmp_path: Path) -> None:
    assert report(database.conninfo, tmp_path).severity is Severity.UNKNOWN


def test_a_journal_newer_than_the_tool_is_unknown_and_told_as_far_as_it_goes(move: Move) -> None:
    move.setup()
    move.target.sql("INSERT INTO confiture.migration (version, name, tool_version) VALUES (999, 'later', '9')")
    found = move.report()
    assert found.severity is Severity.UNKNOWN
    assert found.runs[0].state == "setup"
    move.target.sql("ALTER TABLE confiture.run RENAME COLUMN state TO phase")
    assert move.report().severity is Severity.UNKNOWN


def test_status_writes_nothing_and_waits_for_no_lock(move: Move) -> None:
    move.setup()
    with psycopg.connect(move.target.conninfo) as holder:
        holder.execute("SELECT * FROM confiture.run FOR UPDATE")
        assert move.report().severity is Severity.OK
        holder.execute("LOCK TABLE confiture.run IN ACCESS EXCLUSIVE MODE")
        assert move.report().severity is Severity.UNKNOWN


def test_the_command_exits_as_monitoring_expects(move: Move, confiture: Confiture, tmp_path: Path) -> None:
    confiture("status", "--no-such-option", check=3)
    confiture("status", "--target", "nowhere", check=3)
    confiture("status", "--target", "postgresql://postgres@127.0.0.1:1/x", check=3)
    move.setup()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = ("--target", move.target.conninfo)
    assert confiture("status", *target, cwd=elsewhere, check=0).stdout.startswith("OK ")
    line = confiture("status", *target, "--format", "nagios", check=0).stdout
    assert line.startswith("CONFITURE OK - ")
    assert len(line.splitlines()) == 1
    assert confiture("status", *target, "--format", "openmetrics", check=0).stdout.endswith("# EOF\n")
    jsonschema.validate(json.loads(confiture("status", *target, "--format", "json", check=0).stdout), schema())
    confiture("status", *target, "--wait", "setup", "--timeout", "5", check=0)
    confiture("status", *target, "--wait", "verified", "--timeout", "0", check=124)


def test_a_critical_run_exits_with_2(move: Move, confiture: Confiture) -> None:
    move.source.sql("UPDATE item SET name = NULL WHERE id = 55")
    move.setup()
    move.step("migrate", check=5)
    confiture("status", "--target", move.target.conninfo, check=2)


def test_without_a_target_every_environment_is_told(move: Move, confiture: Confiture) -> None:
    environments = move.folder / "db/environments"
    environments.mkdir()
    (environments / "old.yaml").write_text(f"database_url: {move.source.conninfo}\n")
    (environments / "new.yaml").write_text(f"database_url: {move.target.conninfo}\n")
    assert "no run" in confiture("status", cwd=move.folder, check=0).stdout
    move.setup()
    assert "SETUP" in confiture("status", cwd=move.folder, check=0).stdout


def test_a_copy_that_nobody_makes_has_no_rate_and_no_end(move: Move) -> None:
    move.setup()
    move.step("migrate", "--chunk-rows", "10", check=-9, failpoint="copy.before_commit:4")
    progress = move.report().runs[0].progress
    assert (progress.rows_per_second, progress.eta) == (None, None)


def test_a_setup_that_stopped_half_way_is_to_be_finished_first(move: Move) -> None:
    move.step("setup", "--source", move.source.conninfo, check=-9, failpoint="setup.after_commit:1")
    assert "schema-to-schema setup " in move.report().runs[0].next["command"]


def test_a_faulty_environment_does_not_hide_the_others(move: Move) -> None:
    environments = move.folder / "db/environments"
    environments.mkdir()
    (environments / "broken.yaml").write_text("nothing: here\n")
    (environments / "new.yaml").write_text(f"database_url: {move.target.conninfo}\n")
    move.setup()
    found = report(None, move.folder)
    assert found.severity is Severity.UNKNOWN
    assert "broken" in found.unknown[0]
    assert [run.state for run in found.runs] == ["setup"]


def test_an_unknown_environment_is_told_in_the_form_that_was_asked_for(tmp_path: Path, confiture: Confiture) -> None:
    told = confiture("status", "--target", "nowhere", "--format", "json", check=3)
    jsonschema.validate(json.loads(told.stdout), schema())
    assert "nowhere" in json.loads(told.stdout)["unknown"][0]
    assert confiture("status", "--target", "nowhere", "--format", "openmetrics", check=3).stdout.endswith("# EOF\n")


def test_labels_are_escaped() -> None:
    assert render._escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'
