"""cutover for an application that is stopped: lock, verify again under the lock, switch.

Before the state's commit nothing has happened that the source would notice; after it there is only
forward. The source stays locked against writes until that commit is durable (correctness.md, 8).
"""

from __future__ import annotations

import itertools
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

from psycopg import sql

from confiture import machine, sequences
from confiture.config import Database, redact
from confiture.db import IN_THE_WAY, Session, Transaction, patience
from confiture.errors import CutoverGivenUp, Refused, UsageError
from confiture.faults import failpoint
from confiture.journal import progress, runs, verifications
from confiture.journal.progress import Deferred
from confiture.journal.runs import Run
from confiture.plan import Plan
from confiture.runner import Context, check_source_fence
from confiture.states import SETUP, VERIFIED
from confiture.steps import blockers, foreign_keys, verify
from confiture.steps.blockers import Blocker
from confiture.steps.journaled import Step, run_steps
from confiture.steps.verify import Result
from confiture.types import TableRef, shell_word

#: Seconds between two tries at the lock: the first, the longest, and how much of it is left to chance.
FIRST_WAIT, LONGEST_WAIT, JITTER = 0.2, 5.0, 0.5
#: Seconds within which the server takes autovacuum out of our way (deadlock_timeout and a little).
EVICTION_SECONDS = 3.0

_ENABLE = {"O": "ENABLE TRIGGER", "A": "ENABLE ALWAYS TRIGGER", "R": "ENABLE REPLICA TRIGGER"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to wait for the source's locks, each try and all together; and to hold writers up under them.

    :ivar terminate_blockers: end the sessions in the way once a try has failed.
    """

    lock_timeout: float = 0.5
    give_up_after: float = 30.0
    max_write_pause: float = 5.0
    terminate_blockers: bool = False


class Differs(CutoverGivenUp):
    """Source and target differ under the lock.

    :ivar result: what the verification found.
    """

    def __init__(self, result: Result) -> None:
        first = result.differences[0] if result.differences else None
        super().__init__(
            "the cutover was given up: source and target differ",
            why=f"{len(result.differences)} under the lock, the first: {first.place}" if first else "the counts differ",
            fix="the source serves on; stop its writes, mend what differs, verify --again",
        )
        self.result = result


def refuse_unverified(run: Run) -> None:
    """:raises Refused: naming the command that comes first."""
    if run.state != VERIFIED:
        first = "migrate" if run.state == SETUP else "verify"
        raise Refused(
            f"the run is in state {run.state}, not verified",
            why="only what was verified is cut over",
            fix=f"confiture migrate schema-to-schema {first} --target {shell_word(run.target_name)}",
        )


def cutover(context: Context, plan: Plan, limits: Limits) -> None:
    """Switch to the target. Killed before the state is written, the source serves on.

    :raises Refused: when the verification is not of this plan.
    :raises CutoverGivenUp: when the lock was not had, or anything differs under it.
    """
    refuse_stale(context, plan)
    _as_declared(context)
    locked(context, plan, limits, lambda source: _under_lock(context, source, plan))


def refuse_stale(context: Context, plan: Plan) -> None:
    """:raises Refused: when the last verification is of another plan, or a server was started again since."""
    with context.target.transaction(read_only=True) as tx:
        last = verifications.latest(tx, context.run_id, "verify")
        run = runs.get(tx, context.run_id)
    why = verify.why_stale(context, plan, last)
    if why is not None:
        target = shell_word(run.target_name) if run is not None else "..."
        raise Refused(
            "the verification is stale",
            why=why,
            fix=f"confiture migrate schema-to-schema verify --target {target}",
        )


def _as_declared(context: Context) -> None:
    """Foreign keys as declared, each in a step of its own, before anything is locked."""
    with context.target.transaction(read_only=True) as tx:
        keys = progress.deferred(tx, context.run_id, "foreign_key")
    steps = [Step(f"foreign key {k.name} on {k.table} as declared", act=_declare(k)) for k in keys]
    run_steps(context, "cutover", steps)


def _table(ref: TableRef) -> sql.Identifier:
    return sql.Identifier(ref.schema, ref.name)


def _declare(item: Deferred) -> Callable[[Context, Transaction], None]:
    def act(context: Context, tx: Transaction) -> None:
        foreign_keys.put_back(tx, item)
        progress.set_deferred(tx, context.run_id, item, "back")

    return act


@dataclass(frozen=True, slots=True)
class Locking:
    """What is locked against writes: the tables, as SQL and by name, and who checks its fence."""

    side: str
    tables: sql.Composable
    refs: tuple[TableRef, ...]
    fence: Callable[[Transaction], None]


def locked(context: Context, plan: Plan, limits: Limits, act: Callable[[Transaction], None]) -> None:
    """Run ``act`` under the source's lock and commit; whatever it raises releases the source untouched."""
    refs = tuple(t.source for t in plan.tables)
    what = Locking("source", verify.lock_list(plan), refs, partial(_source_fence, context))
    with context.beside("cutover") as locker:
        _try_locked(context, locker, what, limits, act)


def locked_target(context: Context, plan: Plan, limits: Limits, act: Callable[[Transaction], None]) -> None:
    """The same on the target, for a rollback."""
    refs = tuple(t.target for t in plan.tables)
    tables = sql.SQL(", ").join(map(_table, refs))
    what = Locking("target", tables, refs, lambda tx: runs.fence(tx, context.run_id, context.epoch))
    with context.beside("rollback", side="target") as locker:
        _try_locked(context, locker, what, limits, act)


def _source_fence(context: Context, tx: Transaction) -> None:
    check_source_fence(tx, context.schema, context.epoch)


def _try_locked(
    context: Context, locker: Session, what: Locking, limits: Limits, act: Callable[[Transaction], None]
) -> None:
    deadline = time.monotonic() + limits.give_up_after
    for tried in itertools.count():
        context.check_lease()
        try:
            with locker.transaction() as tx:
                what.fence(tx)
                _lock(tx, what, limits, deadline)
                failpoint("cutover.locked")
                # Somebody may wait for our lock whom our other sessions would wait for: let him go first.
                with patience(limits.lock_timeout):
                    act(tx)
            return
        except IN_THE_WAY:
            _make_way(context, what, limits, deadline, tried)


def _make_way(context: Context, what: Locking, limits: Limits, deadline: float, tried: int) -> None:
    """After a try that failed: name who is in the way, end or outwait them, give up past the deadline."""
    found = blockers.find(context, what.side, what.refs)
    if time.monotonic() >= deadline:
        raise _not_locked(found, what, limits)
    if limits.terminate_blockers and blockers.end(context, what.side, found):
        return
    context.progress.say(f"waiting for locks held by {blockers.told(found) or 'somebody'}")
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2**tried)
    time.sleep(min(random.uniform(JITTER, 1.0) * longest, max(0.0, deadline - time.monotonic())))


def _not_locked(found: Sequence[Blocker], what: Locking, limits: Limits) -> CutoverGivenUp:
    endable = any(b.can_be_ended for b in found) and not limits.terminate_blockers
    option = "; --terminate-blockers ends such sessions" if endable else ""
    return CutoverGivenUp(
        f"given up: the {what.side}'s tables could not be locked",
        why=f"in the way: {blockers.told(found) or 'sessions that ended meanwhile'}",
        fix=f"end them or wait for them, then run the same command again{option}; the {what.side} serves on",
    )


def _lock(tx: Transaction, what: Locking, limits: Limits, deadline: float) -> None:
    if not what.refs:
        return
    patience = max(limits.lock_timeout, deadline - time.monotonic())
    if limits.terminate_blockers:  # who is still in the way after that is to be ended, not outwaited
        patience = min(patience, max(limits.lock_timeout, EVICTION_SECONDS))
    # The first keeps autovacuum away and blocks no writer, so the second waits for writers only.
    for mode, timeout in (("SHARE UPDATE EXCLUSIVE", patience), ("SHARE ROW EXCLUSIVE", limits.lock_timeout)):
        tx.pg.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{ceil(timeout * 1000)}ms")))
        tx.pg.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(what.tables, sql.SQL(mode)))


def _under_lock(context: Context, source: Transaction, plan: Plan) -> None:
    with context.fenced() as tx:  # drawn from since the copy; harmless while the source serves
        sequences.set_all(context.source, tx, plan)
    result = verify.verify(context, plan, purpose="cutover")
    if not result.equal:
        raise Differs(result)
    with context.fenced() as tx:  # sequences, triggers and the state change together
        # A lost connection has lost the lock: this fails then, and the source serves on.
        source.pg.execute("SELECT 1")
        sequences.set_all(context.source, tx, plan)
        for item in progress.deferred(tx, context.run_id, "trigger"):
            enable(tx, item)
            progress.set_deferred(tx, context.run_id, item, "back")
        run = runs.get(tx, context.run_id)
        assert run is not None
        machine.fire(tx, run, "cutover", {"verification": result.number})
        runs.update(tx, context.run_id, writes_served_by="target")
        failpoint("cutover.switch.before_commit")
    failpoint("cutover.switch.after_commit")


def rehearse_declaring(context: Context) -> None:
    """Foreign keys as declared, done once and rolled back."""
    with context.target.rehearsal() as tx:
        runs.fence(tx, context.run_id, context.epoch)
        for key in progress.deferred(tx, context.run_id, "foreign_key"):
            if key.status == "interim":
                foreign_keys.put_back(tx, key)


def rehearse_switch(context: Context) -> None:
    """The changes of the switch in the target, done once and rolled back."""
    with context.target.rehearsal() as tx:
        runs.fence(tx, context.run_id, context.epoch)
        for item in progress.deferred(tx, context.run_id, "trigger"):
            enable(tx, item)


def enable(tx: Transaction, item: Deferred) -> None:
    """A trigger on again, as it was."""
    how = _ENABLE[(item.detail or {}).get("enabled", "O")]
    statement = sql.SQL("ALTER TABLE ONLY {} {} {}")
    tx.pg.execute(statement.format(_table(item.table), sql.SQL(how), sql.Identifier(item.name)))


def hook_arguments(command: str) -> list[str]:
    """The words of a hook, split as a shell would; no shell runs it.

    :raises UsageError: it cannot be split, or there is no such program: known before the cutover.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError("the hook cannot be read", why=f"{error}", fix="quote it as for a shell") from None
    if not words or shutil.which(words[0]) is None:
        raise UsageError(
            "the hook cannot be run",
            why=f"there is no program {words[0] if words else ''!r}",
            fix="name a program in PATH, or by its path; a shell's syntax needs: sh -c '...'",
        )
    return words


def hook_environment(run: str, source: Database, target: Database) -> dict[str, str]:
    """Our own environment without what holds a secret, and where the application is to go."""
    secrets = {*source.secrets, *target.secrets}
    kept = {k: v for k, v in os.environ.items() if k != "PGPASSWORD" and v not in secrets and redact(v) == v}
    return {**kept, "CONFITURE_RUN": run, "CONFITURE_TARGET": target.public, "CONFITURE_TARGET_URL": target.url}


def run_hook(arguments: list[str], environment: dict[str, str]) -> int:
    """Run the operator's command; its exit code, 126 when it could not be started.

    What it prints goes to stderr: stdout is the result of the cutover.
    """
    failpoint("hook.before")
    try:
        code = subprocess.run(arguments, env=environment, stdout=sys.stderr, check=False).returncode
    except OSError:
        code = 126
    failpoint("hook.after")
    return code
