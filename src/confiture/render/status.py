"""The status report as text and for Nagios."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

from confiture.copy.throttle import from_json
from confiture.render import lines, tables
from confiture.states import ABORTED, CLEANED, CUTOVER, MIGRATING, SETUP, VERIFIED, ReadsPhase
from confiture.status.facts import (
    UNSAFE,
    BuildReport,
    Report,
    RunReport,
    Severity,
    percent,
)
from confiture.types import abbreviated, byte_size, counted, duration, in_plain_words, without_public

if TYPE_CHECKING:
    from confiture.status.media import MigrationsReport, SyncRunReport

_STEPS = (SETUP, MIGRATING, VERIFIED, CUTOVER, CLEANED)
#: Lines of reasons on a terminal.
REASONS_SHOWN = 6
#: Seconds after which the age of the backlog's measurement is printed.
MEASURED_SECONDS = 10.0


def text(report: Report, *, every: bool = False, height: int | None = None) -> str:
    """The report, the most severe run first, so that the first line has the severity of the whole report.

    :param height: lines of the terminal, which limit the tables that are shown; None when there is no terminal.
    """
    unknown = ["\n".join(lines.wrapped("UNKNOWN ", in_plain_words(line))) for line in report.unknown]
    blocks = [_block(part, report, every, height) for part in report.shown]
    first = report.severity is Severity.UNKNOWN
    return "\n\n".join([*unknown, *blocks] if first else [*blocks, *unknown]) or "OK no run exists"


def _block(part: RunReport | MigrationsReport | SyncRunReport, report: Report, every: bool, height: int | None) -> str:
    if isinstance(part, RunReport):
        return _run(part, report.generated_at, every, height)
    from confiture.render import media  # only a target that has runs of another medium needs it

    return media.text(part, report, every=every)


def _run(run: RunReport, now: datetime, every: bool, height: int | None) -> str:
    first, *reasons = lines.headline(_headline(run), run.reasons)
    above = [
        first,
        *(reasons if height is None else lines.cut(reasons, REASONS_SHOWN)),
        *lines.beside(f"Writes go to  {served(run)}", f"Leave alone: {_alone(run)}", f"Undo: {run.undo}"),
        *_reads(run),
        *lines.beside(f"Source  {lines.place(run.source_server)}", f"Target  {lines.place(run.server)} up"),
        *lines.wrapped("Runner  ", runner(run, now)),
        *lines.wrapped("Time    ", time(run, now)),
        *_limits(run),
        *lines.wrapped("Steps   ", _steps(run)),
        *lines.wrapped("Plan    ", expected(run)),
        *lines.wrapped("Approval ", approval(run)),
        "",
    ]
    below = [*_builds(run), *_rest(run), *(f"Stale   REFRESH MATERIALIZED VIEW {view}" for view in run.stale_views)]
    errors, following = lines.newest_errors(run.errors), lines.following(run.next)
    room = tables.MOST
    if height is not None:
        # The header of the tables and what follows them need three lines, and the shell's prompt one.
        left = height - len(above) - len(below) - len(following) - 4
        errors = lines.cut(errors, max(0, left - tables.AT_LEAST))
        room = max(0, left - len(errors))
    return "\n".join(
        [*above, *tables.shown(run.tables, every=every, room=min(room, tables.MOST)), *below, *errors, *following]
    )


def _severity(run: RunReport) -> str:
    return Severity(run.severity).name


def _headline(run: RunReport) -> str:
    return f"{_severity(run)} {run.source} -> {run.target}  run {run.id}  {sentence(run)}"


def sentence(run: RunReport) -> str:
    """The state of the run, with what delays it."""
    percent = f" {run.progress.percent:.1f} %" if run.state == MIGRATING and run.rolled_back_at is None else ""
    back = f", rolled back at {lines.clock(run.rolled_back_at)}" if run.rolled_back_at is not None else ""
    paused = ", paused" if run.paused_since is not None else ""
    throttled = f", throttled: {run.throttle['reason']}" if _throttled_recently(run) else ""
    return f"{run.state.upper()}{percent}{back}{paused}{throttled}"


def _throttled_recently(run: RunReport) -> bool:
    """Whether the copy is throttled, and not for so long that the reasons include it."""
    return run.throttle["active"] and not any(reason.startswith("throttled") for reason in run.reasons)


def served(run: RunReport) -> str:
    """The database that serves the application's writes."""
    name = {"source": run.source, "target": run.target}.get(run.writes_served_by)
    return (
        f"{name} ({run.writes_served_by})"
        if name is not None
        else "unknown: the target's journal does not determine it"
    )


def _reads(run: RunReport) -> list[str]:
    if run.reads["phase"] is None:
        return []
    names = ", ".join(without_public(run.reads["not_kept"]).values())
    kept = f"Not kept up to date until the cutover: {names}" if names else ""
    return [*lines.wrapped("Reads go to   ", reads(run)), *lines.wrapped(lines.INDENT, kept)]


def reads(run: RunReport) -> str:
    """The database that reads are redirected to before the cutover, and how far it is behind; empty without that."""
    reads = run.reads
    if reads["phase"] is None:
        return ""
    name = {
        ReadsPhase.OPEN: f"{run.target} (target)",
        ReadsPhase.OPENING: "either side: they are being redirected to the target",
        ReadsPhase.CLOSING: "either side: they are being redirected back to the source",
    }[reads["phase"]]
    behind, limit = reads["staleness_seconds"], reads["max_staleness_seconds"]
    old = (
        "; it is not known how far the target is behind"
        if behind is None
        else f", at most {duration(math.ceil(behind))} behind"
    )
    most = f" (limit {duration(limit)})" if limit is not None else ""
    return f"{name} since {lines.clock(reads['since'])}{old}{most}"


def _alone(run: RunReport) -> str:
    """Whether the run may be left alone. The command that finishes a switch is printed in the last line only."""
    return UNSAFE if run.leave_alone.startswith(UNSAFE) else run.leave_alone


def runner(run: RunReport, now: datetime) -> str:
    """The last command that held the run."""
    return lines.runner(run.runner, run.restarts, run.last_restart, now)


def time(run: RunReport, now: datetime) -> str:
    """When the run began, its rate and its end."""
    parts = [f"started {lines.clock(run.started_at)} ({duration((now - run.started_at).total_seconds())})"]
    if run.progress.eta is not None:
        parts.append(f"ETA {lines.clock(run.progress.eta)}")
    if run.progress.rows_per_second:
        parts.append(f"{abbreviated(run.progress.rows_per_second)} rows/s (10 min)")
    return ", ".join(parts)


def expected(run: RunReport) -> str:
    """The forecast of setup against the run so far; empty once every row is copied and the disk suffices."""
    forecast, disk = run.forecast, run.disk
    if forecast is None or disk is None or (run.state == VERIFIED and not disk["missing"]):
        return ""
    so_far = f"; {duration(forecast['elapsed_seconds'])} so far" if forecast["elapsed_seconds"] else ""
    ready = f", ready about {lines.clock(forecast['ready_at'])}" if forecast["ready_at"] else ""
    free = f", {byte_size(disk['free'])} free" if disk["free"] is not None else ", free space not known"
    return (
        f"about {duration(forecast['seconds'])} until the cutover, {duration(forecast['copy_seconds'])} of it for the"
        f" copy{so_far}{ready}; disk {byte_size(disk['used'])} of about {byte_size(disk['expected'])}{free}"
    )


def approval(run: RunReport) -> str:
    """The approval of the cutover; empty where none is required and none was given, and when the run is over."""
    found = run.approval
    if run.state not in (SETUP, MIGRATING, VERIFIED) or not (found["required"] or found["role"]):
        return ""
    if found["role"] is None:
        return "required by another role; none so far"
    given = f"role {found['role']} at {lines.clock(found['at'])}"
    return given if found["void"] is None else f"void: {found['void']} ({given})"


def _limits(run: RunReport) -> list[str]:
    found = limits(run)
    return lines.wrapped("Limits  ", f"{found}; to remove them: throttle --off") if found else []


def limits(run: RunReport) -> str:
    """The limits of the copy; empty when there are none."""
    found = from_json(run.throttle["limits"])
    return str(found) if found else ""


def _steps(run: RunReport) -> str:
    if run.state == ABORTED:
        return f"aborted {lines.clock(run.state_since)}"
    back = f"; rolled back at {lines.clock(run.rolled_back_at)}" if run.rolled_back_at is not None else ""
    steps = " > ".join(s.upper() if s == run.state else s for s in _STEPS)
    return f"{steps} since {lines.clock(run.state_since)}{back}"


def _builds(run: RunReport) -> list[str]:
    """A line for each index that is being built."""
    return [f"Index   {building(b)}" for b in run.builds]


def building(build: BuildReport) -> str:
    """How far an index is."""
    share = f", {build['percent']:.0f} %" if build["percent"] is not None else ""
    return f"{build['name'] or 'an index'} on {build['table']}: {build['phase']}{share}"


def _rest(run: RunReport) -> list[str]:
    return [
        f"Changes {changes(run)}",
        f"Locks   {locks(run)}",
        f"Verify  {verification(run)}",
        lines.number_of_errors(run.errors),
    ]


def changes(run: RunReport) -> str:
    """The changes that wait to be applied."""
    found = run.changes
    if found["backlog"] is None:
        return "captured" if found["captured"] else "not captured: the application must be stopped"
    noun = "row" if found["backlog"] == 1 else "rows"
    measured = found["measured_seconds"] or 0.0
    age = f", measured {duration(measured)} ago" if measured > MEASURED_SECONDS else ""
    oldest = duration(found["oldest_seconds"] or 0.0)
    return f"backlog {abbreviated(found['backlog'])} {noun}, oldest {oldest}{age}"


def locks(run: RunReport) -> str:
    """The sessions that wait for locks."""
    return lines.blocked(run.locks["waiting_for_us"]) + (
        "; confiture is waiting for a lock" if run.locks["we_wait"] else ""
    )


def verification(run: RunReport) -> str:
    """The result of the last verification and its age."""
    of = run.verification
    checked = f" at {lines.clock(of['checked_at'])}" if of["checked_at"] else ""
    found = f", {counted(of['differences'], 'difference')}" if of["differences"] else ""
    stale = ", stale" if of["stale"] else ""
    age = of["last_complete_seconds"]
    complete = f", last complete {duration(age)} ago" if age is not None else ""
    compared = ""
    if of["status"] in ("running", "interrupted"):
        compared = f", {percent(of['rows_compared'], of['rows_to_compare']):.1f} % of the rows compared"
    return f"{of['status']}{compared}{checked}{found}{stale}{complete}"


def nagios(report: Report) -> str:
    """One line for a Nagios plugin: status, summary and performance data."""
    data = " ".join(
        f"'{run.id}_percent'={run.progress.percent:.1f}%;;;0;100 '{run.id}_rows'={run.progress.rows_done}c"
        f" '{run.id}_throttled'={run.throttle['active']:d};;;0;1"
        for run in report.runs
    )
    summary = report.summary.replace("|", "/").replace("\n", " ")
    return f"CONFITURE {report.severity.name} - {summary}" + (f" | {data}" if data else "")
