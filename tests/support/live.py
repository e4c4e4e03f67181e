"""A run on databases that a test writes to during the run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg

from confiture import commands
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.plan.model import Plan
from confiture.schema_to_schema.outcomes import Limits, Result
from servers import Databases, TestDatabase

#: Every crash point that only a run with capture passes. The order is that in which a command passes them if it is
#: killed at each in turn.
LIVE_POINTS = {
    "setup": ("capture.before_commit:2", "capture.after_commit", "capture.installed", "close_target.before_commit"),
    "migrate": ("compact.before_commit",),
    "verify": ("repair.before_commit", "repair.noted.before_commit", "verify.hot_keys.before_commit"),
    "cutover": (
        "switch.phase.before_commit",
        "reverse.views.before_commit",
        "reverse.install.before_commit",
        "reverse.install.after_commit",
        "switch.block.before_commit",
        "switch.block_table.before_commit",
        "verify.equal_keys.before_commit",
        "catchup.before_target_commit",
        "catchup.after_target_commit",
        "catchup.before_source_commit",
        "catchup.after_source_commit",
        "cutover.locked",
        "switch.opening_prepared",
        "switch.before_point_of_no_return",
        # The prepared opening is lost with its session. The next command opens the target itself.
        "switch.after_point_of_no_return",
        "switch.open.before_commit",
        "switch.open.after_commit",
        "pause.measured.before_commit",
        "pause.measured.after_commit",
        "switch.key.before_commit",
        "reverse.key.before_commit",
        "reverse.recorded.before_commit",
    ),
    "rollback": (
        "switch.phase.before_commit:2",
        "rollback.opening_prepared",
        "rollback.before_point_of_no_return",
        "switch.after_point_of_no_return",
        "rollback.open.before_commit",
        "rollback.open.after_commit",
        "pause.measured.before_commit",
        "pause.measured.after_commit",
        "reverse.interim.before_commit",
        "rollback.relax.before_commit:2",
        "rollback.state.before_commit",
        "rollback.state.after_commit",
    ),
    "cleanup": (
        "release.table.before_commit:2",
        "capture.removed.before_commit",
        "drop_source.restored.before_commit",
    ),
}
#: Crash points at which the tests of one feature kill a command, each with the file of these tests.
POINTS_OF_THEIR_OWN = {
    **dict.fromkeys(
        (
            "migrations.begun",
            "baseline.before_commit",
            "state.abort.before_commit",
        ),
        "tests/integration/test_migrations.py",
    ),
    **dict.fromkeys(
        (
            "migration.begun.before_commit",
            "migration.finished.before_commit",
            "statement.before_commit",
            "statement.begun.before_commit",
            "statement.ran",
            "statement.done.before_commit",
            "statement.failed.before_commit",
            "statement.resolved.before_commit",
            "index.dropping",
        ),
        "tests/integration/test_migrations_by_statement.py",
    ),
    "migration.before_commit": "tests/acceptance/test_chinook_migrations.py",
    "migration.statement": "tests/integration/test_status_of_media.py",
    **dict.fromkeys(
        ("scratch.created", "scratch.server_started", "scratch.unmarked"), "tests/integration/test_build_check.py"
    ),
    **dict.fromkeys(
        (
            "begin.before_commit",
            "begin.after_commit",
            "sync.begun.before_commit",
            "references.done.before_commit",
            "proof.done.before_commit",
            "proof.emptied.before_commit",
            "finish.sequences.before_commit",
            "finish.before_commit",
            "finish.after_commit",
            "sync.again.before_commit",
            "sync.abort.before_commit",
        ),
        "tests/acceptance/test_sync_killed.py",
    ),
    "blockers.note.before_commit": "tests/integration/test_blockers.py",
    "blockers.ended.before_commit": "tests/integration/test_blockers.py",
    "pooler.phase.before_commit": "tests/acceptance/test_pgbouncer.py",
    "pooler.probe.before_commit": "tests/acceptance/test_pgbouncer.py",
    "pooler.paused": "tests/acceptance/test_pgbouncer.py",
    "pooler.rewritten": "tests/acceptance/test_pgbouncer.py",
    "pooler.reloaded": "tests/acceptance/test_pgbouncer.py",
    "pooler.resumed": "tests/acceptance/test_pgbouncer.py",
    "failed.before_commit": "tests/integration/test_notifications.py",
    "notification.claimed": "tests/integration/test_notifications.py",
    "notification.sent": "tests/integration/test_notifications.py",
    "upgrade.before_commit": "tests/integration/test_journal.py",
    "upgrade.after_commit": "tests/integration/test_journal.py",
    "reverse_verify.restored.before_commit": "tests/integration/test_reverse_verify.py",
    "reverse_verify.logged.before_commit": "tests/integration/test_reverse_verify.py",
    "reverse_verify.begun.before_commit": "tests/integration/test_reverse_verify.py",
    "reverse_verify.before_commit": "tests/integration/test_reverse_verify.py",
    "reverse_verify.ended.before_commit": "tests/integration/test_reverse_verify.py",
    "switch.after_open_commit": "tests/integration/test_status.py",
    "reverse.trigger.before_commit": "tests/acceptance/test_rollback.py",
    "catchup.helper.before_commit": "tests/integration/test_parallel_catchup.py",
    "catchup.helper.after_commit": "tests/integration/test_parallel_catchup.py",
    "signal.heard": "tests/integration/test_resume.py",
    "abort.open.before_commit": "tests/integration/test_restored.py",
    "rollback.reopen.before_commit": "tests/integration/test_restored.py",
    "rehearsed.before_commit": "tests/integration/test_rehearsal.py",
    "report.written": "tests/acceptance/test_kill.py",
    "copy.bad_row.before_commit": "tests/acceptance/test_kill.py",
    "blocked.before_commit": "tests/acceptance/test_kill.py",
    "unblocked.before_commit": "tests/acceptance/test_kill.py",
    "chunk.halved.before_commit": "tests/acceptance/test_kill.py",
    "chunk.shortened.before_commit": "tests/integration/test_throttle.py",
    "throttle.limits.before_commit": "tests/integration/test_throttle.py",
    "throttled.before_commit": "tests/integration/test_throttle.py",
    "round.begun.before_commit": "tests/integration/test_rounds.py",
    "round.part.before_commit": "tests/integration/test_rounds.py",
    "round.ended.before_commit": "tests/integration/test_rounds.py",
    "verify.reopened.before_commit": "tests/integration/test_rounds.py",
    "references.before_commit": "tests/integration/test_references.py",
    "references.after_commit": "tests/integration/test_references.py",
    "view.stale.before_commit": "tests/integration/test_materialized_views.py",
    **{
        f"reads.{point}": "tests/integration/test_reads.py"
        for point in (
            *("opening.before_commit", "redirecting", "open.before_commit"),
            *("closing.before_commit", "redirecting_back", "closed.before_commit"),
        )
    },
    **{
        f"large_objects.{point}.before_commit": "tests/integration/test_large_objects.py"
        for point in ("copied", "again", "claimed", "back", "back_recorded", "removed")
    },
}


@dataclass
class Quiet:
    """Progress that records its lines for the test."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        pass


class LiveRun:
    """The source and the target of one run, whose commands run within this process."""

    def __init__(
        self,
        databases: Databases,
        project: Path,
        old: str,
        new: str,
        mapping: str = "",
        *,
        apart: Databases | None = None,
        name: str | None = None,
        **choices: object,
    ) -> None:
        self.source: TestDatabase = databases.cloned(old, name)
        into = apart or databases
        self.target = TestDatabase(into.server, f"{self.source.name}_new")
        into.adopt(self.target.name)
        self.project = project
        (project / "db/schema/10").mkdir(parents=True)
        (project / "db/schema/10/new.sql").write_text(new)
        path = project / "mapping.yaml"
        path.write_text(mapping)
        self.choices = RunOptions(mapping=path, **choices)  # type: ignore[arg-type]
        self.where = Endpoints(self.target.conninfo, self.source.conninfo, project)
        self.progress = Quiet()

    def setup(self, **wanted: object) -> None:
        choices = self.chosen(capture=wanted.pop("capture", None))
        commands.setup.execute(self.where, choices, self.progress, **wanted)  # type: ignore[arg-type]

    def chosen(self, **choices: object) -> RunOptions:
        """The options of the run, with some of them replaced."""
        return replace(self.choices, **choices)  # type: ignore[arg-type]

    def plan(self, **choices: object) -> Plan:
        return commands.plan.make(self.where, self.chosen(**choices)).plan

    def migrate(self) -> None:
        commands.migrate.execute(self.where, self.choices, self.progress)

    def restart(self, table: str) -> None:
        """Copy a table again."""
        commands.migrate.execute(self.where, self.chosen(restart=(table,)), self.progress)

    def follow(self) -> int:
        return commands.follow.execute(self.where, True, self.progress)[1]

    def verify(self, *, repair: bool = False, jobs: int | None = None) -> Result:
        report = self.project / "differences.jsonl"
        return commands.verify.execute(self.where, report, True, self.progress, repair=repair, jobs=jobs)[1]

    def tamper(self, statements: str) -> None:
        """Change the target without the knowledge of the run, past the write block."""
        self.target.as_the_run(statements)

    def touch(self, table: str, key: int) -> None:
        """Record in the journal that a row changed since it was verified."""
        self.target.sql(
            f"INSERT INTO confiture.changed_key SELECT run_id, number, '[\"{key}\"]' FROM confiture.table_plan"
            f" WHERE target_table = '{table}'"
        )

    @property
    def pauses(self) -> list[tuple[object, ...]]:
        """The recorded write pauses: the command, and whether it was measured."""
        return self.target.rows(
            "SELECT detail ->> 'command', detail ->> 'complete' FROM confiture.event"
            " WHERE kind = 'write pause' ORDER BY id"
        )

    @property
    def state(self) -> str:
        return str(self.target.value("SELECT state FROM confiture.run ORDER BY started_at DESC LIMIT 1"))

    def arguments(self, step: str) -> list[str]:
        """The command line of a step."""
        more = {
            "setup": [
                *("--source", self.source.conninfo, "--mapping", str(self.choices.mapping)),
                *(("--chunk-rows", str(self.choices.chunk_rows)) if self.choices.chunk_rows else ()),
            ],
            "cleanup": ["--yes"],
            "abort": ["--yes"],
            "verify": ["--repair"],
            "cutover": ["--hook", "switch=true", "--no-rollback"],
        }
        target = ["--target", self.target.conninfo, "--project", str(self.project)]
        return ["migrate", "schema-to-schema", step, *target, *more.get(step, [])]

    def open_sides(self, write: str) -> set[str]:
        """The databases that accept the application's writes.

        :param write: a statement that is valid on both sides. It is rolled back.
        """
        found = set()
        for name, database in (("source", self.source), ("target", self.target)):
            try:
                with database.connect(autocommit=False) as probe:
                    probe.execute(write.encode())
                    probe.rollback()
                found.add(name)
            except psycopg.errors.ReadOnlySqlTransaction:
                continue
        return found

    def assert_same(self, **queries: str) -> None:
        """Assert that each target table holds exactly the rows that plain SQL selects on the source."""
        for table, query in queries.items():
            wanted = sorted(map(str, self.source.rows(query)))
            found = sorted(map(str, self.target.rows(f"SELECT * FROM {table}")))
            assert found == wanted, (
                f"{table}: only in target {set(found) - set(wanted)}, missing {set(wanted) - set(found)}"
            )

    def cutover(self, limits: Limits | None = None) -> None:
        commands.cutover.execute(self.where, limits or Limits(), self.project / "differences.jsonl", self.progress)

    def cleanup(self) -> None:
        commands.cleanup.execute(self.where, None, lambda: None, self.progress)

    def abort(self) -> None:
        commands.abort.execute(self.where, lambda: None, self.progress)

    def rollback(self, limits: Limits | None = None) -> None:
        commands.rollback.execute(self.where, limits or Limits(), self.progress)

    def up_to_cutover(self, **wanted: object) -> LiveRun:
        """Run the commands up to a verified run. Returns this object."""
        self.setup(**wanted)
        self.migrate()
        assert self.verify().equal
        return self

    def through(self) -> None:
        """Run the commands up to and including the cutover."""
        self.up_to_cutover()
        self.cutover()
