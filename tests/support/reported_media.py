"""Status reports about migrations and a sync without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from confiture.copy.throttle import from_json
from confiture.journal.model import TablePhase
from confiture.naming import Naming
from confiture.status.facts import ProgressReport, RunnerReport, ServerReport, Severity, SourceReport, TableReport
from confiture.status.media import (
    AppliedReport,
    LeakReport,
    MigrationsReport,
    MigrationsRun,
    PendingReport,
    ProofReport,
    SyncRunReport,
    UnfinishedReport,
)
from confiture.status.media_severity import (
    MigrationFacts,
    SyncFacts,
    judge_migrations,
    judge_sync,
    leave_migrations,
    leave_sync,
    next_of_migrations,
    next_of_sync,
    undo_migrations,
    undo_sync,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AGO = NOW - timedelta(minutes=3)
ALIVE = RunnerReport("ops", 1, "1", "migrate up", NOW, 4.0, alive=True, ended=False)
DEAD = replace(ALIVE, alive=False, silent_seconds=90.0, absent_seconds=90.0)
ENDED = replace(ALIVE, alive=False, ended=True, ended_at=AGO, ended_why="finished", absent_seconds=180.0)
SERVER: ServerReport = {"host": "db", "port": 5432, "database": "app", "version": "18.1"}
SOURCE: SourceReport = {"host": "old", "port": 5432, "database": "prod", "version": "17"}
LOCAL = Naming("local")

RUN = MigrationsRun("fedcba98", "cleaned", AGO, AGO, ENDED, 0, None, None, {"waiting_for_us": 0, "we_wait": 0}, (), ())
FIRST: PendingReport = {"version": 20260101110000, "name": "add_email", "out_of_order": False}
SECOND: PendingReport = {"version": 20260101113000, "name": "index_email", "out_of_order": False}
APPLIED: AppliedReport = {
    "version": 20260101100000, "name": "create", "at": AGO, "actor": "ada@ops[1]", "role": "app", "seconds": 0.2,
    "out_of_order": False, "baseline": False,
}  # fmt: skip
UNFINISHED: UnfinishedReport = {
    "version": 20260101110000, "name": "add_email", "direction": "up", "statements_done": 2, "statements": 5,
    "began_at": AGO,
}  # fmt: skip
FACTS = MigrationFacts(1, "20260101100000_create", (), (), (), (), None, RUN)


def migrations(**given: object) -> MigrationsReport:
    """A report about migrations with these facts."""
    facts = replace(FACTS, **given)  # type: ignore[arg-type]
    severity, reasons = judge_migrations(facts)
    return MigrationsReport(
        "local", severity, reasons, facts.state, facts.applied, (APPLIED,) if facts.applied else (),
        None if facts.pending is None else "/app/db/migrations", facts.files_problem, facts.pending, facts.unfinished,
        facts.edited, facts.missing, facts.run, leave_migrations(facts), undo_migrations(facts),
        next_of_migrations(facts, LOCAL), SERVER,
    )  # fmt: skip


TABLE = TableReport("public.a", "public.a", TablePhase.COPYING, "copy", 50, 100, True, "id=5", 1, 0, None, 0, 0)
LEAK: LeakReport = {
    "table": "public.customer", "column": "email", "rule": "email", "values": 50, "found": 0, "limit": 1.0,
    "leaks": False,
}  # fmt: skip
PROVED: ProofReport = {"at": AGO, "passed": True, "columns": [LEAK]}
LEAKING: ProofReport = {"at": AGO, "passed": False, "columns": [{**LEAK, "found": 9, "leaks": True}]}
COMMAND = "confiture sync --to local --from prod --sample 10"
ABORT = "confiture sync --to local --abort"
OF_SYNC = SyncFacts(
    "migrating", None, ALIVE, (TABLE,), None, (0.0, None), (), None, COMMAND, f"{COMMAND} --replace", ABORT
)


def sync(**given: object) -> SyncRunReport:
    """A report about a sync with these facts."""
    facts = replace(OF_SYNC, **given)  # type: ignore[arg-type]
    severity, reasons = judge_sync(facts)
    over = facts.state == "cleaned"
    return SyncRunReport(
        "4567cdef", "prod", "local", facts.state, AGO, AGO - timedelta(minutes=5), "ada@ops[1]", facts.blocked,
        Severity(severity), reasons, facts.runner, 0, None, ProgressReport(50, 100, True, 50.0, None, None),
        {"active": False, "reason": None, "since": None, "limits": from_json({}).as_json()}, None, facts.tables, (),
        {"waiting_for_us": 0, "we_wait": 0}, facts.blocking, (), False, ("--sample 10",),
        ({"table": "public.customer", "column": "email", "rule": "email", "why": "mask.yaml:2:3"},), 3,
        100 if over else None, facts.proof, {"checked": 2, "violations": 0} if over else None,
        leave_sync(facts), undo_sync(facts), next_of_sync(facts, LOCAL), SERVER, SOURCE,
    )  # fmt: skip


#: A sync that is complete.
DONE = sync(state="cleaned", runner=ENDED, proof=PROVED)
