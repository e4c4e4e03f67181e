"""Read what the page shows of the runs: the status report, and in the same transaction the details of each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from confiture.config import excerpt
from confiture.journal import approvals, viewed
from confiture.plan.model import plan_from_json
from confiture.postgres.session import Transaction
from confiture.states import Medium
from confiture.status import comparisons, report
from confiture.status.course_reader import course
from confiture.status.details import (
    COMPARISONS_MOST,
    DIFFERENCES_MOST,
    EVENTS_MOST,
    ApprovalFacts,
    BlockingSession,
    Check,
    ComparedTable,
    Comparison,
    Details,
    Event,
    FoundDifference,
    PageFacts,
    RehearsalBlocker,
)
from confiture.status.event_text import event_text
from confiture.status.facts import Report, TableReport
from confiture.types import Json


def page_facts(
    target: str | None,
    project: Path,
    *,
    every: bool = False,
    given_project: Path | None = None,
    show_values: bool = False,
) -> PageFacts:
    """The report of :func:`confiture.status.report.report` with the details of each run in it.

    :param show_values: read the values of rows that differ, and keep the checkpoints, which are keys.
    :raises UsageError: as there.
    """
    found: dict[str, Details] = {}

    def read(tx: Transaction, run: UUID, medium: Medium) -> None:
        found[run.hex[:8]] = details(tx, run, show_values=show_values)

    reported = report.report(target, project, every=every, given_project=given_project, beside=read)
    return PageFacts(reported if show_values else _without_checkpoints(reported), found)


def _without_checkpoints(found: Report) -> Report:
    """The report without the keys that the copy of each table has reached."""
    runs = (replace(run, tables=_without_keys(run.tables)) for run in found.runs)
    syncs = (replace(sync, tables=_without_keys(sync.tables)) for sync in found.syncs)
    return replace(found, runs=tuple(runs), syncs=tuple(syncs))


def _without_keys(tables: Sequence[TableReport]) -> tuple[TableReport, ...]:
    return tuple(replace(table, checkpoint=None) for table in tables)


@dataclass(frozen=True, slots=True)
class Most:
    """How many of the newest events, and how many differences are read."""

    events: int = EVENTS_MOST
    differences: int = DIFFERENCES_MOST


def details(tx: Transaction, run: UUID, *, show_values: bool, most: Most = Most()) -> Details:
    """The details of one run. Where the journal cannot be read, they are the reason for it."""
    try:
        with tx.pg.transaction():
            return _details(tx, run, show_values, most)
    except psycopg.Error as error:
        return Details(problem=f"the journal cannot be read: {error.diag.message_primary}")


def _rows(tx: Transaction, block: str, **parameters: object) -> list[Json]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(viewed.statements(tx, "details.sql")[block], parameters).fetchall()


def _details(tx: Transaction, run: UUID, show_values: bool, most: Most) -> Details:
    events = _rows(tx, "events", run=run, most=most.events)
    blocking = _rows(tx, "blocking", run=run)
    found = Details(
        events=tuple(map(_event, events)),
        events_in_all=events[0]["in_all"] if events else 0,
        blocking=tuple(
            BlockingSession(row["pid"], row["role"], row["application"], row["seconds"], excerpt(row["query"]))
            for row in blocking
        ),
        rehearsal_blockers=tuple(RehearsalBlocker(**row) for row in _rows(tx, "rehearsal_blockers", run=run)),
        approval=_approval(tx, run),
        course=course(tx, run),
        values_shown=show_values,
    )
    return _verified(tx, run, found, most.differences)


def _approval(tx: Transaction, run: UUID) -> ApprovalFacts:
    required, found = approvals.is_required(tx, run), approvals.standing(tx, run)
    if found is None:
        return ApprovalFacts(required)
    return ApprovalFacts(required, found.role, found.at, found.note, found.void)


def _verified(tx: Transaction, run: UUID, found: Details, most: int) -> Details:
    """The details with those of the last verification; unchanged before the first."""
    number = next((row["number"] for row in _rows(tx, "verification", run=run)), None)
    if number is None:
        return found
    of = {"run": run, "number": number}
    block = "differing_values" if found.values_shown else "differences"
    compared = tuple(ComparedTable(**row) for row in map(_compared, _rows(tx, "compared", **of)))
    return replace(
        found,
        compared=compared,
        comparisons=_comparisons(tx, run, compared),
        settings=comparisons.settings(),
        checks=tuple(Check(**row) for row in _rows(tx, "checks", **of)),
        differences=tuple(map(_difference, _rows(tx, block, **of, most=most))),
    )


def _comparisons(tx: Transaction, run: UUID, compared: Sequence[ComparedTable]) -> tuple[Comparison, ...]:
    """The SQL of the tables that differ, and of the largest of the others."""
    order = sorted((t for t in compared if t.compared_at is not None), key=lambda t: (t.equal, -t.rows))
    names = [t.target for t in order[:COMPARISONS_MOST]]
    plan = plan_from_json(_rows(tx, "plan", run=run, names=names)[0]["plan"])
    return tuple(comparisons.comparison(table, plan) for table in plan.tables)


def _compared(row: Json) -> Json:
    return {**row, "not_compared": tuple(row["not_compared"])}


def _difference(row: Json) -> FoundDifference:
    values = row.get("key_values") or {}
    return FoundDifference(
        row["subject"],
        row["kind"],
        tuple((name, values.get(name)) for name in row["key"]),
        row["column_name"],
        row.get("source_value"),
        row.get("target_value"),
    )


def _event(row: Json) -> Event:
    text = event_text(row["kind"], row["detail"])
    return Event(row["at"], row["kind"], row["actor"], row["to_state"], text, row["role"])
