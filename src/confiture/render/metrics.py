"""The status report as metrics, in the exposition of prometheus-client. ``docs/metrics.md`` describes each metric.

A label names a run, a table, a standby, or the database of migrations. A state is a StateSet and never a label of
another metric: a change of state starts no new series. A value that is not known has no sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from confiture.copy.throttle import REASONS, kind_of
from confiture.journal.model import TablePhase
from confiture.render.media_metrics import OF_MIGRATIONS, OF_SYNC
from confiture.render.metric_kinds import Number, State, Subjects
from confiture.states import FINAL, STATES, Served
from confiture.status.facts import (
    PauseReport,
    ReplicaReport,
    Report,
    RunReport,
    Severity,
    TableReport,
    VerificationStatus,
)
from confiture.status.severity import QUIET_PHASES
from confiture.types import visible

if TYPE_CHECKING:
    from confiture.status.media import SyncRunReport

#: A move or a sync.
AnyRun: TypeAlias = "RunReport | SyncRunReport"

_RUN = ("run", "source", "target")
_TABLE = (*_RUN, "table")
_REPLICA = (*_RUN, "standby")
_MIGRATIONS = ("target",)
_SEVERITIES = tuple(severity.name for severity in Severity)
_RUNNER = ("none", "alive", "ended", "dead")


def exposition(report: Report, *, text: bool = False) -> str:
    """Every metric of the report, with a newline at the end.

    :param text: in Prometheus' text format, as the textfile collector reads it; else in OpenMetrics.
    """
    families = tuple(_families(report))
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    printed = (generate_latest if text else generate_openmetrics)(registry).decode()
    return _with_exact_integers(printed, families)


class _Collected(Collector):
    """Metrics that are computed already."""

    def __init__(self, families: tuple[Metric, ...]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _with_exact_integers(printed: str, families: Iterable[Metric]) -> str:
    """The exposition with each integer in full; the library prints every value as a float with an exponent."""
    values = (sample.value for family in families for sample in family.samples)
    lines = printed.split("\n")
    places = [place for place, line in enumerate(lines) if line and not line.startswith("#")]
    for place, value in zip(places, values, strict=True):
        if isinstance(value, int):
            lines[place] = f"{lines[place].rpartition(' ')[0]} {value:d}"
    return "\n".join(lines)


def _families(report: Report) -> Iterator[Metric]:
    whole = (((), report),)
    runs = tuple((_labels(run), run) for run in report.runs)
    syncs = tuple((_labels(sync), sync) for sync in report.newest_syncs)
    migrations = tuple(((visible(one.target),), one) for one in report.migrations)
    any_runs: Subjects[AnyRun] = (*runs, *syncs)
    tables = tuple(((*labels, visible(table.target)), table) for labels, run in any_runs for table in run.tables)
    replicas = tuple(((*labels, visible(one["name"])), one) for labels, run in runs for one in run.replicas)
    yield from (metric.family((), whole) for metric in _OF_REPORT)
    yield from (metric.family(_RUN, any_runs) for metric in _OF_ANY_RUN)
    yield from (metric.family(_RUN, runs) for metric in _OF_RUN)
    yield from (metric.family(_RUN, syncs) for metric in OF_SYNC)
    yield from (metric.family(_MIGRATIONS, migrations) for metric in OF_MIGRATIONS)
    yield from (metric.family(_TABLE, tables) for metric in _OF_TABLE)
    yield from (metric.family(_REPLICA, replicas) for metric in _OF_REPLICA)


def _labels(run: AnyRun) -> tuple[str, str, str]:
    return run.id, visible(run.source), visible(run.target)


def _runner(run: AnyRun) -> str:
    if run.runner.host is None:
        return "none"
    return "alive" if run.runner.alive else "ended" if run.runner.ended else "dead"


def _heartbeat_age(run: AnyRun) -> float | None:
    """None when no command holds the run, or when the run is over."""
    return None if run.runner.ended or run.state in FINAL else run.runner.silent_seconds


def _eta(run: AnyRun) -> float | None:
    return _seconds(run.progress.eta)


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _rehearsal(run: RunReport) -> PauseReport | None:
    """The last rehearsal; None when a cutover or rollback followed it."""
    done = run.write_pause is not None and run.rehearsal is not None and run.rehearsal["at"] < run.write_pause["at"]
    return None if done else run.rehearsal


def _switching(run: RunReport) -> int:
    return int(run.state not in FINAL and run.cutover_phase not in QUIET_PHASES)


_OF_REPORT: tuple[Number[Report] | State[Report], ...] = (
    State(
        "confiture_report_severity",
        "The highest severity of all runs and targets",
        _SEVERITIES,
        lambda report: report.severity.name,
    ),
    Number(
        "confiture_report_timestamp_seconds",
        "When the report was read",
        lambda report: _seconds(report.generated_at),
    ),
    Number("confiture_unknown_targets", "Targets that could not be read", lambda report: len(report.unknown)),
)

#: Of a move and of a sync.
_OF_ANY_RUN: tuple[Number[AnyRun] | State[AnyRun], ...] = (
    State("confiture_severity", "The severity of the run", _SEVERITIES, lambda run: Severity(run.severity).name),
    State("confiture_run_state", "The last durable milestone of the run", STATES, lambda run: run.state),
    State("confiture_runner_state", "The command that held the run last", _RUNNER, _runner),
    State(
        "confiture_throttle_reason",
        "The kind of limit that slows the copy down",
        REASONS,
        lambda run: kind_of(run.throttle["reason"]),
    ),
    Number(
        "confiture_heartbeat_age_seconds", "Since the last heartbeat of a command that has not ended", _heartbeat_age
    ),
    Number("confiture_restarts", "Takeovers from a command that was dead", lambda run: run.restarts, counter=True),
    Number("confiture_rows_done", "Rows copied", lambda run: run.progress.rows_done),
    Number(
        "confiture_rows_expected",
        "Rows to copy in all, estimated until they are copied",
        lambda run: run.progress.rows_total,
    ),
    Number(
        "confiture_rows_per_second",
        "Rows copied a second, over the last ten minutes",
        lambda run: run.progress.rows_per_second,
    ),
    Number("confiture_eta_timestamp_seconds", "When the copy is expected to end", _eta),
    Number("confiture_throttled", "1 while a limit slows the copy down", lambda run: int(run.throttle["active"])),
    Number("confiture_paused", "1 while the run is to pause", lambda run: int(run.paused_since is not None)),
    Number("confiture_blocked", "1 while an error blocks the run", lambda run: int(run.blocked_reason is not None)),
    Number(
        "confiture_failed_chunks",
        "Chunks of which the copy failed",
        lambda run: sum(table.failed_chunks for table in run.tables),
    ),
    Number("confiture_sessions_blocked", "Sessions that the run blocks", lambda run: run.locks["waiting_for_us"]),
    Number("confiture_lock_waits", "Sessions of the run that wait for a lock", lambda run: run.locks["we_wait"]),
    Number("confiture_errors", "Errors of the last 24 hours", lambda run: len(run.errors)),
)

_OF_RUN: tuple[Number[RunReport] | State[RunReport], ...] = (
    State(
        "confiture_writes_served_by",
        "The database that serves the application's writes",
        get_args(Served),
        lambda run: run.writes_served_by,
    ),
    State(
        "confiture_reads_served_by",
        "The database that serves the application's reads",
        get_args(Served),
        lambda run: run.reads["served_by"],
    ),
    State(
        "confiture_verification_status",
        "The last verification",
        get_args(VerificationStatus),
        lambda run: run.verification["status"],
    ),
    Number("confiture_catchup_passes", "Passes of catch-up", lambda run: run.changes["passes"], counter=True),
    Number(
        "confiture_changes_applied_rows", "Rows of changes applied", lambda run: run.changes["applied"], counter=True
    ),
    Number(
        "confiture_backlog_rows", "Log rows that waited at the last measurement", lambda run: run.changes["backlog"]
    ),
    Number(
        "confiture_backlog_oldest_seconds",
        "The age of the oldest of them, then",
        lambda run: run.changes["oldest_seconds"],
    ),
    Number(
        "confiture_backlog_measured_age_seconds",
        "Since the backlog was measured",
        lambda run: run.changes["measured_seconds"],
    ),
    Number(
        "confiture_rows_compared",
        "Rows of the source that the last verification has compared",
        lambda run: run.verification["rows_compared"],
    ),
    Number(
        "confiture_rows_to_compare",
        "Rows that it has to compare, by the copy's count",
        lambda run: run.verification["rows_to_compare"],
    ),
    Number(
        "confiture_differences",
        "Differences that the last verification found",
        lambda run: run.verification["differences"],
    ),
    Number(
        "confiture_verification_stale",
        "1 when rows or the plan changed since the last verification",
        lambda run: int(run.verification["stale"]),
    ),
    Number(
        "confiture_complete_verification_age_seconds",
        "Since the last complete verification began",
        lambda run: run.verification["last_complete_seconds"],
    ),
    Number(
        "confiture_reads_staleness_seconds",
        "How far the target is behind while reads go there before the cutover",
        lambda run: run.reads["staleness_seconds"],
    ),
    Number(
        "confiture_reads_staleness_limit_seconds",
        "The --max-staleness of those reads",
        lambda run: run.reads["max_staleness_seconds"],
    ),
    Number(
        "confiture_forecast_ready_timestamp_seconds",
        "When the run is ready for its cutover, by the forecast of setup",
        lambda run: run.forecast and _seconds(run.forecast["ready_at"]),
    ),
    Number(
        "confiture_disk_expected_bytes",
        "Of the rows and indexes in the target in the end, by the forecast of setup",
        lambda run: run.disk and run.disk["expected"],
    ),
    Number(
        "confiture_disk_used_bytes",
        "The growth of the target since setup",
        lambda run: run.disk and run.disk["used"],
    ),
    Number(
        "confiture_disk_free_bytes",
        "Free on the disk of the target's server",
        lambda run: run.disk and run.disk["free"],
    ),
    Number(
        "confiture_disk_missing_bytes",
        "What the rest of the run needs beyond what is free",
        lambda run: run.disk and run.disk["missing"],
    ),
    Number(
        "confiture_disk_full_seconds",
        "Until the disk is full at the average growth so far",
        lambda run: run.disk and run.disk["full_in_seconds"],
    ),
    Number("confiture_switch_unfinished", "1 from the beginning to the end of a cutover or rollback", _switching),
    Number(
        "confiture_write_pause_seconds",
        "The write pause of the last cutover or rollback",
        lambda run: run.write_pause and run.write_pause["seconds"],
    ),
    Number(
        "confiture_rehearsed_pause_seconds",
        "The write pause that the last rehearsal expects, unless a cutover or rollback followed",
        lambda run: (expected := _rehearsal(run)) and expected["seconds"],
    ),
    Number(
        "confiture_rehearsed_pause_limit_seconds",
        "The --max-write-pause of that rehearsal",
        lambda run: (expected := _rehearsal(run)) and expected["limit"],
    ),
    Number(
        "confiture_rehearsal_passed",
        "1 when that rehearsal found nothing that would abort a switch",
        lambda run: (expected := _rehearsal(run)) and int(expected["problem"] is None),
    ),
)

_OF_TABLE: tuple[Number[TableReport] | State[TableReport], ...] = (
    State("confiture_table_phase", "The phase of the table", tuple(TablePhase), lambda table: table.phase),
    Number("confiture_table_rows_done", "Rows of the table copied", lambda table: table.rows_done),
    Number(
        "confiture_table_rows_expected",
        "Rows of the table to copy in all, estimated until they are copied",
        lambda table: table.rows_total,
    ),
    Number(
        "confiture_table_failed_chunks",
        "Chunks of the table of which the copy failed",
        lambda table: table.failed_chunks,
    ),
    Number(
        "confiture_table_rows_per_second",
        "Rows of the table copied a second, over the last ten minutes",
        lambda table: table.rows_per_second,
    ),
    Number(
        "confiture_table_eta_timestamp_seconds",
        "When the copy of the table is expected to end",
        lambda table: _seconds(table.eta),
    ),
    Number(
        "confiture_table_rows_compared",
        "Rows of the source that the last verification has compared",
        lambda table: table.rows_compared,
    ),
    Number(
        "confiture_table_differences",
        "Differences that the last verification found",
        lambda table: table.differences,
    ),
)

_OF_REPLICA: tuple[Number[ReplicaReport], ...] = (
    Number(
        "confiture_replica_lag_seconds",
        "How far a standby of the target's server is behind",
        lambda replica: replica["lag_seconds"],
    ),
)
