"""Read the report about the last run of a target for a change request: from the journal, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from uuid import UUID

from psycopg.rows import dict_row

from confiture import __version__, config
from confiture.errors import CannotConnect, Refused
from confiture.journal import approvals, viewed
from confiture.journal.approvals import Approval
from confiture.plan.model import Plan, TablePlan, plan_from_json
from confiture.postgres.session import Transaction
from confiture.states import SCHEMA_TO_SCHEMA, Medium
from confiture.status import comparisons, details_reader, report
from confiture.status.course import Course, TableBars, Work
from confiture.status.details import ComparedTable, Details, Event
from confiture.status.facts import Report, RunReport, VerificationReport
from confiture.status.sign_off import (
    DIFFERENCES_MOST,
    EVENTS_MOST,
    ForecastFacts,
    PlanFacts,
    Repair,
    SignOff,
    TableFacts,
    VerificationFacts,
)
from confiture.types import Json

#: The kinds of events whose text may quote a row: their texts of errors are hidden from viewers too.
QUOTING = tuple(kind for kind, hidden in viewed.EVENTS.items() if {"reason", "message"} & set(hidden))


@dataclass(frozen=True, slots=True)
class _Read:
    """The facts of one run that its status report does not have."""

    run: Json
    verification: int | None
    forecast: Json | None
    approval_required: bool
    approval: Approval | None
    repairs: tuple[Repair, ...]
    details: Details

    @property
    def course(self) -> Course:
        """The course of the run, which details without a problem have."""
        assert self.details.course is not None
        return self.details.course


def sign_off(target: str, project: Path, *, given_project: Path | None = None, show_values: bool = False) -> SignOff:
    """The report about the run that is not over, else about the last one.

    :param given_project: ``--project`` as it was given.
    :param show_values: read the values of rows that differ.
    :raises CannotConnect: when the target cannot be read.
    :raises Refused: when it has no run.
    """
    found: list[_Read] = []
    where = config.resolve(target, project).name

    def read(tx: Transaction, run: UUID, medium: Medium) -> None:
        if medium == SCHEMA_TO_SCHEMA:
            found.append(_read(tx, run, show_values))

    reported = report.report(target, project, given_project=given_project, beside=read)
    if not found:
        raise _nothing(where, reported.unknown[0] if reported.unknown else "its journal has no run of a move")
    if found[0].details.problem is not None:
        raise _nothing(where, found[0].details.problem)
    return _sign_off(reported, reported.runs[0], found[0])


def _nothing(where: str, why: str) -> CannotConnect | Refused:
    kind = CannotConnect if "cannot connect" in why else Refused
    return kind(f"there is no report about {where}", why=why, fix="see what status reports: confiture status")


def _rows(tx: Transaction, block: str, run: UUID) -> list[Json]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(viewed.statements(tx, "report.sql")[block], {"run": run}).fetchall()


def _read(tx: Transaction, run: UUID, show_values: bool) -> _Read:
    (row,) = _rows(tx, "run", run)
    numbers = _rows(tx, "verification", run)
    most = details_reader.Most(EVENTS_MOST, DIFFERENCES_MOST)
    return _Read(
        row,
        numbers[0]["number"] if numbers else None,
        next(iter(_rows(tx, "forecast", run)), None),
        approvals.is_required(tx, run),
        approvals.standing(tx, run),
        tuple(Repair(**repair) for repair in _rows(tx, "repairs", run)),
        details_reader.details(tx, run, show_values=show_values, most=most),
    )


def _sign_off(reported: Report, run: RunReport, read: _Read) -> SignOff:
    plan = None if read.run["plan"] is None else plan_from_json(read.run["plan"])
    return SignOff(
        schema_version=1,
        generated_at=reported.generated_at,
        version=__version__,
        run=run.id,
        run_version=read.run["tool_version"],
        source=run.source,
        target=run.target,
        source_server=run.source_server,
        target_server=run.server,
        state=run.state,
        state_since=run.state_since,
        started_at=run.started_at,
        writes_served_by=run.writes_served_by,
        severity=run.severity,
        problems=_problems(run, read.details.values_shown),
        plan=None if plan is None else _plan(plan, read.run),
        forecasts=() if read.forecast is None else _forecasts(read.forecast, read.course),
        states=read.course.states,
        approval_required=read.approval_required,
        approval=read.approval,
        pauses=read.course.pauses,
        tables=() if plan is None else _tables(plan, read),
        verification=_verification(run.verification, read),
        differences=read.details.differences,
        values_shown=read.details.values_shown,
        repairs=read.repairs,
        settings=comparisons.settings(),
        events=tuple(_event(e, read.details.values_shown) for e in reversed(read.details.events)),
    )


def _problems(run: RunReport, values_shown: bool) -> tuple[str, ...]:
    """The reasons of the severity. An error may quote a row."""
    quoting = run.blocked_reason is not None or any(t.failed_chunks for t in run.tables)
    return ("an error, whose text may contain values of rows",) if quoting and not values_shown else run.reasons


def _event(event: Event, values_shown: bool) -> Event:
    """An event; its text only if it cannot quote a row. That of a later version may."""
    quotes = event.kind in QUOTING or event.kind not in viewed.EVENTS
    return replace(event, text="") if quotes and not values_shown else event


def _plan(plan: Plan, run: Json) -> PlanFacts:
    mapping = run["mapping"]
    return PlanFacts(
        run["plan_hash"],
        None if mapping is None else config.redact(mapping),
        run["mapping_file"],
        plan.notes,
        plan.rollback_problems,
    )


def _forecasts(row: Json, course: Course) -> tuple[ForecastFacts, ...]:
    """The forecast beside the actual values.

    :param row: the forecast with the size of the database before the run, and now.
    """
    expected = row["forecast"]
    pauses = [p.seconds for p in course.pauses if not p.rehearsed and p.complete and p.command == "cutover"]
    disk = expected["target_disk"]
    space = disk["rows"]["bytes"] + disk["indexes"]["bytes"]
    return (
        _seconds("copy", expected["copy"], _span(course, Work.COPY)),
        _seconds("indexes", expected["indexes"], _span(course, Work.INDEX)),
        _seconds("verification", expected["verification"], _span(course, Work.VERIFICATION)),
        _seconds("write pause", expected["write_pause"], pauses[-1] if pauses else None),
        ForecastFacts("disk", "bytes", space, row["now"] - row["before"], disk["rows"]["basis"]),
    )


def _seconds(
    what: Literal["copy", "indexes", "verification", "write pause"], expected: Json, actual: float | None
) -> ForecastFacts:
    return ForecastFacts(what, "seconds", expected["seconds"], actual, expected["basis"])


def _span(course: Course, work: Work) -> float | None:
    """Seconds from the first begin of a work to its last end, in all tables; None before that."""
    bars = [bar for table in course.tables for bar in table.bars if bar.work is work]
    ends = [bar.end for bar in bars if bar.end is not None]
    if not bars or len(ends) < len(bars):
        return None
    return (max(ends) - min(bar.begin for bar in bars)).total_seconds()


def _tables(plan: Plan, read: _Read) -> tuple[TableFacts, ...]:
    bars = {table.target: table for table in read.course.tables}
    compared = {table.target: table for table in read.details.compared}
    return tuple(_table(table, bars.get(str(table.target)), compared, plan) for table in plan.tables)


def _table(table: TablePlan, bars: TableBars | None, compared: Mapping[str, ComparedTable], plan: Plan) -> TableFacts:
    name = str(table.target)
    copies = [b for b in bars.bars if b.work is Work.COPY and b.end is not None] if bars is not None else []
    found = compared.get(name)
    was = found if found is not None and found.compared_at is not None else None
    return TableFacts(
        str(table.source),
        name,
        table.strategy,
        tuple(key.source for key in table.key),
        table.estimate,
        bars.rows_done if bars is not None else 0,
        next(((b.end - b.begin).total_seconds() for b in copies if b.end is not None), None),
        None if was is None else was.equal,
        None if was is None else was.rows,
        None if was is None else was.target_rows,
        table.kept,
        comparisons.comparison(table, plan),
    )


def _verification(found: VerificationReport, read: _Read) -> VerificationFacts:
    return VerificationFacts(
        read.verification,
        found["status"],
        found["checked_at"],
        found["stale"],
        found["last_complete_at"],
        read.details.checks,
        found["differences"],
    )
