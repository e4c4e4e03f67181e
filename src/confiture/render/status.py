"""The status report as text and for Nagios."""

from __future__ import annotations

import math
import textwrap
from datetime import datetime

from rich.cells import cell_len, set_cell_size

from confiture.copy.throttle import from_json
from confiture.journal.model import TablePhase
from confiture.states import ABORTED, CLEANED, CUTOVER, MIGRATING, SETUP, VERIFIED, ReadsPhase
from confiture.status.facts import (
    UNSAFE,
    BuildReport,
    Report,
    RunReport,
    ServerReport,
    Severity,
    SourceReport,
    TableReport,
    percent,
)
from confiture.types import abbreviated, byte_size, counted, duration, in_plain_words, without_public

_STEPS = (SETUP, MIGRATING, VERIFIED, CUTOVER, CLEANED)
#: Tables that the text shows of each run without ``--all``.
TABLES_SHOWN = 10
#: Tables that have more room than errors; where there is no room for them either, they are counted only.
TABLES_AT_LEAST = 2
#: Lines of reasons on a terminal.
REASONS_SHOWN = 6
#: Columns of a table's name; the middle of a longer name is omitted.
NAME_WIDTH = 30
#: Seconds after which the age of the backlog's measurement is printed.
MEASURED_SECONDS = 10.0
#: Errors that the text shows of each run; the JSON has those of the last 24 hours.
ERRORS_SHOWN = 3


#: Columns of a terminal. A command is never split over two lines.
WIDTH = 80
INDENT = " " * 8


def text(report: Report, *, every: bool = False, height: int | None = None) -> str:
    """The report, the most severe run first, so that the first line has the severity of the whole report.

    :param height: lines of the terminal, which limit the tables that are shown; None when there is no terminal.
    """
    unknown = ["\n".join(_wrapped("UNKNOWN ", in_plain_words(line))) for line in report.unknown]
    blocks = [_run(run, report.generated_at, every, height) for run in sorted(report.runs, key=lambda r: -r.severity)]
    first = report.severity is Severity.UNKNOWN
    return "\n\n".join([*unknown, *blocks] if first else [*blocks, *unknown]) or "OK no run exists"


def _run(run: RunReport, now: datetime, every: bool, height: int | None) -> str:
    first, *reasons = _headline_and_reasons(run)
    above = [
        first,
        *(reasons if height is None else _cut(reasons, REASONS_SHOWN)),
        *_beside(f"Writes go to  {served(run)}", f"Leave alone: {_alone(run)}", f"Undo: {run.undo}"),
        *_reads(run),
        *_beside(f"Source  {place(run.source_server)}", f"Target  {place(run.server)} up"),
        *_wrapped("Runner  ", runner(run, now)),
        *_wrapped("Time    ", time(run, now)),
        *_limits(run),
        *_wrapped("Steps   ", _steps(run)),
        *_expected(run),
        *_wrapped("Approval ", approval(run)),
        "",
    ]
    below = [*_builds(run), *_rest(run), *(f"Stale   REFRESH MATERIALIZED VIEW {view}" for view in run.stale_views)]
    errors, following = _errors(run), _next(run)
    room = TABLES_SHOWN
    if height is not None:
        # The header of the tables and what follows them need three lines, and the shell's prompt one.
        left = height - len(above) - len(below) - len(following) - 4
        errors = _cut(errors, max(0, left - TABLES_AT_LEAST))
        room = max(0, left - len(errors))
    return "\n".join([*above, *_tables(run, every, min(room, TABLES_SHOWN)), *below, *errors, *following])


def _cut(lines: list[str], room: int) -> list[str]:
    """The first lines; the last one shows that more are left out."""
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], f"{lines[room - 1][: WIDTH - 4]} ..."] if room else []


def place(server: ServerReport | SourceReport) -> str:
    """Host, port, database and version; without what libpq determines."""
    host, port = server["host"], server["port"]
    shown = f"[{host}]" if host and ":" in host and "," not in host else host or ""
    at = f"{shown}{f':{port}' if port is not None else ''}/" if shown else ""
    return f"{at}{server['database']}  PostgreSQL {server['version'].split()[0]}"


def _beside(*parts: str) -> list[str]:
    """The parts beside each other where they fit into a line."""
    lines = [parts[0]]
    for part in parts[1:]:
        line = f"{lines[-1]}{INDENT}{part}"
        lines[-1:] = [line] if len(line) <= WIDTH else [lines[-1], part]
    return lines


def _wrapped(label: str, words: str) -> list[str]:
    """A label and its text, wrapped at the terminal's width."""
    return textwrap.wrap(
        words, WIDTH, initial_indent=label, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
    )


def _severity(run: RunReport) -> str:
    return Severity(run.severity).name


def _headline_and_reasons(run: RunReport) -> list[str]:
    """The first line, with the reasons if they fit, else below it, the most severe first."""
    reasons = [in_plain_words(reason) for reason in run.reasons]
    line = ", ".join([_headline(run), *reasons])
    if len(line) <= WIDTH:
        return [line]
    return [_headline(run), *(line for reason in reasons for line in _wrapped("   why  ", reason))]


def _headline(run: RunReport) -> str:
    return f"{_severity(run)} {run.source} -> {run.target}  run {run.id}  {sentence(run)}"


def sentence(run: RunReport) -> str:
    """The state of the run, with what delays it."""
    percent = f" {run.progress.percent:.1f} %" if run.state == MIGRATING and run.rolled_back_at is None else ""
    back = f", rolled back at {clock(run.rolled_back_at)}" if run.rolled_back_at is not None else ""
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
    return [*_wrapped("Reads go to   ", reads(run)), *_wrapped(INDENT, kept)]


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
    return f"{name} since {clock(reads['since'])}{old}{most}"


def _alone(run: RunReport) -> str:
    """Whether the run may be left alone. The command that finishes a switch is printed in the last line only."""
    return UNSAFE if run.leave_alone.startswith(UNSAFE) else run.leave_alone


def _next(run: RunReport) -> list[str]:
    """The next action with its command, and its alternatives."""
    lines = []
    for n, step in enumerate((run.next, *run.next["alternatives"])):
        label = "Next    " if n == 0 else "   or   "
        line = f"{label}{step['action']}{': ' + step['command'] if step['command'] else ''}"
        if step["command"] is None or len(line) <= WIDTH:
            lines.append(line)
        else:
            lines += [f"{label}{step['action']}:", f"{INDENT}{step['command']}"]
    return lines + ([f"{INDENT}({run.next['hint']})"] if run.next["hint"] else [])


def runner(run: RunReport, now: datetime) -> str:
    """The last command that held the run."""
    runner = run.runner
    again = f"; restarts {run.restarts} (last {clock(run.last_restart)})" if run.restarts else ""
    if runner.host is None:
        return "none yet"
    process = f"{runner.host} pid {runner.pid} ({runner.command})"
    if runner.ended:
        return f"none; last: {process}{_ended(runner.ended_at, now)}{again}"
    age = f"heartbeat {duration(runner.silent_seconds or 0)} ago"
    return f"{process}, {age}{'' if runner.alive else ', DEAD'}{again}"


def _ended(at: datetime | None, now: datetime) -> str:
    return f", ended {clock(at)}, {duration((now - at).total_seconds())} ago" if at is not None else ""


def time(run: RunReport, now: datetime) -> str:
    """When the run began, its rate and its end."""
    parts = [f"started {clock(run.started_at)} ({duration((now - run.started_at).total_seconds())})"]
    if run.progress.eta is not None:
        parts.append(f"ETA {clock(run.progress.eta)}")
    if run.progress.rows_per_second:
        parts.append(f"{abbreviated(run.progress.rows_per_second)} rows/s (10 min)")
    return ", ".join(parts)


def _expected(run: RunReport) -> list[str]:
    """The forecast of setup against the run so far; nothing once every row is copied and the disk suffices."""
    forecast, disk = run.forecast, run.disk
    if forecast is None or disk is None or (run.state == VERIFIED and not disk["missing"]):
        return []
    so_far = f", {duration(forecast['elapsed_seconds'])} so far" if forecast["elapsed_seconds"] else ""
    ready = f", ready for the cutover about {clock(forecast['ready_at'])}" if forecast["ready_at"] else ""
    free = f", {byte_size(disk['free'])} free" if disk["free"] is not None else ", free space not known"
    return _wrapped(
        "Plan    ",
        f"copy {duration(forecast['copy_seconds'])} of {duration(forecast['seconds'])}{so_far}{ready}; disk"
        f" {byte_size(disk['used'])} of about {byte_size(disk['expected'])}{free}",
    )


def approval(run: RunReport) -> str:
    """The approval of the cutover; empty where none is required and none was given, and when the run is over."""
    found = run.approval
    if run.state not in (SETUP, MIGRATING, VERIFIED) or not (found["required"] or found["role"]):
        return ""
    if found["role"] is None:
        return "required by another role; none so far"
    given = f"role {found['role']} at {clock(found['at'])}"
    return given if found["void"] is None else f"void: {found['void']} ({given})"


def _limits(run: RunReport) -> list[str]:
    found = limits(run)
    return _wrapped("Limits  ", f"{found}; to remove them: throttle --off") if found else []


def limits(run: RunReport) -> str:
    """The limits of the copy; empty when there are none."""
    found = from_json(run.throttle["limits"])
    return str(found) if found else ""


def _steps(run: RunReport) -> str:
    if run.state == ABORTED:
        return f"aborted {clock(run.state_since)}"
    back = f"; rolled back at {clock(run.rolled_back_at)}" if run.rolled_back_at is not None else ""
    steps = " > ".join(s.upper() if s == run.state else s for s in _STEPS)
    return f"{steps} since {clock(run.state_since)}{back}"


def _tables(run: RunReport, every: bool, room: int) -> list[str]:
    if not run.tables:
        return ["no table is planned yet"]
    # Failed tables come first, then tables in progress, then planned tables, then finished tables.
    order = {**dict.fromkeys(TablePhase, 1), TablePhase.PLANNED: 2, TablePhase.FINISHED: 3}
    if room < TABLES_AT_LEAST and not every and len(run.tables) > room:
        finished = sum(t.phase is TablePhase.FINISHED for t in run.tables)
        return [f"{counted(len(run.tables), 'table')}, {finished:,} finished (--all)"]
    rows = sorted(run.tables, key=lambda t: (0 if t.failed_chunks else order[t.phase], t.target))
    shown = rows if every else rows[:room]
    short = without_public(t.target for t in run.tables)
    names = {t.target: short[t.target] if every else _shortened(short[t.target]) for t in shown}
    width = max(5, *(cell_len(name) for name in names.values()))
    lines = [f"{'TABLE':<{width}}  {'PHASE':<9} {'ROWS':>17} {'%':>6}  CHECKPOINT"]
    rest = None if every else WIDTH - width - 39
    lines += [_table(t, set_cell_size(names[t.target], width), rest) for t in shown]
    if len(rows) > len(shown):
        lines.append(f"+{len(rows) - len(shown)} more (--all)")
    if any(t.total_is_estimate for t in shown):
        lines.append("~ = estimate")
    return lines


def _shortened(name: str) -> str:
    """A name in at most :data:`NAME_WIDTH` columns; its beginning and its end distinguish it from others."""
    if cell_len(name) <= NAME_WIDTH:
        return name
    half = (NAME_WIDTH - 3) // 2
    end = ""
    for character in reversed(name):
        if cell_len(character + end) > half:
            break
        end = character + end
    return set_cell_size(name, NAME_WIDTH - 3 - cell_len(end)) + "..." + end


def _table(t: TableReport, name: str, room: int | None) -> str:
    """One line; ``room`` is the number of columns for the checkpoint, None for any."""
    total = f"{'~' if t.total_is_estimate else ''}{abbreviated(t.rows_total)}"
    note = (
        f"{t.rebuilt}/{t.to_rebuild} indexes and constraints" if t.phase is TablePhase.INDEXING else t.checkpoint or ""
    )
    if t.failed_chunks:
        note = f"{counted(t.failed_chunks, 'chunk')} FAILED: {t.last_error or ''}"
    rows = f"{abbreviated(t.rows_done)}/{total}"
    if room is not None and cell_len(note) > max(room, 10):
        note = set_cell_size(note, max(room, 10) - 3) + "..."
    return f"{name}  {t.phase:<9} {rows:>17} {t.percent:>6.1f}  {note}".rstrip()


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
        f"Errors  {len(run.errors)} in 24 h" if run.errors else "Errors  none in 24 h",
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
    return _blocked(run.locks["waiting_for_us"]) + ("; confiture is waiting for a lock" if run.locks["we_wait"] else "")


def verification(run: RunReport) -> str:
    """The result of the last verification and its age."""
    of = run.verification
    checked = f" at {clock(of['checked_at'])}" if of["checked_at"] else ""
    found = f", {counted(of['differences'], 'difference')}" if of["differences"] else ""
    stale = ", stale" if of["stale"] else ""
    age = of["last_complete_seconds"]
    complete = f", last complete {duration(age)} ago" if age is not None else ""
    compared = ""
    if of["status"] in ("running", "interrupted"):
        compared = f", {percent(of['rows_compared'], of['rows_to_compare']):.1f} % of the rows compared"
    return f"{of['status']}{compared}{checked}{found}{stale}{complete}"


def _errors(run: RunReport) -> list[str]:
    """The newest errors."""
    found = run.errors[:ERRORS_SHOWN]
    texts = [f"{clock(error['at'])} {error['kind']}: {in_plain_words(error['text'])}" for error in found]
    return [line for text in texts for line in _wrapped(INDENT, text)]


def _blocked(waiting: int) -> str:
    """The sessions that confiture blocks, in words."""
    if not waiting:
        return "no session is blocked by confiture"
    return f"{counted(waiting, 'session')} {'is' if waiting == 1 else 'are'} blocked by confiture"


def clock(value: datetime | None) -> str:
    """A moment, to the minute."""
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M}Z"


def nagios(report: Report) -> str:
    """One line for a Nagios plugin: status, summary and performance data."""
    data = " ".join(
        f"'{run.id}_percent'={run.progress.percent:.1f}%;;;0;100 '{run.id}_rows'={run.progress.rows_done}c"
        f" '{run.id}_throttled'={run.throttle['active']:d};;;0;1"
        for run in report.runs
    )
    summary = report.summary.replace("|", "/").replace("\n", " ")
    return f"CONFITURE {report.severity.name} - {summary}" + (f" | {data}" if data else "")
