"""The states and their edges, and the machine that is made from them."""

from __future__ import annotations

import itertools

import pytest
from transitions import MachineError

from confiture.errors import Refused
from confiture.runner import transitions
from confiture.states import ABORTED, CLEANED, CUTOVER, EDGES, FINAL, MIGRATING, SETUP, STATES, VERIFIED

TRIGGERS = sorted({edge.trigger for edge in EDGES})
LEGAL = {(edge.source, edge.trigger): edge.target for edge in EDGES}


def test_every_edge_joins_known_states_and_says_why() -> None:
    for edge in EDGES:
        assert {edge.source, edge.target} <= set(STATES)
        assert edge.why


def test_no_state_leads_two_ways_by_one_trigger() -> None:
    assert len(LEGAL) == len(EDGES)


def test_every_state_is_reached_from_setup() -> None:
    reached = {SETUP}
    for _ in STATES:
        reached |= {edge.target for edge in EDGES if edge.source in reached}
    assert reached == set(STATES)


def test_a_run_that_is_over_stays_over_and_no_other_is_a_dead_end() -> None:
    assert {state for state in STATES if not any(edge.source == state for edge in EDGES)} == set(FINAL)


@pytest.mark.parametrize(("state", "trigger"), sorted(LEGAL))
def test_the_machine_takes_every_edge(state: str, trigger: str) -> None:
    assert transitions.next_state(state, trigger) == LEGAL[state, trigger]


@pytest.mark.parametrize(("state", "trigger"), sorted(set(itertools.product(STATES, TRIGGERS)) - set(LEGAL)))
def test_the_machine_takes_nothing_else(state: str, trigger: str) -> None:
    with pytest.raises(Refused, match=f"a run in state {state} does not take `{trigger}`"):
        transitions.next_state(state, trigger)


def test_a_refused_trigger_names_those_the_state_takes() -> None:
    with pytest.raises(Refused) as refused:
        transitions.next_state(CUTOVER, "abort")
    assert refused.value.why == "from cutover it takes: rollback, clean"


def test_the_machine_has_no_way_around_its_edges() -> None:
    """No ``to_STATE`` triggers, and an unknown or illegal trigger is an error, not a silent False."""
    model = transitions.machine_at(SETUP)
    assert not any(hasattr(model, f"to_{state}") for state in STATES)
    with pytest.raises((MachineError, AttributeError)):
        model.trigger("to_cleaned")
    with pytest.raises(MachineError):
        model.trigger("clean")
    assert model.state == SETUP


def test_after_the_cutover_nothing_is_aborted_and_before_it_nothing_is_cleaned() -> None:
    aborted_from = {edge.source for edge in EDGES if edge.target == ABORTED}
    cleaned_from = {edge.source for edge in EDGES if edge.target == CLEANED}
    assert aborted_from == {SETUP, MIGRATING, VERIFIED}
    assert cleaned_from == {CUTOVER}
    assert {edge.source for edge in EDGES if edge.target == CUTOVER} == {VERIFIED}
