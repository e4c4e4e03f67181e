"""The severity of migrations and of a sync, and the next command: pure functions of the facts.

Neither moves the writes of the application, so that no question about the database that serves them has an answer here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confiture.journal.model import TablePhase
from confiture.naming import Naming
from confiture.states import ABORTED, FINAL, MIGRATING, SETUP, VERIFIED, State
from confiture.status.facts import NextReport, RunnerReport, Severity, StepReport, TableReport
from confiture.status.media import (
    BlockerReport,
    MigrationsRun,
    MigrationsState,
    PendingReport,
    ProofReport,
    UnfinishedReport,
)
from confiture.status.severity import (
    ENDED_ON_PURPOSE,
    THROTTLED_TOO_LONG_SECONDS,
    Facts,
    Reasons,
    absence,
    for_people,
    of_time,
)
from confiture.types import counted, duration

#: Seconds for which a transaction may last that a runner waits for.
WAITED_TOO_LONG_SECONDS = THROTTLED_TOO_LONG_SECONDS


def verdict(critical: Sequence[str], warning: Sequence[str]) -> tuple[Severity, tuple[str, ...]]:
    """The severity of reasons, and the reasons, the most severe first."""
    severity = Severity.CRITICAL if critical else Severity.WARNING if warning else Severity.OK
    return severity, (*critical, *warning)


def waits(blocking: Sequence[BlockerReport]) -> list[str]:
    """The sessions that a runner waits for and whose transactions have lasted for too long."""
    return [
        f"waiting for {named(one)}"
        for one in blocking
        if one["seconds"] is not None and one["seconds"] > WAITED_TOO_LONG_SECONDS
    ]


def named(one: BlockerReport) -> str:
    """A blocking session in words."""
    words = [f"pid {one['pid']}"]
    words += [f"role {one['role']}"] if one["role"] else []
    words += [f"application {one['application']}"] if one["application"] else []
    age = one["seconds"]
    words += ["transaction age not visible to this role" if age is None else f"transaction {duration(age)} old"]
    return ", ".join(words)


# Migrations -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MigrationFacts:
    """The facts of the migrations of one database.

    :ivar newest: the applied one with the highest version; None without one.
    :ivar pending: None where the files are not known.
    """

    applied: int
    newest: str | None
    pending: tuple[PendingReport, ...] | None
    unfinished: tuple[UnfinishedReport, ...]
    edited: tuple[str, ...]
    missing: tuple[str, ...]
    files_problem: str | None
    run: MigrationsRun

    @property
    def running(self) -> bool:
        """Whether a command is running."""
        return self.run.live and self.run.runner.alive

    @property
    def state(self) -> MigrationsState:
        """The state in one word."""
        if self.running:
            return "running"
        if self.unfinished:
            return "unfinished"
        if self.run.live:
            return "interrupted"
        return "pending" if self.pending else "applied"


def label(one: PendingReport | UnfinishedReport) -> str:
    """The version and the name of a migration, as its files begin."""
    return f"{one['version']}_{one['name']}"


def progress(one: UnfinishedReport) -> str:
    """How far a migration without a transaction is."""
    done = one["statements_done"]
    of = f" of {one['statements']:,}" if one["statements"] is not None else ""
    noun = "statement" if (one["statements"] or done) == 1 else "statements"
    return f"{done:,}{of} {noun} of its {one['direction']} file {'is' if done == 1 else 'are'} done"


def judge_migrations(facts: MigrationFacts) -> tuple[Severity, tuple[str, ...]]:
    """The severity and the reasons. Pending migrations are no reason."""
    critical, warning = _of_run(facts)
    warning += _of_files(facts)
    return verdict(critical, warning)


def _of_run(facts: MigrationFacts) -> Reasons:
    run = facts.run
    if facts.running:
        return [], waits(run.blocking)
    if facts.unfinished:
        one = facts.unfinished[0]
        return [f"{label(one)} is unfinished: {progress(one)}, and no command is running"], []
    if run.live:
        return absence(Facts(run.state, blocked=run.blocked_reason), run.runner, _left(facts))
    why = run.runner.ended_why or ""
    failed = run.state == ABORTED and why and not why.startswith(ENDED_ON_PURPOSE)
    if failed and facts.pending != ():
        since = duration(run.runner.absent_seconds)
        return [], [f"{run.runner.command} failed {since} ago: {for_people(why)}"]
    return [], []


def _left(facts: MigrationFacts) -> str:
    if facts.pending:
        return f"{counted(len(facts.pending), 'migration')} {'is' if len(facts.pending) == 1 else 'are'} pending"
    return "the run is not finished"


def _of_files(facts: MigrationFacts) -> list[str]:
    found = [facts.files_problem] if facts.files_problem is not None else []
    found += [f"the file of {one}, which is applied, was edited" for one in facts.edited]
    found += [f"the file of {one}, which is applied, is missing" for one in facts.missing]
    below = [label(one) for one in facts.pending or () if one["out_of_order"]]
    return found + [f"{one} is pending, and a later migration is applied" for one in below]


def leave_migrations(facts: MigrationFacts) -> str:
    """Whether the database may be left as it is."""
    if facts.running:
        return "safe: the command is running"
    if facts.unfinished:
        return "safe for the data; the change is not complete"
    return "safe"


def undo_migrations(facts: MigrationFacts) -> str:
    """The command that reverts the last migration, as the report prints it."""
    if facts.running:
        return "not while a command is running"
    if facts.unfinished and facts.unfinished[0]["direction"] == "down":
        return "migrate up, after the down is finished"
    last = label(facts.unfinished[0]) if facts.unfinished else facts.newest
    return f"migrate down (reverts {last})" if last is not None else "nothing to undo"


def next_of_migrations(facts: MigrationFacts, naming: Naming) -> NextReport:
    """The next action with its command."""
    action, words = _step_of_migrations(facts)
    return _next(action, None if words is None else naming.command(words), naming)


def _step_of_migrations(facts: MigrationFacts) -> tuple[str, str | None]:
    if facts.running:
        return "nothing to do: migrations are running", None
    if facts.unfinished:
        one = facts.unfinished[0]
        return "run the same command again: it continues behind the last statement", f"migrate {one['direction']}"
    if facts.state == "interrupted":
        command = facts.run.runner.command
        return "run the same command again", command if command in _COMMANDS else "migrate up"
    if facts.files_problem is not None or facts.edited or facts.missing:
        return "restore the files; see", "migrate status"
    if any(one["out_of_order"] for one in facts.pending or ()):
        return "give the file a later version; or apply it out of order", "migrate up --out-of-order"
    if facts.pending:
        return "apply what is pending", "migrate up"
    return "nothing to do", None


_COMMANDS = ("migrate up", "migrate down", "migrate baseline")


def _next(action: str, command: str | None, naming: Naming) -> NextReport:
    hint = "the password is omitted: set PGPASSFILE or PGPASSWORD" if naming.left_out and command else None
    return {"action": action, "command": command, "alternatives": [], "hint": hint}


# Syncs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SyncFacts:
    """The facts of one sync.

    :ivar command: the command that began it, which continues it.
    :ivar again: the command that repeats it from the beginning.
    :ivar abort: the command that ends it and empties its tables.
    """

    state: State
    blocked: str | None
    runner: RunnerReport
    tables: tuple[TableReport, ...]
    paused_seconds: float | None
    throttled: tuple[float, str | None]
    blocking: tuple[BlockerReport, ...]
    proof: ProofReport | None
    command: str
    again: str
    abort: str


def judge_sync(facts: SyncFacts) -> tuple[Severity, tuple[str, ...]]:
    """The severity and the reasons."""
    if facts.state in FINAL:
        return Severity.OK, ()
    shared = Facts(facts.state, blocked=facts.blocked, paused_seconds=facts.paused_seconds, throttled=facts.throttled)
    critical, warning = absence(shared, facts.runner, _left_of_sync(facts))
    if facts.blocked and facts.runner.alive:
        warning.append(f"was blocked, {facts.runner.command} is running again: {facts.blocked}")
    elif facts.blocked:
        critical.append(f"blocked: {facts.blocked}")
    else:
        failed = [table for table in facts.tables if table.failed_chunks]
        critical += [f"{t.target}: {counted(t.failed_chunks, 'chunk')} failed" for t in failed]
    if facts.proof is not None and not facts.proof["passed"]:
        critical.append(leaking(facts.proof))
    warning += [*of_time(shared, facts.runner), *(waits(facts.blocking) if facts.runner.alive else ())]
    return verdict(critical, warning)


def leaking(proof: ProofReport) -> str:
    """The columns of a failed proof in words."""
    over = [f"{one['table']}.{one['column']}" for one in proof["columns"] if one["leaks"]]
    noun = "column" if len(over) == 1 else "columns"
    return f"values of the source are in the masked {noun} {', '.join(over)}"


def _left_of_sync(facts: SyncFacts) -> str:
    if facts.state == SETUP:
        return "nothing is copied yet"
    left = sum(t.phase is not TablePhase.FINISHED for t in facts.tables)
    if facts.state == MIGRATING and left:
        return f"{left} of {counted(len(facts.tables), 'table')} {'is' if left == 1 else 'are'} not finished"
    return "the sync is verified and not complete" if facts.state == VERIFIED else "the rows are not proved yet"


def leave_sync(facts: SyncFacts) -> str:
    """Whether a sync may be left without a command."""
    if facts.state in FINAL:
        return "safe: the sync is over"
    return "safe for the source, which is only read; the target is incomplete"


def undo_sync(facts: SyncFacts) -> str:
    """The way to undo a sync, as the report prints it."""
    if facts.state in FINAL:
        return "nothing to undo"
    return "sync --abort (empties its tables; rows that were replaced are gone)"


def next_of_sync(facts: SyncFacts, naming: Naming) -> NextReport:
    """The next action with its command."""
    if facts.state in FINAL:
        return _next("nothing to do; to copy the rows again", facts.again, naming)
    if facts.runner.alive:
        return _next("nothing to do: the sync is running", None, naming)
    action = "resolve what blocks the sync, then" if facts.blocked else "run the same command again"
    ended: StepReport = {"action": "end it, and empty its tables", "command": facts.abort}
    return {**_next(action, facts.command, naming), "alternatives": [ended]}
