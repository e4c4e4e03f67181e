"""``confiture status``: the text for on-call engineers, and the exit codes for monitoring."""

from __future__ import annotations

import json
import shlex
import signal
from importlib import resources
from pathlib import Path

import jsonschema
import psycopg
import pytest

from confiture import commands
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.errors import CannotConnect
from confiture.postgres import retry
from confiture.render import lines
from confiture.render import status as render
from confiture.render.metrics import exposition
from confiture.status.facts import Report, RunReport, Severity
from confiture.status.report import report
from conftest import Confiture
from forked import Forks
from imported import modules_of, of_confiture
from live import LiveRun, Quiet
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE item (id int PRIMARY KEY, name text);
INSERT INTO item SELECT n, 'n' || n FROM generate_series(1, 90) n;
"""
NEW = "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL UNIQUE);"


#: Modules of Confiture that a report needs.
MODULES = 60


class Move:
    """A run whose commands are executed in processes of their own."""

    def __init__(self, databases: Databases, folder: Path, confiture: Confiture) -> None:
        self.source = databases.cloned(OLD)
        self.target = TestDatabase(databases.server, f"{self.source.name}_new")
        databases.adopt(self.target.name)
        self.folder = folder
        self._confiture = confiture
        (folder / "db/schema").mkdir(parents=True)
        (folder / "db/schema/new.sql").write_text(NEW)

    def step(self, name: str, *more: str, check: int | None = 0, failpoint: str = "") -> None:
        env = {"CONFITURE_FAILPOINT": failpoint} if failpoint else None
        names = ["--target", self.target.conninfo, "--project", str(self.folder), *more]
        self._confiture("migrate", "schema-to-schema", name, *names, env=env, check=check)

    def setup(self, *more: str) -> None:
        self.step("setup", "--source", self.source.conninfo, "--chunk-rows", "10", *(more or ("--no-capture",)))

    def reach(self, state: str) -> None:
        """Bring a run with capture to this state."""
        (self.folder / "mapping.yaml").write_text("")
        self.setup("--mapping", str(self.folder / "mapping.yaml"))
        for name, after in (("migrate", "migrating"), ("verify", "verified"), ("cutover", "cutover")):
            if state == "setup":
                return
            self.step(name)
            if after == state:
                return

    def paste(self, command: str, folder: Path, check: int = 0) -> None:
        """Run a command that was printed, in a folder that is not the project."""
        name, *arguments = shlex.split(command)
        assert name == "confiture"
        folder.mkdir(exist_ok=True)
        self._confiture(*arguments, cwd=folder, check=check)

    def age(self, seconds: int) -> None:
        """Move the end and the last heartbeat of the last runner this many seconds into the past."""
        self.target.sql(
            f"UPDATE confiture.runner SET ended_at = ended_at - interval '{seconds} s',"
            f" heartbeat_at = heartbeat_at - interval '{seconds} s'"
        )

    def report(self) -> Report:
        return report(self.target.conninfo, self.folder)

    def run(self) -> RunReport:
        """The run, from a report that fits the schema and can be printed in every format."""
        found = self.report()
        jsonschema.validate(found.as_json(), schema())
        assert render.nagios(found).startswith(f"CONFITURE {found.severity.name} - ")
        assert render.text(found).startswith(f"{found.severity.name} ")
        assert f'confiture_report_severity{{confiture_report_severity="{found.severity.name}"}} 1\n' in exposition(
            found
        )
        return found.runs[0]


@pytest.fixture
def move(databases: Databases, tmp_path: Path, confiture: Confiture) -> Move:
    return Move(databases, tmp_path, confiture)


def schema() -> dict[str, object]:
    found: dict[str, object] = json.loads((resources.files("confiture") / "schemas/status.json").read_text())
    return found


def test_status_reports_each_state_with_the_next_command(move: Move) -> None:
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


@pytest.mark.parametrize("form", ["text", "json", "nagios", "openmetrics", "prometheus"])
def test_status_imports_neither_sqlalchemy_nor_the_planner(move: Move, form: str) -> None:
    move.reach("migrating")
    imported = modules_of("status", "--target", move.target.conninfo, "--format", form, "--all", code="0")
    assert imported & {"sqlalchemy", "transitions", "rich.console"} == set()
    assert ("prometheus_client" in imported) == (form in ("openmetrics", "prometheus"))
    layers = {name.split(".")[1] for name in of_confiture(imported) if "." in name}
    assert layers & {"build", "catalog", "compare", "ddl", "mapping", "plan", "runner"} == set()
    assert len(of_confiture(imported)) <= MODULES, of_confiture(imported)


def test_a_killed_runner_with_unfinished_work_is_critical_immediately(move: Move) -> None:
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


def test_a_row_that_the_target_refuses_is_critical_and_named(move: Move) -> None:
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
    assert (run.verification["rows_compared"], run.verification["rows_to_compare"]) == (90, 90)
    assert (run.tables[0].rows_compared, run.tables[0].differences) == (90, 1)


def test_a_named_database_without_a_journal_is_unknown(database: TestDatabase, tmp_path: Path) -> None:
    assert report(database.conninfo, tmp_path).severity is Severity.UNKNOWN


def test_a_journal_newer_than_the_tool_is_unknown_and_partly_reported(move: Move) -> None:
    move.setup()
    move.target.sql("INSERT INTO confiture.migration (version, name, tool_version) VALUES (999, 'later', '9')")
    found = move.report()
    assert found.severity is Severity.UNKNOWN
    run = move.run()
    assert (run.state, run.severity, run.writes_served_by) == ("setup", Severity.UNKNOWN, "unknown")
    assert (run.next["command"], run.rollback["possible"]) == (None, False)
    printed = render.text(found)
    assert printed.startswith("UNKNOWN the journal of")
    assert "OK" not in printed
    assert 'confiture_report_severity{confiture_report_severity="UNKNOWN"} 1\n' in exposition(found)
    assert "confiture_unknown_targets 1\n" in exposition(found)
    move.target.sql("ALTER TABLE confiture.run RENAME COLUMN state TO phase")
    assert move.report().severity is Severity.UNKNOWN


def test_status_writes_nothing_and_waits_for_no_lock(move: Move) -> None:
    move.setup()
    with psycopg.connect(move.target.conninfo) as holder:
        holder.execute("SELECT * FROM confiture.run FOR UPDATE")
        assert move.report().severity is Severity.OK
        holder.execute("LOCK TABLE confiture.run IN ACCESS EXCLUSIVE MODE")
        assert move.report().severity is Severity.UNKNOWN


def test_exit_codes_of_status_are_those_of_monitoring_plugins(move: Move, confiture: Confiture, tmp_path: Path) -> None:
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


def test_status_without_a_target_reports_every_environment(move: Move, confiture: Confiture) -> None:
    environments = move.folder / "db/environments"
    environments.mkdir()
    (environments / "old.yaml").write_text(f"database_url: {move.source.conninfo}\n")
    (environments / "new.yaml").write_text(f"database_url: {move.target.conninfo}\n")
    assert "no run" in confiture("status", cwd=move.folder, check=0).stdout
    move.setup()
    assert "SETUP" in confiture("status", cwd=move.folder, check=0).stdout


def test_a_copy_without_a_runner_has_no_rate_and_no_estimated_end(move: Move) -> None:
    move.setup()
    move.step("migrate", "--chunk-rows", "10", check=-9, failpoint="copy.before_commit:4")
    progress = move.report().runs[0].progress
    assert (progress.rows_per_second, progress.eta) == (None, None)


def test_status_asks_to_finish_an_interrupted_setup_first(move: Move) -> None:
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


def test_an_unknown_environment_is_reported_in_the_requested_format(tmp_path: Path, confiture: Confiture) -> None:
    printed = confiture("status", "--target", "nowhere", "--format", "json", check=3)
    jsonschema.validate(json.loads(printed.stdout), schema())
    assert "nowhere" in json.loads(printed.stdout)["unknown"][0]
    assert confiture("status", "--target", "nowhere", "--format", "openmetrics", check=3).stdout.endswith("# EOF\n")


# Unfinished switchovers ------------------------------------------------------------------------------

UNFINISHED = {
    "just closed": ("cutover", "switch.after_point_of_no_return"),
    "about to close": ("cutover", "switch.before_point_of_no_return"),
    "about to open": ("cutover", "switch.after_point_of_no_return", "switch.open.before_commit"),
    "rollback just closed": ("rollback", "switch.after_point_of_no_return"),
    "rollback about to close": ("rollback", "rollback.before_point_of_no_return"),
    "rollback just opened": ("rollback", "rollback.open.after_commit"),
}


@pytest.mark.parametrize("case", UNFINISHED)
def test_the_printed_command_finishes_an_unfinished_switchover(move: Move, tmp_path: Path, case: str) -> None:
    command, *failpoints = UNFINISHED[case]
    move.reach("cutover" if command == "rollback" else "verified")
    for failpoint in failpoints:
        move.step(command, check=-9, failpoint=failpoint)
    run = move.run()
    line = f"confiture migrate schema-to-schema {command} --target {shlex.quote(move.target.conninfo)}"
    assert run.severity == Severity.CRITICAL
    # Before the rollback closes the target, status reads from the target itself that it is open.
    assert run.writes_served_by == ("target" if case == "rollback about to close" else "unknown")
    assert run.leave_alone == f"not safe to leave: finish it now: {line}"
    assert run.undo == f"none until the {command} is finished"
    assert (run.next["command"], run.next["alternatives"]) == (line, [])
    assert not run.rollback["possible"]
    printed = render.text(move.report())
    assert "Leave alone: not safe to leave: finish it now" in printed
    assert printed.count("confiture migrate") == printed.count(line) == 1
    move.paste(line, tmp_path / "elsewhere")
    after = move.run()
    assert (after.severity, after.writes_served_by) == (
        Severity.OK,
        "source" if command == "rollback" else "target",
    )


def test_after_the_opening_status_asks_to_finish_the_cutover(move: Move) -> None:
    move.reach("verified")
    move.step("cutover", check=-9, failpoint="switch.after_open_commit")
    run = move.run()
    assert (run.severity, run.writes_served_by) == (Severity.CRITICAL, "target")
    assert "schema-to-schema cutover " in run.next["command"]
    assert run.leave_alone == "safe for the data: the target takes writes"


# A command that ended with unfinished work -------------------------------------------------------------


def assert_work_left(move: Move, error: str) -> None:
    """The report shows the error, as a warning now and as critical after the lease."""
    run = move.run()
    assert run.severity == Severity.WARNING
    assert error in " ".join(run.reasons)
    assert error in " ".join(e["text"] for e in run.errors)
    assert error in render.text(move.report()).replace("\n        ", " ")
    move.age(31)
    assert move.run().severity == Severity.CRITICAL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_status_reports_unfinished_work_after_a_signal(
    move: Move, forks: Forks, tmp_path: Path, number: signal.Signals
) -> None:
    move.setup()
    move.step("pause")
    line = ["migrate", "schema-to-schema", "migrate", "--target", move.target.conninfo, "--project", str(move.folder)]
    running = forks.start(line, move.folder)
    running.until_said("paused on request")
    assert move.run().next["command"].split()[3] == "resume"
    running.signal(number)
    assert running.wait().code == 128 + number
    # The run is paused and no command is running: status prints both commands in their order.
    run = move.run()
    commands = [run.next["command"], *(a["command"] for a in run.next["alternatives"])]
    assert [c.split()[3] for c in commands] == ["resume", "migrate"]
    assert_work_left(move, f": stopped by {number.name}")
    for command in commands:
        move.paste(command, tmp_path / "elsewhere")
    assert move.run().severity == Severity.OK


def test_status_reports_unfinished_work_after_the_source_stops(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(retry.retry.__kwdefaults__ or {}, "deadline", 1.0)
    move.setup()
    server = move.source.server

    class Stopping(Quiet):
        def table(self, name: str, done: int, total: int, phase: str) -> None:
            with psycopg.connect(server.conninfo("postgres"), autocommit=True) as admin:
                admin.execute(f'ALTER DATABASE "{move.source.name}" ALLOW_CONNECTIONS false'.encode())
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (move.source.name,)
                )

    where = Endpoints(move.target.conninfo, None, move.folder)
    with pytest.raises(CannotConnect):
        commands.migrate.execute(where, RunOptions(strategy="copy"), Stopping())
    assert_work_left(move, "connect")


def test_unfinished_work_of_a_killed_runner_is_critical_even_if_paused(move: Move) -> None:
    move.setup()
    move.step("migrate", "--chunk-rows", "10", check=-9, failpoint="copy.before_commit:4")
    move.step("pause")
    run = move.run()
    assert run.severity == Severity.CRITICAL
    assert [run.next["command"].split()[3], run.next["alternatives"][0]["command"].split()[3]] == ["resume", "migrate"]


def test_a_killed_verification_is_interrupted(move: Move) -> None:
    move.reach("migrating")
    move.step("verify", check=-9, failpoint="verify.before_commit")
    run = move.run()
    assert run.verification["status"] == "interrupted"
    assert run.verification["rows_compared"] < run.verification["rows_to_compare"] == 90
    assert "Verify  interrupted, 0.0 % of the rows compared" in render.text(move.report())
    assert run.severity == Severity.CRITICAL
    assert "schema-to-schema verify " in run.next["command"]


def test_a_log_that_no_command_applies_is_a_warning_after_an_hour(move: Move) -> None:
    move.reach("verified")
    assert move.run().severity == Severity.OK
    move.target.sql("UPDATE confiture.catchup SET at = at - interval '61 min'")
    run = move.run()
    assert run.severity == Severity.WARNING
    assert "no command has applied changes for 1 hour and 1 minute" in run.reasons[0]
    move.step("follow", "--once")
    assert move.run().severity == Severity.OK


# Refused commands -------------------------------------------------------------------------------------

CHANGES = {
    "rewritten": "VACUUM FULL item",
    "another column": "ALTER TABLE item ADD COLUMN more int",
    "capture disabled": "ALTER TABLE item DISABLE TRIGGER ALL",
}


@pytest.mark.parametrize("command", ["follow", "cutover"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_reason_of_a_refused_command_is_critical_until_resolved(
    move: Move, tmp_path: Path, change: str, command: str
) -> None:
    move.reach("verified")
    move.source.sql(CHANGES[change])
    more = ["--once"] if command == "follow" else []
    move.step(command, *more, check=4)
    run = move.run()
    assert run.severity == Severity.CRITICAL
    assert "item" in (run.blocked_reason or "")
    assert f"blocked: {run.blocked_reason}" in run.reasons
    assert [e["kind"] for e in run.errors] == ["blocked"]
    printed = render.text(move.report())
    assert printed.startswith("CRITICAL")
    assert run.next["command"] in printed
    assert "--restart-table public.item" in run.next["command"]


def test_the_printed_command_unblocks_the_run(move: Move, tmp_path: Path) -> None:
    move.reach("verified")
    move.source.sql("VACUUM FULL item")
    move.step("follow", "--once", check=4)
    move.paste(move.run().next["command"], tmp_path / "elsewhere")
    run = move.run()
    assert (run.reasons, run.blocked_reason) == (("the verification is stale",), None)
    assert "schema-to-schema verify " in run.next["command"]
    move.paste(run.next["command"], tmp_path / "elsewhere")
    assert move.run().severity == Severity.OK


def test_a_refused_cutover_shows_that_the_source_was_restarted(move: Move, tmp_path: Path) -> None:
    """Status does not connect to the source, and would print the cutover that was refused as the next command."""
    move.reach("verified")
    move.target.sql("""UPDATE confiture.verification SET servers = jsonb_set(servers, '{source}', '"before"')""")
    assert move.run().reasons == ()
    move.step("cutover", check=4)
    run = move.run()
    assert run.reasons == ("the verification is stale",)
    move.paste(run.next["command"], tmp_path / "elsewhere")
    assert move.run().severity == Severity.OK


def test_a_reverted_change_blocks_until_a_command_has_checked(move: Move) -> None:
    move.reach("verified")
    move.source.sql("ALTER TABLE item ADD COLUMN more int")
    move.step("follow", "--once", check=4)
    move.step("migrate")  # has nothing to do, and checks nothing
    assert move.run().severity == Severity.CRITICAL
    line = f"confiture migrate schema-to-schema migrate --target {shlex.quote(move.target.conninfo)}"
    assert move.run().next["command"] == f"{line} --restart-table public.item"


def test_a_command_out_of_order_does_not_block_the_run(move: Move) -> None:
    move.setup()
    move.step("cutover", check=4)
    assert (move.run().severity, move.run().blocked_reason) == (Severity.OK, None)


# Rollback ---------------------------------------------------------------------------------------------


def test_status_reports_a_rollback_until_the_next_cutover(move: Move, tmp_path: Path) -> None:
    move.reach("cutover")
    run = move.run()
    commands = [run.next["command"], *(a["command"] for a in run.next["alternatives"])]
    assert [c.split()[3] for c in commands] == ["cleanup", "follow", "rollback"]
    assert run.rolled_back_at is None
    assert run.undo.startswith("rollback")
    assert run.changes["passes"] is not None
    assert run.changes["passes"] > 0
    assert (run.rehearsal, run.write_pause is not None and run.write_pause["command"]) == (None, "cutover")
    move.paste(commands[2], tmp_path / "elsewhere")
    for step in ("verify", "cutover"):
        run = move.run()
        assert run.rolled_back_at is not None
        assert (run.severity, run.writes_served_by) == (Severity.OK, "source")
        assert f"schema-to-schema {step} " in run.next["command"]
        printed = render.text(move.report())
        assert "rolled back at" in printed.splitlines()[0] + printed.splitlines()[1]
        assert "100.0 %" not in printed.splitlines()[0]
        move.step(step)
    assert move.run().rolled_back_at is None


def test_with_capture_the_printed_command_repairs_differences(move: Move, tmp_path: Path) -> None:
    move.reach("migrating")
    move.target.as_the_run("UPDATE item SET name = 'other' WHERE id = 3")
    move.step("verify", check=7)
    run = move.run()
    assert "verify --target" in run.next["command"]
    assert "--repair" in run.next["command"]
    move.paste(run.next["command"], tmp_path / "elsewhere")
    assert move.run().severity == Severity.OK


def test_without_capture_the_printed_command_copies_differences_again(move: Move, tmp_path: Path) -> None:
    move.setup()
    move.step("migrate")
    move.target.sql("UPDATE item SET name = 'other' WHERE id = 3")
    move.step("verify", check=7)
    command = move.run().next["command"]
    assert "--restart-table public.item" in command
    move.paste(command, tmp_path / "elsewhere")
    move.step("verify")
    assert move.run().severity == Severity.OK


# Names ------------------------------------------------------------------------------------------------


def test_printed_commands_repeat_the_given_target_and_project(move: Move, confiture: Confiture, tmp_path: Path) -> None:
    environments = move.folder / "db/environments"
    environments.mkdir()
    (environments / "new.yaml").write_text(f"database_url: {move.target.conninfo}\n")
    move.setup()
    uri = shlex.quote(move.target.conninfo)
    ways = {
        f"--target {uri}": ("--target", move.target.conninfo),
        f"--target new --project {shlex.quote(str(move.folder))}": ("--project", str(move.folder)),
        f"--target {uri} --project .": ("--target", move.target.conninfo, "--project", "."),
    }
    for wanted, given in ways.items():
        printed = json.loads(confiture("status", *given, "--format", "json", check=0).stdout)
        assert printed["runs"][0]["next"]["command"] == f"confiture migrate schema-to-schema migrate {wanted}"
    again = confiture(
        "migrate", "schema-to-schema", "resume", "--target", "new", "--project", str(move.folder), check=0
    )
    assert f"confiture status --target new --project {move.folder}" in again.stdout


def test_every_line_except_commands_and_names_fits_a_terminal(move: Move) -> None:
    move.reach("verified")
    move.source.sql("VACUUM FULL item")
    move.step("follow", "--once", check=4)
    for line in render.text(move.report()).splitlines():
        assert len(line) <= lines.WIDTH or "confiture " in line or " -> " in line or "  Target  " in line, line


def test_a_killed_cutover_or_rollback_has_cleared_what_blocked_the_run(
    databases: Databases, tmp_path: Path, forks: Forks
) -> None:
    live = LiveRun(databases, tmp_path, "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE t (id bigint PRIMARY KEY)")
    live.up_to_cutover()
    for command, point in (("cutover", "switch.after_open_commit"), ("rollback", "rollback.state.after_commit")):
        live.target.sql("UPDATE confiture.run SET blocked_reason = 'a change', blocked_command = 'verify'")
        killed = forks.run(live.arguments(command), live.project, CONFITURE_FAILPOINT=point)
        assert killed.code == -signal.SIGKILL, killed.err
        assert live.target.value("SELECT blocked_reason FROM confiture.run") is None
        getattr(live, command)()
