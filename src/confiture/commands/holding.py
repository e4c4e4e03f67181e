"""Hold the run for a command: refuse a command that cannot run now, and record what blocks the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from confiture.commands.databases import find_run, refuse_other, source_of, target_of
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints, next_command
from confiture.commands.hooks import announced
from confiture.config import redact
from confiture.errors import Blocked, ConfitureError, CutoverUnfinished, DataFailure, Drained, Held, Refused, UsageError
from confiture.journal import runs, steps
from confiture.journal import source as run_schema
from confiture.journal.model import Run
from confiture.plan import privileges
from confiture.plan.model import plan_from_json
from confiture.postgres.failure import failure
from confiture.postgres.retry import retryable
from confiture.runner.context import Context
from confiture.runner.lease import hold, runner_sessions
from confiture.runner.progress import Progress
from confiture.schema_to_schema import reads, setup, switchover
from confiture.schema_to_schema.preconditions import databases
from confiture.states import CUTOVER, FINAL, MIGRATING, VERIFIED
from confiture.types import shell_word

#: Errors that the operator has caused and reads, or that leave the run to another command: no event.
_OF_THE_OPERATOR = (Refused, UsageError, Held, Drained)


@contextmanager
def hold_run(where: Endpoints, command: str, progress_: Progress) -> Iterator[tuple[Context, Run]]:
    """Hold the target's run for the block, with its sessions and its lease.

    :raises Refused: when the run is over, another database is named, or another command must be finished first.
    :raises Held: when another process holds the run.
    """
    target = target_of(where)
    run = find_run(target)
    if run.state in FINAL:
        raise Refused("the run is over", why=f"run {run.short} is {run.state}", fix="a new setup starts a new run")
    source = source_of(run, where)
    with runner_sessions(source, target, run) as (src, tgt):
        here, there = setup.identity_in(src), setup.identity_in(tgt)
        refuse_other(run, "source", run.source_identity, here)
        refuse_other(run, "target", run.target_identity, there)
        databases.check(here, there, accept_fsync_off=bool(run.options.get("accept_fsync_off")))
        missing = setup.missing_privileges(here, there, target)
        if missing:
            raise privileges.refusal(missing)
        with translated(command), hold(src, tgt, run, command, progress_, announced(where.hooks)) as context:
            run = context.run()
            refuse_ending(context, run, command, where)
            _refuse_halfway(context, run, command, where)
            _refuse_below_readers(context, run, command)
            with storing_blocks(context, command, where):
                context.check_writes()
                if command not in ("abort", "cleanup", reads.BACK):
                    refuse_lost_schema(context, run)
                yield context, run


@contextmanager
def storing_blocks(context: Context, command: str, where: Endpoints) -> Iterator[None]:
    """Record an error of the block: as what blocks the run, if the same command would meet it again, or as an event."""
    try:
        yield
    except Exception as error:
        # If the target is lost too, report the original error rather than the failure to record it.
        with contextlib.suppress(psycopg.Error, ConfitureError):
            if isinstance(error, (ConfitureError, psycopg.Error)) and _blocks(error):
                explained = failure(error, f"running {command}") if isinstance(error, psycopg.Error) else error
                _store_block(context, explained, command, where)
            elif not isinstance(error, _OF_THE_OPERATOR):
                _note_failure(context, error, command)
        raise


def _note_failure(context: Context, error: Exception, command: str) -> None:
    kind = "unfinished" if isinstance(error, CutoverUnfinished) else "failed"
    # Durable: the event, for those who are notified. Its detail has no text of the error, which may contain a value.
    with context.fenced("failed") as tx:
        detail = {"command": command, "error": type(error).__name__}
        runs.note(tx, context.run_id, context.epoch, kind, detail)


def _blocks(error: ConfitureError | psycopg.Error) -> bool:
    """Whether the same command would meet the error again: a fact, a failing statement or a missing privilege."""
    if isinstance(error, (Blocked, DataFailure)):
        return True
    cause = error.__cause__ if isinstance(error, Refused) else error
    cancelled = isinstance(cause, psycopg.errors.QueryCanceled)
    return isinstance(cause, psycopg.Error) and not retryable(cause) and not cancelled


def _store_block(context: Context, error: ConfitureError, command: str, where: Endpoints) -> None:
    run = context.run()
    step = command
    if isinstance(error, Blocked):
        step = _continuing(error, run) or command
        if error.step is not None:
            error.fix = f"{error.fix}: {where.naming.command(step)}" if error.fix else where.naming.command(step)
    # The reason and the step that resolves it become durable together.
    with context.fenced("blocked") as tx:
        reason = " ".join(": ".join(filter(None, (error.what, error.why))).split())
        runs.block(tx, run.id, context.epoch, redact(reason), step)


def _continuing(error: Blocked, run: Run) -> str | None:
    """The step that continues a blocked run, with the target tables and the mapping file of the run."""
    if error.restart and run.plan is not None:
        targets = [t.target for t in plan_from_json(run.plan).tables if str(t.source) in error.restart]
        if targets:
            return " ".join(["migrate", *(f"--restart-table {shell_word(str(t))}" for t in targets)])
    if error.step is None or run.mapping_file is None:
        return error.step
    return error.step.replace("--mapping FILE", f"--mapping {shell_word(run.mapping_file)}")


def unblock(context: Context, command: str) -> None:
    """Clear what blocked the run: a command that checks everything has found nothing.

    Verification does not check the numbers of the passes, so it does not clear a block that only an abort resolves.
    """
    run = context.run()
    if run.blocked_reason is not None and not (command == "verify" and run.blocked_command == "abort"):
        # Durable together: the reason and the step of the block are cleared.
        with context.fenced("unblocked") as tx:
            runs.unblock(tx, run.id)


def refuse_ending(context: Context, run: Run, command: str, where: Endpoints) -> None:
    """:raises Refused: when another command has begun to drop what the run created."""
    with context.target.transaction(read_only=True) as tx:
        ending = steps.ending(tx, run.id)
    if ending is not None and ending != command:
        raise Refused(
            f"the {ending} of run {run.short} is not finished",
            why="part of what the run needs has been dropped",
            fix=next_command(ending, where),
        )


def refuse_lost_schema(context: Context, run: Run) -> None:
    """:raises Blocked: when the source has lost the schema of the run, which setup has created there."""
    with context.source.transaction(read_only=True) as source, context.target.transaction(read_only=True) as target:
        exists = run_schema.exists(source, context.schema)
        created = steps.is_done(target, run.id, "setup", setup.SOURCE_SCHEMA)
    if created and not exists:
        raise Blocked(
            "the source no longer has the schema of the run",
            why="the source was restored to before the setup, or the target to before an abort or a cleanup",
            fix="end this run",
            step="cleanup" if run.state == CUTOVER else "abort",
        )


def _refuse_halfway(context: Context, run: Run, command: str, where: Endpoints) -> None:
    """:raises CutoverUnfinished: when another command has closed one database and not opened the other yet."""
    live, phase = run.options.get("capture"), run.cutover_phase
    if (
        live
        and run.state in (MIGRATING, VERIFIED)
        and command != "cutover"
        and switchover.is_past_point_of_no_return(context, switchover.FORWARD)
    ):
        if command == switchover.FORWARD.reopened_by and switchover.lacks_closing(context, switchover.FORWARD):
            return  # the abort opens the source again
        raise CutoverUnfinished(
            "a cutover is not finished: the source is closed and the target is not open yet",
            why="no other command can run until it is finished",
            fix=next_command("cutover", where),
        )
    if live and run.state == CUTOVER and command != "rollback" and phase is not None and phase.of_rollback:
        if switchover.is_past_point_of_no_return(context, switchover.REVERSE):
            if command == switchover.REVERSE.reopened_by and switchover.lacks_closing(context, switchover.REVERSE):
                return  # the cutover opens the target again
            raise CutoverUnfinished(
                "a rollback is not finished: the target is closed",
                why="no other command can run until it is finished",
                fix=next_command("rollback", where),
            )


def _refuse_below_readers(context: Context, run: Run, command: str) -> None:
    """:raises Refused: when the command would change tables of the target that the application reads."""
    if command == "migrate" or (
        # An abort that opens the source again ends a cutover: nothing else does.
        command == "abort" and not switchover.is_past_point_of_no_return(context, switchover.FORWARD)
    ):
        reads.refuse_below_readers(run, command)
