"""The gate before the application around a cutover or a rollback: held before the lock, led over after the opening.

A gate that is held outlives us. So what we are about to hold is in the journal first (``options.gate``), and
stays there until it is let go: the same command probes it, and a command that does not name it says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import psycopg

from confiture.capture import write_block
from confiture.config import redact
from confiture.errors import CannotConnect, ConfitureError, CutoverUnfinished, Refused
from confiture.failpoints import failpoint
from confiture.journal import runs
from confiture.pooler import Pooler
from confiture.postgres.retry import retry, retryable
from confiture.runner.context import Context
from confiture.schema_to_schema.table_lock import Limits

#: In the run's options: the name of the gate that may be held.
OPTION = "gate"

Side = Literal["source", "target"]


@dataclass(frozen=True, slots=True)
class Way:
    """One of the two directions.

    :ivar prefix: of its phases in the journal.
    :ivar given_up: the phase when nothing was closed after all.
    """

    command: str
    closes: Side
    opens: Side
    prefix: str
    given_up: str | None


FORTH = Way("cutover", "source", "target", "", None)
BACK = Way("rollback", "target", "source", "rollback ", "done")


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of the limits once the gate is held, whose holding is part of the write pause.

    :ivar until: by ``time.monotonic()``; None where nothing is held yet.
    """

    limits: Limits
    until: float | None = None


def set_phase(context: Context, phase: str | None, held: Pooler | None) -> None:
    """Write down how far it is, and which gate may be held from here on."""
    with context.fenced() as tx:
        run = runs.get(tx, context.run_id)
        options = {k: v for k, v in run.options.items() if k != OPTION}
        if held is not None:
            options[OPTION] = held.name
        runs.update(tx, context.run_id, cutover_phase=phase, options=options)
        failpoint("gates.phase.before_commit")


def is_closed(context: Context, way: Way) -> bool:
    """Whether the side that serves at first is: then only forward."""
    session = context.source if way.closes == "source" else context.target
    with session.transaction(read_only=True) as tx:
        return write_block.is_blocked(tx, context.schema)


def passed(context: Context, way: Way, error: psycopg.Error | CannotConnect) -> bool:
    """Whether the point of no return is behind us, after the connection that was to pass it broke.

    :raises CutoverUnfinished: when it cannot be seen.
    """
    if not retryable(error):
        return False
    with only_forward(way):
        # A COMMIT whose connection is lost may be under way still.
        retry(lambda: context.end_beside(way.closes))
        return retry(lambda: is_closed(context, way))


@contextmanager
def only_forward(way: Way) -> Iterator[None]:
    """Behind the point of no return: what a lost connection has interrupted is half-way.

    :raises CutoverUnfinished: in place of an error that passes by itself.
    """
    try:
        yield
    except (psycopg.Error, CannotConnect) as error:
        if not retryable(error):
            raise
        raise CutoverUnfinished(
            f"the {way.command} is half-way: a connection was lost where there is no way back",
            why=redact(str(error)).strip().splitlines()[0],
            fix="run the same command again, at once: it goes on",
        ) from error


def refuse_unnamed(context: Context, way: Way) -> None:
    """:raises Refused: when a gate is held that was not named now."""
    name = context.run().options.get(OPTION)
    if name is not None:
        raise Refused(
            f"an earlier {way.command} was stopped while it held the application's connections",
            why=f"held is {name}",
            fix=f"give the same --pgbouncer and --pool again: it is resumed, and the {way.command} goes on",
        )


def release(context: Context, gate: Pooler, way: Way) -> None:
    """Let go, before the long work, what a crash left held."""
    if context.run().options.get(OPTION) is not None:
        gate.resume()
        set_phase(context, way.given_up, None)


@contextmanager
def held(context: Context, gate: Pooler | None, limits: Limits, way: Way) -> Iterator[Left]:
    """Hold the gate for the block. When the block fails it is let go again, if nothing was closed."""
    if gate is None:
        yield Left(limits)
        return
    set_phase(context, way.prefix + "pausing", gate)
    until = time.monotonic() + limits.max_write_pause
    try:
        gate.pause(until)
        left = max(0.0, until - time.monotonic())
        yield Left(replace(limits, give_up_after=min(limits.give_up_after, left)), until)
    except BaseException:
        _let_go(context, gate, way)
        raise


def _let_go(context: Context, gate: Pooler, way: Way) -> None:
    """Only before the point of no return: after it the gate would lead to a closed database."""
    try:
        with context.fenced_source() if way.closes == "source" else context.fenced() as tx:
            closed = write_block.is_blocked(tx, context.schema)
        if not closed:
            gate.resume()
            set_phase(context, way.given_up, None)
            return
    except (psycopg.Error, ConfitureError) as error:
        context.progress.say(f"{type(error).__name__} while letting {gate.name} go")
    context.progress.say(f"{gate.name} may still be paused: run the same command again")


def lead(context: Context, gate: Pooler | None, way: Way) -> None:
    """Once the other side is open: let the application through to it.

    :raises CutoverUnfinished: when it is not led there yet; the same command tries again.
    """
    if gate is None:
        return
    try:
        gate.repoint()
        gate.resume()
    except (Refused, CannotConnect) as error:
        raise CutoverUnfinished(
            f"the {way.opens} serves, but {gate.name} does not lead to it yet",
            why=" ".join(error.lines()[:2]),
            fix=f"run the same command again; {error.fix}",
        ) from None
    set_phase(context, way.prefix + "resumed", None)


def refuse_left(context: Context, way: Way) -> None:
    """:raises CutoverUnfinished: when the other side serves, and a gate is held that was not named."""
    name = context.run().options.get(OPTION)
    if name is not None:
        raise CutoverUnfinished(
            f"the {way.opens} serves, but the application's connections are held still",
            why=f"the {way.command} was stopped while it held {name}",
            fix=f"run the same command with the same --pgbouncer and --pool: it is led to the {way.opens} and resumed",
        )
