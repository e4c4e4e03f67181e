"""A status report without a database: a run whose copy was killed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from confiture.journal.model import TablePhase
from confiture.status.facts import ProgressReport, RunnerReport, RunReport, Severity, TableReport

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TABLE = TableReport("public.a", "public.b", TablePhase.COPYING, "copy", 5, 9, True, "id=5", 1, 0, None, 0, 0)
RUN = RunReport(
    "0123abcd", "prod", "prod_new", "migrating", NOW, NOW - timedelta(seconds=40), "source",
    {"served_by": "source", "phase": None, "since": None, "staleness_seconds": None, "max_staleness_seconds": None,
     "not_kept": []}, None, None, None,
    Severity.CRITICAL, ("the runner is dead",),
    RunnerReport("ops", 1, "1", "migrate", NOW, 90.0, alive=False, ended=False),
    0, None, ProgressReport(5, 9, True, 55.0, None, None),
    {"active": False, "reason": None, "since": None, "limits": {}}, None, (TABLE,), (),
    {"captured": True, "passes": 3, "applied": 0, "backlog": 0, "oldest_seconds": 0.0, "measured_seconds": 300.0},
    {"waiting_for_us": 1, "we_wait": 0},
    {"status": "not run", "checked_at": None, "stale": False, "differences": 0, "rows_compared": 0,
     "rows_to_compare": 0, "last_complete_at": None,
     "last_complete_seconds": None},
    {"possible": False, "why": "", "command": None}, (), (), "safe", "abort",
    {"action": "continue", "command": "confiture migrate schema-to-schema migrate --target prod_new",
     "alternatives": [], "hint": None},
    {"host": "db", "port": 5432, "database": "app_new", "version": "17.1"},
    {"host": "old", "port": 5432, "database": "app", "version": "14"},
    {"required": False, "role": None, "at": None, "void": None},
)  # fmt: skip
