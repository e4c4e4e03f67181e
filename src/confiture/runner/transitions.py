"""Transitions of a run: the only user of the ``transitions`` package.

The model is a bare object holding the state; nothing is done in callbacks. A transition is one
database transaction of the caller's: fence, fire, compare-and-set, event (docs/journal.md).
https://github.com/pytransitions/transitions
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from transitions import Machine, MachineError

from confiture.errors import ConfitureError, Held, Refused
from confiture.journal import runs
from confiture.journal.model import Run
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.states import EDGES, SCHEMA_TO_SCHEMA, STATES, Edge, Medium


class _Model:
    """The object that holds the machine's state; the machine replaces its methods."""

    state: str

    def trigger(self, name: str) -> bool:  # replaced by the machine
        raise AssertionError(name)


def _edges(medium: Medium) -> list[Edge]:
    return [edge for edge in EDGES if medium in edge.media]


def machine_at(state: str, medium: Medium = SCHEMA_TO_SCHEMA) -> _Model:
    """A model in ``state`` whose triggers are the edges of ``states.py`` that runs of the medium have."""
    model = _Model()
    transitions = [{"trigger": e.trigger, "source": e.source, "dest": e.target} for e in _edges(medium)]
    Machine(
        model=model,
        states=list(STATES),
        transitions=transitions,
        initial=state,
        auto_transitions=False,
        ignore_invalid_triggers=False,
        send_event=True,
        model_override=True,
    )
    return model


@cache
def next_state(state: str, trigger: str, medium: Medium = SCHEMA_TO_SCHEMA) -> str:
    """The state that ``trigger`` leads to from ``state``.

    :raises Refused: when there is no such edge.
    """
    model = machine_at(state, medium)
    try:
        moved = model.trigger(trigger)
    except (MachineError, AttributeError):  # of a trigger that only runs of other media have
        legal = ", ".join(e.trigger for e in _edges(medium) if e.source == state) or "nothing: the run has ended"
        raise Refused(
            f"a run in state {state} does not accept `{trigger}`",
            why=f"from {state} it accepts: {legal}",
            fix="see its state: confiture status",
        ) from None
    if not moved:
        raise ConfitureError(f"the transition {trigger} from {state} did not happen")
    return model.state


def fire(tx: Transaction, run: Run, trigger: str, detail: Mapping[str, object] | None = None) -> str:
    """Move the run along an edge within ``tx``, which already holds the fence; the new state.

    :raises Refused: when the state has no such edge.
    :raises Held: when another process has changed the run's state.
    """
    to_state = next_state(run.state, trigger, run.medium)
    if not runs.move(tx, run, trigger, to_state, detail or {}):
        raise Held(
            f"run {run.short} is no longer in state {run.state}",
            why="another process has changed its state",
            fix="see its state: confiture status",
        )
    return to_state


def advance(context: Context, trigger: str, detail: Mapping[str, object] | None = None) -> None:
    """Move the run of a command along an edge, in a transaction of its own, which is durable then."""
    # The state and its entry in the history become durable together.
    with context.fenced(f"state.{trigger}") as tx:
        fire(tx, runs.get(tx, context.run_id), trigger, detail)
