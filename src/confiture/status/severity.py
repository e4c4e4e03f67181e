"""The severity of a run, the database that accepts writes and the next command: pure functions of the run's facts.

The only source of facts is the target's journal, and a command may have ended at any point. A fact that the journal
does not determine is reported as unknown, and a run that needs a command is never reported as OK.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confiture.journal.model import LEASE_SECONDS, TablePhase
from confiture.naming import Naming
from confiture.states import (
    ABORTED,
    CLOSING,
    CUTOVER,
    FINAL,
    MIGRATING,
    MOVING_READS,
    REOPENED_BY,
    SETUP,
    VERIFIED,
    CutoverPhase,
    ReadsPhase,
    Served,
    State,
    writes_served_by,
)
from confiture.status.facts import (
    UNSAFE,
    NextReport,
    RollbackReport,
    RunnerReport,
    Severity,
    StepReport,
    TableReport,
    VerificationReport,
    known,
)
from confiture.types import counted, duration, shell_word

#: The beginnings of ``ended_why`` for a command that ended before it changed anything.
_BEGUN_NOTHING = ("finished", "Refused", "UsageError", "FaultyInput")
#: Those, and the beginnings for a command that was stopped.
ENDED_ON_PURPOSE = (*_BEGUN_NOTHING, "Drained", "taken over")
#: The kind of the error with which ``ended_why`` begins, after the name of a command or not. The kind of an error that
#: is a defect of Confiture belongs to its text.
_KIND = re.compile(r"^(\w+: )?(?!(?:Key|Type|Value|Attribute|Index|Assertion|Runtime|OS|Recursion)Error: )[A-Z]\w+: ")
PAUSED_TOO_LONG_SECONDS = 3600
THROTTLED_TOO_LONG_SECONDS = 300
#: Without a command that applies changes, the log grows: on the source before the cutover, on the target after it.
UNAPPLIED_TOO_LONG_SECONDS = 3600
UNREVERSED_TOO_LONG_SECONDS = 24 * 3600
#: A command that closes a database waits for its locks for up to ``--give-up-after`` (30 s), then needs seconds.
CLOSING_TOO_LONG_SECONDS = 60


#: Phases of a cutover or a rollback in which both databases are open; None before the first.
QUIET_PHASES = (None, CutoverPhase.DONE, CutoverPhase.PREPARING, CutoverPhase.ROLLBACK_PREPARING)


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one run.

    :ivar captured: whether the application writes during the run.
    :ivar planned: whether the run has a plan, so that capture is installed if it is requested.
    :ivar phase: of the cutover or rollback, as recorded, for ``phase_seconds``; None before the first.
    :ivar target_closed: whether the target itself refuses writes; None if this was not read, or cannot be determined.
    :ivar held: the name of the pool that a cutover or rollback may have paused.
    :ivar blocked_command: the step that resolves ``blocked``; None where an older version recorded no step.
    :ivar ending: the command that has begun to drop what the run created.
    :ivar idle_seconds: since the last pass or the last measurement of the backlog.
    :ivar throttled: for how many seconds a limit has slowed the copy down, and which limit.
    :ivar differing: target tables in which the last verification found rows that differ.
    :ivar disk_full: why the target's disk will be full before the end of the run; None if this is not expected.
    :ivar unapproved: whether a cutover would be refused for the lack of a valid approval.
    :ivar no_rollback: why a rollback is not possible after the cutover; None when it is.
    :ivar reads: where reads are redirected before the cutover; None while they go where the writes go.
    :ivar staleness: seconds that the target is behind the source, at most; None before the first measurement.
    :ivar reads_limit: seconds that it may be behind for its readers.
    """

    state: State
    captured: bool = False
    planned: bool = True
    setup_done: bool = True
    phase: CutoverPhase | None = None
    phase_seconds: float = 0.0
    target_closed: bool | None = None
    held: str | None = None
    blocked: str | None = None
    blocked_command: str | None = None
    ending: str | None = None
    idle_seconds: float = 0.0
    paused_seconds: float | None = None
    throttled: tuple[float, str | None] = (0.0, None)
    differing: tuple[str, ...] = ()
    unapproved: bool = False
    no_rollback: str | None = None
    disk_full: str | None = None
    reads: ReadsPhase | None = None
    staleness: float | None = None
    reads_limit: float | None = None

    @property
    def switching(self) -> str | None:
        """``cutover`` or ``rollback`` while one is between two quiet phases, else None."""
        if self.state in FINAL or self.phase is None or self.phase in QUIET_PHASES:
            return None
        return "rollback" if self.phase.of_rollback else "cutover"

    @property
    def ends_switching(self) -> str | None:
        """The command that ends an unfinished cutover or rollback; None when there is none.

        Where the other side has lost changes, this is the command that opens the closed side again.
        """
        other = REOPENED_BY.get(self.switching or "")
        return other if self.blocked is not None and self.blocked_command == other else self.switching

    @property
    def closing(self) -> bool:
        """Whether one database may be closed while the other is not open."""
        return self.switching is not None and self.phase in CLOSING

    @property
    def served(self) -> Served:
        """``source``, ``target`` or ``unknown``."""
        return writes_served_by(self.state, self.phase, captured=self.captured, target_closed=self.target_closed)


def copied(tables: Sequence[TableReport]) -> bool:
    """Whether every table has its rows, indexes and constraints."""
    return bool(tables) and all(t.phase is TablePhase.FINISHED for t in tables)


def work_left(
    facts: Facts, runner: RunnerReport, tables: Sequence[TableReport], verification: VerificationReport
) -> str | None:
    """The work that an interrupted command left; None if the run waits for a decision of the operator."""
    if facts.ending is not None:
        return f"the {facts.ending} is not finished"
    if facts.state == SETUP and not facts.setup_done:
        return "setup is not finished"
    # A command that refused what it was given has begun nothing.
    if facts.state == SETUP and runner.command == "migrate" and not (runner.ended_why or "").startswith(_BEGUN_NOTHING):
        return "migrate has not copied anything"
    if facts.state == MIGRATING and not copied(tables):
        left = sum(t.phase is not TablePhase.FINISHED for t in tables)
        return f"{left} of {counted(len(tables), 'table')} {'is' if left == 1 else 'are'} not finished"
    if facts.state in (MIGRATING, VERIFIED) and verification["status"] == "interrupted":
        return "the verification was interrupted"
    return None


def for_people(ended_why: str) -> str:
    """Why a command ended, without the kind of the error."""
    return _KIND.sub(r"\1", ended_why)


# Severity ---------------------------------------------------------------------------------------


def judge(
    facts: Facts, runner: RunnerReport, tables: Sequence[TableReport], verification: VerificationReport
) -> tuple[Severity, tuple[str, ...]]:
    """The severity and the reasons, the most severe first."""
    if facts.state in FINAL:
        return Severity.OK, ()
    critical, warning = _of_switch(facts, runner)
    for more in (
        absence(facts, runner, work_left(facts, runner, tables, verification)),
        _of_obstacles(facts, runner, tables, verification),
        _of_reads(facts, runner),
        ([], of_time(facts, runner)),
    ):
        critical += more[0]
        warning += more[1]
    severity = Severity.CRITICAL if critical else Severity.WARNING if warning else Severity.OK
    return severity, (*critical, *warning)


Reasons = tuple[list[str], list[str]]


def _of_switch(facts: Facts, runner: RunnerReport) -> Reasons:
    """A cutover or rollback that is not finished."""
    if facts.switching is None or facts.phase is None:
        return [], []
    if runner.alive:
        late = facts.closing and facts.phase_seconds > CLOSING_TOO_LONG_SECONDS
        return [], [f"the {facts.switching} has been closing for {duration(facts.phase_seconds)}"] if late else []
    stopped = f"the {facts.switching} is not finished: it stopped in phase {facts.phase.unqualified}"
    if facts.closing:
        closes, opens = ("source", "target") if facts.switching == "cutover" else ("target", "source")
        if facts.target_closed is not False:
            stopped += f"; the {closes} may be closed and the {opens} not open yet"
    held = [f"the application's connections may be held by {facts.held}"] if facts.held is not None else []
    return [stopped, *held], []


def absence(facts: Facts, runner: RunnerReport, left: str | None) -> Reasons:
    """No command is running."""
    if runner.alive:
        return [], []
    dead = not runner.ended
    if dead and left is not None:
        return [f"the runner is dead: silent for {duration(runner.silent_seconds or 0)} with work left: {left}"], []
    if dead and facts.switching is None:
        return [], [f"{runner.command} was killed: its heartbeat is {duration(runner.silent_seconds or 0)} old"]
    if left is None:
        failed = _follow_failed(runner)
        ended = f"follow ended {duration(runner.absent_seconds)} ago: {for_people(runner.ended_why or '')}"
        return [], [ended] if failed and facts.blocked is None else []
    since = f"{runner.command} ended {duration(runner.absent_seconds)} ago" if runner.command else "none has started"
    # The reason that blocks the run is in the same report.
    explained = runner.ended_why in (None, "finished") or facts.blocked is not None
    why = "" if explained else f": {for_people(runner.ended_why or '')}"
    reason = f"{left} and no command is running; {since}{why}"
    return ([reason], []) if runner.absent_seconds > LEASE_SECONDS else ([], [reason])


def _follow_failed(runner: RunnerReport) -> bool:
    """Whether the last command was a follow that ended neither on purpose nor by a crash."""
    on_purpose = (runner.ended_why or "").startswith(ENDED_ON_PURPOSE)
    return runner.command == "follow" and runner.ended and not on_purpose


def _of_obstacles(
    facts: Facts, runner: RunnerReport, tables: Sequence[TableReport], verification: VerificationReport
) -> Reasons:
    """The reasons for which the next command cannot succeed."""
    critical, warning = [], []
    if facts.blocked and runner.alive:
        # It was stored when an earlier command ended; a command that finds it again stores it again.
        warning.append(f"was blocked, {runner.command} is running again: {facts.blocked}")
    elif facts.blocked:
        critical.append(f"blocked: {facts.blocked}")
    if not facts.blocked:
        critical += [f"{t.target}: {counted(t.failed_chunks, 'chunk')} failed" for t in tables if t.failed_chunks]
    if verification["status"] == "different" and facts.state in (MIGRATING, VERIFIED):
        critical.append(f"verification found {counted(verification['differences'], 'difference')}")
    if verification["status"] == "equal" and verification["stale"] and facts.state in (MIGRATING, VERIFIED):
        warning.append("the verification is stale")
    return critical, warning


def _of_reads(facts: Facts, runner: RunnerReport) -> Reasons:
    """Reads go to the target before the cutover."""
    if facts.reads is None:
        return [], []
    critical, warning = [], []
    if facts.reads is not ReadsPhase.CLOSING and facts.state != VERIFIED:
        critical.append("reads go to the target, which is no longer verified: redirect them back to the source")
    if facts.reads in MOVING_READS and not runner.alive:
        side = "to the target" if facts.reads is ReadsPhase.OPENING else "back to the source"
        warning.append(f"redirecting the reads {side} is not finished: they may go to either side")
    if facts.staleness is None:
        warning.append("it is not known how far the target is behind for its readers")
    elif facts.reads_limit is not None and facts.staleness > facts.reads_limit:
        limit = f"the limit is {duration(facts.reads_limit)}"
        warning.append(f"the target is up to {duration(math.ceil(facts.staleness))} behind for its readers, {limit}")
    return critical, warning


def of_time(facts: Facts, runner: RunnerReport) -> list[str]:
    """States that have lasted for too long."""
    found = [facts.disk_full] if facts.disk_full is not None else []
    if facts.paused_seconds is not None and facts.paused_seconds > PAUSED_TOO_LONG_SECONDS:
        found.append(f"paused for {duration(facts.paused_seconds)}")
    if facts.throttled[0] > THROTTLED_TOO_LONG_SECONDS:
        found.append(f"throttled for {duration(facts.throttled[0])}: {facts.throttled[1]}")
    if not facts.captured or not facts.planned or runner.alive:
        return found
    if facts.state != CUTOVER and facts.idle_seconds > UNAPPLIED_TOO_LONG_SECONDS:
        found.append(f"no command has applied changes for {duration(facts.idle_seconds)}: the source's log grows")
    reverse = facts.state == CUTOVER and facts.no_rollback is None and facts.switching is None
    if reverse and runner.absent_seconds > UNREVERSED_TOO_LONG_SECONDS:
        found.append(f"no command has applied changes for {duration(runner.absent_seconds)}: the target's log grows")
    return found


# Leave alone, undo -----------------------------------------------------------------------------------


def leave_alone(facts: Facts, runner: RunnerReport, severity: Severity, naming: Naming) -> str:
    """Whether the run may be left without a command."""
    if facts.state in FINAL:
        return "safe: the run is over"
    if facts.switching is not None and not runner.alive and (facts.closing or facts.held is not None):
        return f"{UNSAFE}: {naming.command(facts.ends_switching or facts.switching)}"
    if facts.closing:
        return f"not safe to leave: the {facts.switching} is in progress"
    if facts.reads is not None and not runner.alive:
        fresh = facts.reads is ReadsPhase.OPEN and facts.state == VERIFIED and not facts.blocked
        return f"safe for the data; its readers need {'follow' if fresh else 'cutover --reads-back'}"
    return "safe" if severity is not Severity.CRITICAL else f"safe for the data: the {facts.served} takes writes"


def rollback(facts: Facts, naming: Naming) -> RollbackReport:
    """Whether a rollback is possible, why, and its command."""
    why = _no_rollback(facts)
    if why is not None:
        return {"possible": False, "why": why, "command": None}
    what = "what is written to the target is applied to the source in reverse"
    return {"possible": True, "why": what, "command": naming.command("rollback")}


def _no_rollback(facts: Facts) -> str | None:
    if facts.state != CUTOVER:
        return "cleaned up" if facts.state in FINAL and facts.state != ABORTED else "nothing has switched"
    if facts.switching is not None:
        return f"the {facts.switching} is not finished"
    if facts.ending is not None:
        return f"the {facts.ending} has begun"
    if not facts.captured:
        return "set up with --no-capture: writes are not captured"
    if facts.no_rollback is not None:
        return facts.no_rollback
    return f"blocked: {facts.blocked}" if facts.blocked else None


def undo(facts: Facts, runner: RunnerReport, naming: Naming) -> str:
    """The command that undoes the run's progress, as the report prints it."""
    if facts.state in FINAL:
        return "nothing to undo"
    if facts.closing and not runner.alive:
        return f"none until the {facts.switching} is finished"
    if facts.reads is not None:
        return "cutover --reads-back, then abort"
    if facts.state in (SETUP, MIGRATING, VERIFIED):
        return "abort (the source takes writes)" if facts.switching is None else f"not during the {facts.switching}"
    back = rollback(facts, naming)
    return "rollback (nothing written since is lost)" if back["possible"] else f"not possible: {back['why']}"


# The next command -------------------------------------------------------------------------------------


def next_step(
    facts: Facts, runner: RunnerReport, tables: Sequence[TableReport], verification: VerificationReport, naming: Naming
) -> NextReport:
    """The next action, its exact command (None when there is nothing to do) and the alternatives to it."""
    steps = _steps(facts, runner, tables, verification)
    described: list[StepReport] = [
        {"action": action, "command": None if step is None else naming.command(step)} for action, step in steps
    ]
    hint = "the password is omitted: set PGPASSFILE or PGPASSWORD" if naming.left_out and steps[0][1] else None
    return {**described[0], "alternatives": described[1:], "hint": hint}


#: An action, and the step with its options; None for no command.
Step = tuple[str, str | None]


def _steps(
    facts: Facts, runner: RunnerReport, tables: Sequence[TableReport], verification: VerificationReport
) -> list[Step]:
    paused = facts.paused_seconds is not None
    if facts.state in FINAL:
        return [("nothing to do: the run is over", None)]
    if runner.alive:
        return [_while_running(facts, runner, paused=paused)]
    if facts.switching is not None:
        same = f", with the options for {facts.held} as before" if facts.held is not None else ""
        if facts.ends_switching != facts.switching:
            return [(f"the {facts.switching} cannot be finished: open the closed side again now", facts.ends_switching)]
        return [(f"finish the {facts.switching} now{same}", facts.switching)]
    if facts.ending is not None:
        return [(f"finish the {facts.ending}: run the same command again", facts.ending)]
    continuing = _with_readers(facts, _continuing(facts, runner, tables, verification))
    return [("paused: resume, then continue", "resume"), *continuing] if paused else continuing


def _while_running(facts: Facts, runner: RunnerReport, *, paused: bool) -> Step:
    if paused:
        return "paused; to resume", "resume"
    if facts.reads is not None and facts.reads is not ReadsPhase.CLOSING and facts.state != VERIFIED:
        return f"stop the running {runner.command}, then redirect the reads back to the source", _READS_BACK[1]
    if facts.switching is not None or runner.command in ("cutover", "rollback", "abort", "cleanup"):
        return f"nothing to do: the {facts.switching or runner.command} is running", None
    return "nothing to do; to pause", "pause"


def _continuing(
    facts: Facts, runner: RunnerReport, tables: Sequence[TableReport], verification: VerificationReport
) -> list[Step]:
    """The steps that continue a run for which no command is running."""
    natural = _natural(facts, tables, verification)
    crashed = runner.command is not None and not runner.ended and facts.state in (SETUP, MIGRATING)
    if crashed and runner.command in ("setup", "migrate", "verify", "follow", "abort") and not facts.blocked:
        if runner.command != "migrate" or not copied(tables):
            return [("run the same command again", runner.command)]
    if not facts.blocked:
        first: list[Step] = [("resolve what ended follow, then apply changes", "follow")]
        return [*first, natural[0]] if facts.state == VERIFIED and _follow_failed(runner) else natural
    if facts.state == CUTOVER:
        # The target is serving: an abort would drop it.
        step = None if facts.blocked_command == "abort" else facts.blocked_command
        return [*([("resolve what blocks the run, then", step)] if step else []), _DROP]
    return [("resolve what blocks the run, then", facts.blocked_command or natural[0][1])]


def _natural(facts: Facts, tables: Sequence[TableReport], verification: VerificationReport) -> list[Step]:
    """The steps that the state of the run requires."""
    status = verification["status"]
    if facts.state == SETUP:
        return [("copy the rows", "migrate") if facts.setup_done else ("finish the setup", "setup")]
    if facts.state == MIGRATING and not copied(tables):
        return [("continue copying", "migrate")]
    if status == "different" and facts.state in (MIGRATING, VERIFIED):
        return _repairs(facts)
    if facts.state == MIGRATING or status == "interrupted":
        return [("compare every row", "verify")]
    if facts.state == VERIFIED:
        if verification["stale"]:
            return [("compare every row again", "verify --again")]
        fresh: list[Step] = [("until then, apply changes", "follow")] if facts.captured else []
        if facts.unapproved:
            rehearse: Step = ("measure the write pause in advance", "cutover --dry-run")
            return [("have another role approve the cutover", "approve"), *fresh, rehearse]
        return [("switch when ready", "cutover"), *fresh]
    ready = [("until then, keep the source up to date", "follow"), ("make the source serve again", "rollback")]
    back: list[Step] = [] if _no_rollback(facts) else [*ready]
    return [("when a rollback is no longer wanted, drop what the run created", "cleanup") if back else _DROP, *back]


_DROP: Step = ("drop what the run created", "cleanup")
_READS_BACK: Step = ("redirect the reads back to the source", "cutover --reads-back")


def _with_readers(facts: Facts, steps: Sequence[Step]) -> list[Step]:
    """The steps of a run whose reads go to the target. Steps that change its tables follow the redirection back."""
    if facts.reads is None:
        return list(steps)
    if facts.reads is ReadsPhase.CLOSING or facts.state != VERIFIED or facts.blocked:
        return [_READS_BACK, *steps]
    if facts.reads is ReadsPhase.OPENING:
        return [("finish redirecting the reads to the target", "cutover --reads-first"), _READS_BACK]
    fresh: Step = ("keep the target up to date for its readers", "follow")
    return [fresh, *(step for step in steps if step[1] != "follow"), _READS_BACK]


def _repairs(facts: Facts) -> list[Step]:
    """The steps that repair rows that differ."""
    again = " ".join(f"--restart-table {shell_word(name)}" for name in facts.differing)
    copy = [("copy the tables that differ again", f"migrate {again}")] if again else []
    if facts.captured:
        return [("repair the rows that differ", "verify --repair"), *copy]
    return [*copy, ("when the rows are fixed, compare every row again", "verify --again")]


def facts_of(row: Mapping[str, Any], **more: Any) -> Facts:
    """The facts in a row of the journal, by the names of its columns, and ``more``."""
    names = ("state", "captured", "planned", "setup_done", "phase_seconds", "held", "blocked_command", "ending")
    return Facts(
        **{name: row[name] for name in names},
        phase=known(CutoverPhase, row["cutover_phase"]),
        blocked=row["blocked_reason"],
        idle_seconds=row["idle_seconds"],
        no_rollback=row["no_rollback"],
        **more,
    )
