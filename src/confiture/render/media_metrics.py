"""The metrics of migrations and of syncs that a move does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confiture.render.metric_kinds import Number, State
from confiture.status.facts import Severity

if TYPE_CHECKING:
    from confiture.status.media import MigrationsReport, SyncRunReport

STATES_OF_MIGRATIONS = ("applied", "pending", "running", "interrupted", "unfinished")
RUNNERS = ("alive", "ended", "dead", "none")


def _runner(one: MigrationsReport) -> str:
    runner = one.run.runner
    return "none" if runner.host is None else "alive" if runner.alive else "ended" if runner.ended else "dead"


def _heartbeat(one: MigrationsReport) -> float | None:
    return None if one.run.runner.ended or not one.live else one.run.runner.silent_seconds


OF_MIGRATIONS: tuple[Number[MigrationsReport] | State[MigrationsReport], ...] = (
    State(
        "confiture_migrations_severity",
        "The severity of the migrations of a database",
        tuple(severity.name for severity in Severity),
        lambda one: Severity(one.severity).name,
    ),
    State("confiture_migrations_state", "The state of the migrations", STATES_OF_MIGRATIONS, lambda one: one.state),
    State("confiture_migrations_runner_state", "The last command that ran migrations", RUNNERS, _runner),
    Number(
        "confiture_migrations_heartbeat_age_seconds",
        "Since the last heartbeat of a command that has not ended",
        _heartbeat,
    ),
    Number("confiture_migrations_applied", "Migrations that are applied", lambda one: one.applied),
    Number(
        "confiture_migrations_pending",
        "Migrations that have a file and are not applied",
        lambda one: None if one.pending is None else len(one.pending),
    ),
    Number(
        "confiture_migrations_unfinished",
        "Migrations of which some statements are done and not all",
        lambda one: len(one.unfinished),
    ),
    Number(
        "confiture_migrations_changed_files",
        "Applied migrations whose file was edited or is missing",
        lambda one: len(one.edited) + len(one.missing),
    ),
    Number(
        "confiture_migrations_blocking_sessions",
        "Sessions that a running migration waits for",
        lambda one: len(one.run.blocking),
    ),
    Number(
        "confiture_migrations_last_applied_timestamp_seconds",
        "When a migration was applied last",
        lambda one: int(one.recent[0]["at"].timestamp()) if one.recent else None,
    ),
)

OF_SYNC: tuple[Number[SyncRunReport] | State[SyncRunReport], ...] = (
    Number(
        "confiture_sync_ended_timestamp_seconds",
        "When the sync was complete",
        lambda sync: int(sync.state_since.timestamp()) if sync.done else None,
    ),
    Number(
        "confiture_sync_masked_columns",
        "Columns that a rule masks",
        lambda sync: None if sync.masked is None else len(sync.masked),
    ),
    Number(
        "confiture_sync_leaking_columns",
        "Masked columns with more values of the source than chance explains",
        lambda sync: None if sync.proof is None else sum(column["leaks"] for column in sync.proof["columns"]),
    ),
    Number(
        "confiture_sync_foreign_keys_violated",
        "Rows of the result without a parent",
        lambda sync: None if sync.foreign_keys is None else sync.foreign_keys["violations"],
    ),
)
