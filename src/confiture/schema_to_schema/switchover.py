"""The parts that a cutover and a rollback share: direction, point of no return, the pooler before the application.

The point of no return is the commit that closes the side which is serving. Whether it is past is read from that side's
write block, never from a record (docs/invariants.md, I-8.8).

A pooler that is paused stays paused when Confiture crashes. Its name is therefore in the journal (the run's option
``poolers``) before it is paused, until it is resumed: the same command then probes it, and a command that does not name
it reports it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import psycopg

from confiture.capture import write_block
from confiture.config import redact
from confiture.errors import Blocked, CannotConnect, ConfitureError, CutoverUnfinished, Refused
from confiture.journal import catch_up, runs
from confiture.journal import source as run_schema
from confiture.journal.model import Run
from confiture.pooler import Pooler
from confiture.postgres.failure import failure
from confiture.postgres.retry import retry, retryable
from confiture.runner.context import Context
from confiture.schema_to_schema import write_pause
from confiture.schema_to_schema.outcomes import Limits
from confiture.schema_to_schema.stopwatch import COMMIT, Stopwatch
from confiture.states import CUTOVER, REOPENED_BY, CutoverPhase

#: In the run's options: the names of the poolers that may be paused.
PAUSED_POOLERS = "poolers"

Side = Literal["source", "target"]


@dataclass(frozen=True, slots=True)
class Direction:
    """From the source to the target (a cutover), or in reverse (a rollback).

    :ivar closes: the side that is serving when the command begins.
    :ivar opens: the side that is serving when it has ended.
    :ivar pausing: its phase while the pooler is paused.
    :ivar resumed: its phase when the pooler is resumed.
    :ivar aborted_phase: the phase after an abort before the point of no return.
    """

    command: Literal["cutover", "rollback"]
    closes: Side
    opens: Side
    pausing: CutoverPhase
    resumed: CutoverPhase
    aborted_phase: CutoverPhase | None

    @property
    def reopened_by(self) -> str:
        """The command that opens ``closes`` again, where ``opens`` has lost changes."""
        return REOPENED_BY[self.command]


FORWARD = Direction("cutover", "source", "target", CutoverPhase.PAUSING, CutoverPhase.RESUMED, None)
REVERSE = Direction(
    "rollback",
    "target",
    "source",
    CutoverPhase.ROLLBACK_PAUSING,
    CutoverPhase.ROLLBACK_RESUMED,
    CutoverPhase.DONE,
)


@dataclass(frozen=True, slots=True)
class Remaining:
    """The limits that remain once the pooler is paused: its pause is part of the write pause.

    :ivar until: end of the write pause by ``time.monotonic()``; None when no pooler is paused.
    """

    limits: Limits
    until: float | None = None


# The point of no return ----------------------------------------------------------------------------


def is_past_point_of_no_return(context: Context, direction: Direction) -> bool:
    """Whether the side that was serving is closed. The command can then only be completed, not aborted."""
    session = context.source if direction.closes == "source" else context.target
    with session.transaction(read_only=True) as tx:
        return write_block.is_blocked(tx, context.schema)


def lacks_closing(context: Context, direction: Direction) -> bool:
    """Whether the side that is to be opened has lost the last commit before the other side was closed.

    Both sides have the number of the closing: the side to be opened in its last commit before, the side that was
    serving in the commit that closed it. A side that lacks the number lacks rows (docs/invariants.md, I-8.12).
    """
    return retry(lambda: _lacks_closing(context, direction))


def lost_closing(direction: Direction) -> Blocked:
    """The error for a side that lacks the closing, with the command that opens the other side again."""
    return Blocked(
        f"the {direction.opens} has lost changes since the {direction.closes} was closed, so that it is not opened",
        why="it crashed with commits not on disk, was failed over, or was restored from a backup",
        fix=f"the {direction.closes} has every row: {direction.reopened_by} opens it again",
        step=direction.reopened_by,
    )


def _lacks_closing(context: Context, direction: Direction) -> bool:
    with context.source.transaction(read_only=True) as source, context.target.transaction(read_only=True) as target:
        if direction.opens == "target":
            opened = runs.get(target, context.run_id).state == CUTOVER
            return not opened and catch_up.last(target, context.run_id) != run_schema.last_pass(source, context.schema)
        opened = not write_block.is_blocked(source, context.schema)
        known = catch_up.last_reverse(target, context.run_id)
        return not opened and run_schema.last_reverse_pass(source, context.schema).number != known


def was_passed_despite(context: Context, direction: Direction, error: psycopg.Error | CannotConnect) -> bool:
    """Whether the commit at the point of no return took place, after its connection was lost with ``error``.

    :raises CutoverUnfinished: when the side that was serving cannot be read.
    """
    if not retryable(error):
        return False
    with unfinished_on_lost_connection(direction):
        # The server may still be executing a COMMIT whose connection is lost: end that session first.
        retry(lambda: context.end_beside(direction.closes))
        return retry(lambda: is_past_point_of_no_return(context, direction))


@contextmanager
def unfinished_on_lost_connection(direction: Direction) -> Iterator[None]:
    """For the work after the point of no return: a lost connection leaves the command unfinished, not failed.

    :raises CutoverUnfinished: in place of an error that a retry resolves.
    """
    try:
        yield
    except (psycopg.Error, CannotConnect) as error:
        if not retryable(error):
            raise
        raise CutoverUnfinished(
            f"the {direction.command} is not finished: a connection was lost after the point of no return",
            why=redact(str(error)).strip().splitlines()[0],
            fix="run the same command again immediately: it continues",
        ) from error


def set_phase(context: Context, phase: CutoverPhase | None, paused: Sequence[str] = ()) -> None:
    """Record the phase for ``status``, and the names of the poolers that may be paused from now on."""
    # Durable together: the phase and the names.
    with context.fenced("pooler.phase") as tx:
        run = runs.get(tx, context.run_id)
        options = {k: v for k, v in run.options.items() if k != PAUSED_POOLERS}
        if paused:
            options[PAUSED_POOLERS] = list(paused)
        runs.update(tx, context.run_id, cutover_phase=phase, options=options)


# The poolers ---------------------------------------------------------------------------------------


def paused_poolers(run: Run) -> tuple[str, ...]:
    """The names of the poolers that an earlier command may have left paused."""
    return tuple(run.options.get(PAUSED_POOLERS, ()))


def refuse_unnamed_poolers(context: Context, named: Sequence[str], direction: Direction) -> None:
    """:raises Refused: when an earlier command left a pooler paused that this command does not name."""
    left = [name for name in paused_poolers(context.run()) if name not in named]
    if left:
        raise Refused(
            f"an earlier {direction.command} stopped while it had paused the application's connections",
            why=f"it had paused {' and '.join(left)}",
            fix="run it again with the same --pgbouncer and --pool:"
            f" the pool is resumed and the {direction.command} continues",
        )


def resume_leftover(context: Context, pooler: Pooler, direction: Direction) -> None:
    """Resume poolers that a crash left paused, before the work that takes long."""
    if paused_poolers(context.run()):
        pooler.resume()
        set_phase(context, direction.aborted_phase)


@contextmanager
def paused(
    context: Context, pooler: Pooler | None, limits: Limits, direction: Direction, watch: Stopwatch
) -> Iterator[Remaining]:
    """Pause the poolers for the block. They stay paused when the block succeeds, until :func:`redirect`.

    When the block fails before the point of no return, they are resumed.

    :param watch: of the write pause, which begins here when there is a pooler.
    """
    if pooler is None:
        yield Remaining(limits)
        return
    set_phase(context, direction.pausing, pooler.names)
    until = time.monotonic() + limits.max_write_pause
    try:
        watch.start()
        pooler.pause(until)
        watch.lap("pause the pooler")
        seconds = max(0.0, until - time.monotonic())
        yield Remaining(replace(limits, give_up_after=min(limits.give_up_after, seconds)), until)
    except BaseException:
        _resume_if_open(context, pooler, direction)
        raise


def _resume_if_open(context: Context, pooler: Pooler, direction: Direction) -> None:
    """Resume before the point of no return only: after it, the pooler would connect to a closed database."""
    try:
        fenced = context.fenced_source if direction.closes == "source" else context.fenced
        # Nothing is durable here. Fenced, because a runner that has taken this run over may have paused the pooler.
        with fenced("pooler.probe") as tx:
            closed = write_block.is_blocked(tx, context.schema)
        if not closed:
            pooler.resume()
            set_phase(context, direction.aborted_phase)
            return
    except (psycopg.Error, ConfitureError) as error:
        known = failure(error, "resuming the pool") if isinstance(error, psycopg.Error) else error
        context.progress.say(f"{' and '.join(pooler.names)}: not resumed: {': '.join(known.lines()[:2])}")
    context.progress.say(f"{' and '.join(pooler.names)} may still be paused: run the same command again")


def resume(context: Context, pooler: Pooler | None, direction: Direction, watch: Stopwatch, limits: Limits) -> None:
    """Redirect the pooler to the side that is open now, and record the write pause, which has ended then.

    :raises CutoverUnfinished: as :func:`redirect`.
    """
    if watch.began is not None and watch.last != COMMIT:
        watch.lap(f"open the {direction.opens}")  # its prepared opening was lost
    retry(lambda: redirect(context, pooler, direction))
    if watch.began is not None and pooler is not None:
        watch.lap("redirect the pooler")
    retry(lambda: write_pause.record(context, direction.command, watch, limits))


def redirect(context: Context, pooler: Pooler | None, direction: Direction) -> None:
    """Connect the application to the side that is open now, and resume its transactions.

    :raises CutoverUnfinished: when a pooler is not redirected yet; the same command tries again.
    """
    if pooler is None:
        return
    errors = pooler.redirect()
    done = set(pooler.names) - errors.keys()
    run = context.run()
    left = [name for name in paused_poolers(run) if name not in done]
    set_phase(context, run.cutover_phase if left else direction.resumed, left)
    for error in errors.values():
        raise CutoverUnfinished(
            f"the {direction.opens} is serving, but {' and '.join(errors)} is not redirected to it yet",
            why=" ".join(error.lines()[:2]),
            fix=f"run the same command again; {error.fix}",
        )


def refuse_paused_poolers(context: Context, direction: Direction) -> None:
    """:raises CutoverUnfinished: when the other side is serving, and a pooler is paused that was not named."""
    left = paused_poolers(context.run())
    if left:
        raise CutoverUnfinished(
            f"the {direction.opens} is serving, but the application's connections are still paused",
            why=f"the {direction.command} stopped while it had paused {' and '.join(left)}",
            fix="run the same command with the same --pgbouncer and --pool:"
            f" the pool is redirected to the {direction.opens} and resumed",
        )
