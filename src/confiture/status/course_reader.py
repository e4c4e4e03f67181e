"""Read the course of a run from its journal, in few rows: what a page draws of 200,000 chunks is aggregated in SQL."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from uuid import UUID

from psycopg.rows import dict_row

from confiture.journal import viewed
from confiture.journal.model import COPIED, LEASE_SECONDS, TablePhase
from confiture.postgres.session import Transaction
from confiture.schema_to_schema.outcomes import Part
from confiture.states import FINAL
from confiture.status import course as values
from confiture.status.course import (
    Bar,
    Course,
    Eta,
    Hindrance,
    Mark,
    Sample,
    StateSpan,
    Stretch,
    TableBars,
    Tick,
    Work,
    WritePause,
)
from confiture.status.facts import known, percent
from confiture.status.severity import for_people
from confiture.types import Json, TableRef

#: Commands, requests and write pauses of a run that are read; older ones are left out.
MOST = 500
#: The longest time between two samples while a command holds the run, when they are thinned out, with a margin.
THROTTLED_GAP_SECONDS = 700.0
#: Percent below which the rates give no reliable estimate.
ETA_FROM_PERCENT = 1.0
#: How a command ended that did not fail: by itself, on request, or because it was refused without effect on the run.
NOT_FAILED = (
    "finished",
    "taken over",
    "Drained:",
    "Held:",
    "GaveWay:",
    "Refused:",
    "UsageError:",
    "FaultyInput:",
    "WaitedOut:",
    "CutoverAborted:",
)


def course(tx: Transaction, run: UUID) -> Course:
    """The course of a run."""
    (moment,) = _rows(tx, "now", run=run)
    now: datetime = moment["now"]
    states = _states(_rows(tx, "transitions", run=run))
    samples = _samples(_rows(tx, "samples", run=run))
    runners = _rows(tx, "runners", run=run, most=MOST)
    alive = _is_alive(tx, run)
    ended = bool(states) and states[-1].state in FINAL
    tables = _tables(tx, run, moment)
    stretches = (
        *_throttled(samples, alive),
        *_paused(_rows(tx, "requests", run=run, most=MOST), ended),
        *_failed(runners, ended),
        *_killed(runners, alive, ended),
    )
    return Course(
        now=now,
        began=moment["began"],
        tables=tables,
        states=states,
        stretches=values.without_overlaps(stretches, now),
        ticks=_ticks(runners, alive),
        samples=samples,
        pauses=tuple(map(_pause, _rows(tx, "pauses", run=run, most=MOST))),
        eta=_eta(tables, samples, now) if alive else None,
    )


def _rows(tx: Transaction, block: str, file: str = "page.sql", **parameters: object) -> list[Json]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(viewed.statements(tx, file)[block], parameters).fetchall()


def _is_alive(tx: Transaction, run: UUID) -> bool:
    """Whether a command holds the run, as ``status`` judges it."""
    row = next(iter(_rows(tx, "runner", "status.sql", run=run)), None)
    return row is not None and row["ended_at"] is None and not row["gone"] and row["silent"] <= LEASE_SECONDS


# Tables --------------------------------------------------------------------------------------------


def _tables(tx: Transaction, run: UUID, moment: Json) -> tuple[TableBars, ...]:
    indexes = _indexes(_rows(tx, "indexes", run=run), _rows(tx, "rebuilt", run=run))
    for row in _rows(tx, "building", "status.sql", run=run):
        bar = Bar(Work.INDEX, row["name"] or "", row["began"], None)
        indexes.setdefault(row["table"], []).append(bar)
    compared = _compared(tx, run, moment)
    return tuple(_table(row, indexes, compared) for row in _rows(tx, "tables", run=run))


def _table(row: Json, indexes: dict[str, list[Bar]], compared: dict[str, Json]) -> TableBars:
    target = str(TableRef(row["target_schema"], row["target_table"]))
    phase = known(TablePhase, row["phase"]) or TablePhase.COPYING
    whole = row["sealed"] and phase in COPIED
    total = row["rows_done"] if whole else max(row["estimate"], row["rows_done"])
    bars = []
    if row["began"] is not None:
        share = percent(row["rows_done"], total) / 100
        bars.append(Bar(Work.COPY, "", row["began"], row["ended"] if phase in COPIED else None, share))
    bars += indexes.get(target, ())
    if target in compared:
        bars.append(_verification(compared[target], row["chunks"]))
    return TableBars(
        row["number"],
        str(TableRef(row["source_schema"], row["source_table"])),
        target,
        phase,
        row["rows_done"],
        total,
        not whole,
        row["failed"],
        tuple(sorted(bars, key=lambda bar: bar.begin)),
    )


def _indexes(items: Sequence[Json], steps: Sequence[Json]) -> dict[str, list[Bar]]:
    """The bars of indexes and constraints that are restored, by their table. A build may be a step of its own."""
    done = {row["name"]: row for row in steps}
    bars: dict[str, list[Bar]] = {}
    for item in items:
        table = str(TableRef(item["schema_name"], item["table_name"]))
        name = f"{item['kind']} {item['name']} on {table}"
        if name in done:
            begin = min(step["begun_at"] for step in (done[name], done.get(f"build of {name}", done[name])))
            bars.setdefault(table, []).append(Bar(Work.INDEX, item["name"], begin, done[name]["done_at"], 1.0))
    return bars


def _compared(tx: Transaction, run: UUID, moment: Json) -> dict[str, Json]:
    """The tables of the last verification, each with the moment at which its comparison began at the earliest.

    Only the end of each part is recorded. A table begins when one of the tables before it has ended.
    """
    if moment["number"] is None:
        return {}
    rows = _rows(tx, "compared", run=run, number=moment["number"])
    ends = sorted(row["last"] for row in rows)
    for row in rows:
        earlier = bisect_right(ends, row["first"])
        before = ends[earlier - 1] if earlier and ends[earlier - 1] < row["first"] else None
        row["began"] = before or min(moment["verification_began"], row["first"])
        row["closed"] = moment["verification_ended"] is not None
    return {row["subject"]: row for row in rows}


def _verification(row: Json, chunks: int) -> Bar:
    """The bar of a comparison; a table that cannot be compared by ranges has one part."""
    whole = row["closed"] or row["parts"] >= chunks
    share = 1.0 if whole else row["parts"] / chunks
    return Bar(Work.VERIFICATION, "", row["began"], row["last"] if whole else None, share, not row["equal"])


# Stretches and ticks -------------------------------------------------------------------------------


def _throttled(samples: Sequence[Sample], alive: bool) -> list[Stretch]:
    """From each throttled sample until the next sample, or until now; without a later one, for that moment only."""
    found: list[Stretch] = []
    for sample, following in pairwise((*samples, None)):
        if sample is None or sample.throttled is None:
            continue
        end: datetime | None = sample.at
        if following is None:
            end = None if alive else sample.at
        elif (following.at - sample.at).total_seconds() <= THROTTLED_GAP_SECONDS:
            end = following.at
        if found and found[-1].end == sample.at:
            found[-1] = replace(found[-1], end=end, reason=sample.throttled)
        else:
            found.append(Stretch(Hindrance.THROTTLED, sample.at, end, sample.throttled))
    return found


def _paused(requests: Sequence[Json], ended: bool) -> list[Stretch]:
    found: list[Stretch] = []
    begin: Json | None = None
    for row in requests:
        if row["kind"] == "pause":
            begin = begin or row
        elif begin is not None:
            found.append(Stretch(Hindrance.PAUSED, begin["at"], row["at"], f"by {begin['actor']}"))
            begin = None
    if begin is not None and not ended:
        found.append(Stretch(Hindrance.PAUSED, begin["at"], None, f"by {begin['actor']}"))
    return found


def _failed(runners: Sequence[Json], ended: bool) -> list[Stretch]:
    """From the end of each command that failed until the next command; after the last one, until now."""
    found = []
    for row, following in pairwise((*runners, None)):
        if row is None or row["ended_at"] is None or (following is None and ended):
            continue
        end = None if following is None else following["started_at"]
        if row["blocked"] is not None:
            found.append(Stretch(Hindrance.BLOCKED, row["ended_at"], end, for_people(row["blocked"])))
        elif not row["ended_why"].startswith(NOT_FAILED):
            found.append(Stretch(Hindrance.FAILED, row["ended_at"], end, for_people(row["ended_why"])))
    return found


def _killed(runners: Sequence[Json], alive: bool, ended: bool) -> list[Stretch]:
    """From the last heartbeat of each command that was killed until the next command; after the last one, until now."""
    found = []
    for row in runners:
        reason = f"{row['command']} of {row['actor'] or row['host']} was killed"
        if row["ended_why"] == "taken over":
            found.append(Stretch(Hindrance.KILLED, row["heartbeat_at"], row["ended_at"], reason))
        elif row is runners[-1] and row["ended_at"] is None and not alive and not ended:
            found.append(Stretch(Hindrance.KILLED, row["heartbeat_at"], None, reason))
    return found


def _ticks(runners: Sequence[Json], alive: bool) -> tuple[Tick, ...]:
    found = []
    after_kill = False
    for row in runners:
        actor = row["actor"] or f"{row['host']}[{row['pid']}]"
        found.append(Tick(Mark.RESUMED if after_kill else Mark.STARTED, row["started_at"], actor, row["command"]))
        lost = row is runners[-1] and row["ended_at"] is None and not alive
        after_kill = row["ended_why"] == "taken over" or lost
        if after_kill:
            found.append(Tick(Mark.KILLED, row["heartbeat_at"], actor, row["command"]))
        elif row["ended_at"] is not None:
            found.append(Tick(Mark.ENDED, row["ended_at"], actor, f"{row['command']}: {for_people(row['ended_why'])}"))
    return tuple(found)


# States, samples, pauses ---------------------------------------------------------------------------


def _states(transitions: Sequence[Json]) -> tuple[StateSpan, ...]:
    return tuple(
        StateSpan(row["to_state"], row["at"], None if following is None else following["at"], row["actor"])
        for row, following in pairwise((*transitions, None))
        if row is not None
    )


def _samples(rows: Sequence[Json]) -> tuple[Sample, ...]:
    found = []
    before: Json | None = None
    for row in rows:
        rate = None
        if before is not None and before["epoch"] == row["epoch"] and before["rows_done"] <= row["rows_done"]:
            seconds = (row["at"] - before["at"]).total_seconds()
            rate = (row["rows_done"] - before["rows_done"]) / max(seconds, 0.001)
        before = row
        found.append(
            Sample(
                row["at"],
                row["rows_done"],
                rate,
                row["backlog"],
                row["oldest"],
                row["replica_lag"],
                row["throttled"],
                row["state"],
            )
        )
    return tuple(found)


def _pause(row: Json) -> WritePause:
    detail = row["detail"]
    began, ended = (
        None if detail.get(name) is None else datetime.fromisoformat(detail[name]) for name in ("began_at", "ended_at")
    )
    return WritePause(
        at=row["at"],
        actor=row["actor"],
        command=detail["command"],
        rehearsed=row["kind"] == "rehearsed",
        parts=tuple(Part(part["name"], part["seconds"]) for part in detail["parts"]),
        seconds=detail["seconds"],
        limit=detail["limit"],
        complete=detail["complete"],
        problem=detail.get("problem"),
        began_at=began,
        ended_at=ended,
    )


def _eta(tables: Sequence[TableBars], samples: Sequence[Sample], now: datetime) -> Eta | None:
    done, total = sum(t.rows_done for t in tables), sum(t.rows_total for t in tables)
    return values.eta(samples, total - done, now) if percent(done, total) >= ETA_FROM_PERCENT else None
