"""The states and their edges, and the machine that is built from them."""

from __future__ import annotations

import itertools

import pytest
from transitions import MachineError

from confiture.errors import Refused
from confiture.runner import transitions
from confiture.states import (
    ABORTED,
    CLEANED,
    CUTOVER,
    EDGES,
    FINAL,
    MEDIA,
    MIGRATING,
    MIGRATIONS,
    SCHEMA_TO_SCHEMA,
    SETUP,
    STATES,
    SYNC,
    VERIFIED,
    Medium,
)

TRIGGERS = sorted({edge.trigger for edge in EDGES})
LEGAL = {(medium, edge.source, edge.trigger): edge.target for edge in EDGES for medium in edge.media}
EVERY = set(itertools.product(MEDIA, STATES, TRIGGERS))


def test_every_edge_joins_known_states_and_has_a_reason() -> None:
    for edge in EDGES:
        assert {edge.source, edge.target} <= set(STATES)
        assert edge.why


def test_a_trigger_leads_from_a_state_to_at_most_one_other() -> None:
    assert len(LEGAL) == sum(len(edge.media) for edge in EDGES)


def test_every_state_is_reachable_from_setup() -> None:
    reached = {SETUP}
    for _ in STATES:
        reached |= {edge.target for edge in EDGES if edge.source in reached}
    assert reached == set(STATES)


def test_only_final_states_have_no_outgoing_edge() -> None:
    assert {state for state in STATES if not any(edge.source == state for edge in EDGES)} == set(FINAL)


@pytest.mark.parametrize(("medium", "state", "trigger"), sorted(LEGAL))
def test_the_machine_accepts_every_edge(medium: Medium, state: str, trigger: str) -> None:
    assert transitions.next_state(state, trigger, medium) == LEGAL[medium, state, trigger]


@pytest.mark.parametrize(("medium", "state", "trigger"), sorted(EVERY - set(LEGAL)))
def test_the_machine_refuses_everything_else(medium: Medium, state: str, trigger: str) -> None:
    with pytest.raises(Refused, match=f"a run in state {state} does not accept `{trigger}`"):
        transitions.next_state(state, trigger, medium)


def test_a_refused_trigger_lists_the_ones_that_the_state_accepts() -> None:
    with pytest.raises(Refused) as refused:
        transitions.next_state(CUTOVER, "abort")
    assert refused.value.why == "from cutover it accepts: rollback, clean"


def test_the_machine_cannot_bypass_its_edges() -> None:
    """The machine has no ``to_STATE`` triggers. An unknown or illegal trigger is an error, not a silent False."""
    model = transitions.machine_at(SETUP)
    assert not any(hasattr(model, f"to_{state}") for state in STATES)
    with pytest.raises((MachineError, AttributeError)):
        model.trigger("to_cleaned")
    with pytest.raises(MachineError):
        model.trigger("clean")
    assert model.state == SETUP


def test_a_run_is_aborted_before_and_cleaned_after_the_cutover_only() -> None:
    moves = [edge for edge in EDGES if SCHEMA_TO_SCHEMA in edge.media]
    aborted_from = {edge.source for edge in moves if edge.target == ABORTED}
    cleaned_from = {edge.source for edge in moves if edge.target == CLEANED}
    assert aborted_from == {SETUP, MIGRATING, VERIFIED}
    assert cleaned_from == {CUTOVER}
    assert {edge.source for edge in moves if edge.target == CUTOVER} == {VERIFIED}


@pytest.mark.parametrize(("medium", "last"), [(SYNC, VERIFIED), (MIGRATIONS, MIGRATING)])
def test_a_run_that_leaves_its_source_alone_ends_without_a_cutover(medium: Medium, last: str) -> None:
    edges = [edge for edge in EDGES if medium in edge.media]
    assert {edge.source for edge in edges if edge.target == CLEANED} == {last}
    assert not any(edge.target == CUTOVER for edge in edges)
