"""Migrations and syncs in the text of the status report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from confiture.render import lines, tables
from confiture.states import ABORTED, CLEANED, MIGRATING, SETUP, VERIFIED
from confiture.status.facts import ErrorReport, Report, Severity
from confiture.status.media import (
    AppliedReport,
    BlockerReport,
    LeakReport,
    MigrationsReport,
    PendingReport,
    SyncRunReport,
    UnfinishedReport,
)
from confiture.types import ALL_PERCENT, abbreviated, counted, duration, in_plain_words, some

#: Names that a line lists.
NAMES_SHOWN = 5
_STEPS = (SETUP, MIGRATING, VERIFIED, CLEANED)


def text(part: MigrationsReport | SyncRunReport, report: Report, *, every: bool) -> str:
    """The lines about the migrations of a database, or about its last sync.

    :param every: whether all tables are listed.
    """
    if isinstance(part, MigrationsReport):
        return migrations(part, report.generated_at)
    wanted = every or part.live
    listed = tables.shown(part.tables, every=every, room=tables.MOST) if wanted else []
    return sync(part, report.generated_at, listed, report.before(part))


def _label(one: AppliedReport | PendingReport | UnfinishedReport) -> str:
    return f"{one['version']}_{one['name']}"


# Migrations -----------------------------------------------------------------------------------------


def migrations(one: MigrationsReport, now: datetime) -> str:
    """The lines about the migrations of a database."""
    head = f"{Severity(one.severity).name} {one.target}  migrations  {sentence_of_migrations(one)}"
    return "\n".join(
        [
            *lines.headline(head, one.reasons),
            *lines.beside(f"Leave alone: {one.leave_alone}", f"Undo: {one.undo}"),
            *lines.wrapped("Target  ", f"{lines.place(one.server)} up"),
            *lines.wrapped("Runner  ", lines.runner(one.run.runner, one.run.restarts, one.run.last_restart, now)),
            *(line for half in one.unfinished for line in lines.wrapped("Now     ", progress(half))),
            *lines.wrapped("Last    ", last(one, now)),
            *lines.wrapped("Pending ", pending(one)),
            *lines.wrapped("Locks   ", waiting(one.run.blocking, one.run.locks["waiting_for_us"])),
            *_errors(one.run.errors),
            *lines.following(one.next),
        ]
    )


def sentence_of_migrations(one: MigrationsReport) -> str:
    """The state, with the numbers that matter in it."""
    left = f", {len(one.pending):,} pending" if one.pending else ""
    if one.state in ("applied", "pending"):
        return f"{one.applied:,} APPLIED{left}"
    return f"{one.state.upper()}, {one.applied:,} applied{left}"


def progress(half: UnfinishedReport) -> str:
    """How far a migration without a transaction is."""
    of = f" of {half['statements']:,}" if half["statements"] is not None else ""
    began = f"began {lines.clock(half['began_at'])}"
    return f"{_label(half)} {half['direction']}, {half['statements_done']:,}{of} statements done, {began}"


def last(one: MigrationsReport, now: datetime) -> str:
    """The migration that was applied last."""
    if not one.recent:
        return "none is applied"
    newest = one.recent[0]
    age = duration((now - newest["at"]).total_seconds())
    how = "recorded by baseline" if newest["baseline"] else "applied"
    return (
        f"{_label(newest)}, {how} {lines.clock(newest['at'])} ({age} ago) by {newest['actor']} as role {newest['role']}"
    )


def pending(one: MigrationsReport) -> str:
    """The names of the pending migrations."""
    if one.files_problem is not None:
        return f"not known: {one.files_problem}"
    if one.pending is None:
        return "not known: there is no folder db/migrations here; name the project with --project"
    return some([_label(each) for each in one.pending], NAMES_SHOWN) or "none"


def waiting(blocking: tuple[BlockerReport, ...], waiting_for_us: int) -> str:
    """The sessions that the runner waits for, and those that wait for it."""
    found = [f"waiting for {blocker(each)}" for each in blocking]
    return "; ".join([*found, lines.blocked(waiting_for_us)])


def blocker(one: BlockerReport) -> str:
    """A session that blocks, in words."""
    words = [f"pid {one['pid']}"]
    words += [f"role {one['role']}"] if one["role"] else []
    words += [f"application {one['application']}"] if one["application"] else []
    age = one["seconds"]
    return ", ".join([*words, "age not visible" if age is None else f"in a transaction for {duration(age)}"])


def _errors(found: Sequence[ErrorReport]) -> list[str]:
    return [lines.number_of_errors(found), *lines.newest_errors(found)]


# Syncs ----------------------------------------------------------------------------------------------


def sync(one: SyncRunReport, now: datetime, listed: list[str], earlier: tuple[SyncRunReport, ...]) -> str:
    """The lines about a sync.

    :param listed: the lines about its tables; empty once it is over.
    :param earlier: the syncs before it.
    """
    head = f"{Severity(one.severity).name} {one.source} -> {one.target}  sync {one.id}  {sentence_of_sync(one)}"
    return "\n".join(
        [
            *lines.headline(head, one.reasons),
            *lines.beside(f"Leave alone: {one.leave_alone}", f"Undo: {one.undo}"),
            *lines.beside(f"Source  {lines.place(one.source_server)}", f"Target  {lines.place(one.server)} up"),
            *lines.wrapped("Runner  ", lines.runner(one.runner, one.restarts, one.last_restart, now)),
            *lines.wrapped("Time    ", time(one, now)),
            *lines.wrapped("Steps   ", steps(one)),
            *lines.wrapped("Rows    ", rows(one)),
            *lines.wrapped("Masked  ", masked(one)),
            *lines.wrapped("Proof   ", proof(one)),
            *([""] if listed else []),
            *listed,
            *(lines.wrapped("Locks   ", waiting(one.blocking, one.locks["waiting_for_us"])) if one.live else []),
            *_errors(one.errors),
            *(line for each in earlier for line in lines.wrapped("Earlier ", earlier_sync(each))),
            *lines.following(one.next),
        ]
    )


def sentence_of_sync(one: SyncRunReport) -> str:
    """The state, with what delays it."""
    if not one.live:
        return "COMPLETE" if one.done else "ABORTED"
    share = f" {one.progress.percent:.1f} %" if one.state == MIGRATING else ""
    paused = ", paused" if one.paused_since is not None else ""
    throttled = f", throttled: {one.throttle['reason']}" if one.throttle["active"] else ""
    return f"{one.state.upper()}{share}{paused}{throttled}"


def time(one: SyncRunReport, now: datetime) -> str:
    """When it began, who began it, its rate and its end."""
    began = f"started {lines.clock(one.started_at)} by {one.actor}"
    if not one.live:
        return f"{began}, took {duration((one.state_since - one.started_at).total_seconds())}"
    parts = [f"{began} ({duration((now - one.started_at).total_seconds())})"]
    if one.progress.eta is not None:
        parts.append(f"ETA {lines.clock(one.progress.eta)}")
    if one.progress.rows_per_second:
        parts.append(f"{abbreviated(one.progress.rows_per_second)} rows/s (10 min)")
    return ", ".join(parts)


def steps(one: SyncRunReport) -> str:
    """The states, the current one in capitals."""
    if one.state == ABORTED:
        return f"aborted {lines.clock(one.state_since)}"
    shown = " > ".join(_step(s).upper() if s == one.state else _step(s) for s in _STEPS)
    return f"{shown} since {lines.clock(one.state_since)}"


def _step(state: str) -> str:
    return "complete" if state == CLEANED else state


def rows(one: SyncRunReport) -> str:
    """The rows and tables, how they were chosen, and whether they are of one instant."""
    number = one.rows if one.rows is not None else one.progress.rows_done
    found = f"{counted(number, 'row')} in {counted(len(one.tables), 'table')}"
    how = "one snapshot" if one.consistent else "short snapshots"
    chosen = [option for option in one.options if option.startswith(("--where", "--sample", "--tables"))]
    return ", ".join([found, f"read in {how}", *chosen])


def masked(one: SyncRunReport) -> str:
    """The columns that a rule masks."""
    if one.masked is None:
        return "not planned yet"
    names = [f"{c['table']}.{c['column']} ({c['rule']})" for c in one.masked]
    kept = f"; {one.kept:,} copied as they are" if one.kept else ""
    return in_plain_words(f"{counted(len(names), 'column')}{': ' if names else ''}{some(names, NAMES_SHOWN)}{kept}")


def proof(one: SyncRunReport) -> str:
    """The outcome of the proof of no leak and of the check of the foreign keys."""
    keys = one.foreign_keys
    held = (
        ""
        if keys is None
        else f"; {counted(keys['checked'], 'foreign key')} checked, {_violations(keys['violations'])}"
    )
    if one.proof is None:
        return f"not proved yet{held}" if one.live else f"no masked column was compared{held}"
    columns = one.proof["columns"]
    over = [f"{c['table']}.{c['column']} ({c['found']:,} of {c['values']:,} values)" for c in columns if c["leaks"]]
    if over:
        return in_plain_words(f"LEAK in {some(over, NAMES_SHOWN)}{held}")
    limited = [c for c in columns if c["limit"] < ALL_PERCENT]
    found = sum(c["found"] for c in limited)
    occurs = (
        f"{counted(found, 'value')} of {{}} {'occurs' if found == 1 else 'occur'}" if found else "no value of {} occurs"
    )
    chance = ", by chance" if found else ""
    masked_columns = counted(len(limited), "masked column")
    return f"{occurs.format(masked_columns)} in the source{chance}, at {lines.clock(one.proof['at'])}{held}"


def proved(one: SyncRunReport) -> dict[tuple[str, str], LeakReport]:
    """The outcome of the proof for each column, by table and column."""
    columns = [] if one.proof is None else one.proof["columns"]
    return {(column["table"], column["column"]): column for column in columns}


def _violations(number: int) -> str:
    return "each row has its parent" if not number else f"{counted(number, 'row')} without a parent"


def earlier_sync(one: SyncRunReport) -> str:
    """A sync before the newest one, in one line."""
    number = counted(one.rows if one.rows is not None else one.progress.rows_done, "row")
    return f"{lines.clock(one.started_at)} from {one.source} by {one.actor}: {sentence_of_sync(one)}, {number}"
