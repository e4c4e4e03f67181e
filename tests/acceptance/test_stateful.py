"""A few examples of the stateful property. ``make gate`` runs two hundred."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from confiture.postgres.embedded import Server
from forked import Forks
from stateful import AnyCommands

#: The number of examples. Each takes several seconds.
EXAMPLES = int(os.environ.get("CONFITURE_EXAMPLES", "3"))


@pytest.mark.timeout(60 * EXAMPLES)
def test_no_sequence_of_commands_and_kills_loses_a_write(server: Server, forks: Forks) -> None:
    here = type("AnythingHere", (AnyCommands,), {"server": server, "forks": forks})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        here,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=12,
            deadline=None,
            derandomize="CONFITURE_EXAMPLES" not in os.environ,
            database=None,
            phases=[Phase.generate],  # no shrinking, because each example takes seconds
            suppress_health_check=list(HealthCheck),
        ),
    )
