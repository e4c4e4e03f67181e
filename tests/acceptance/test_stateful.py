"""A few examples of the stateful property. ``make gate`` runs two hundred."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from confiture.postgres.embedded import Server
from forked import Forks
from stateful import AnyCommands, WithRestores

#: The number of examples. Each takes several seconds.
EXAMPLES = int(os.environ.get("CONFITURE_EXAMPLES", "3"))


def run(machine: type[AnyCommands], **attributes: Server | Forks) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        type("Here", (machine,), attributes),
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


@pytest.mark.timeout(60 * EXAMPLES)
def test_no_sequence_of_commands_and_kills_loses_a_write(server: Server, forks: Forks) -> None:
    run(AnyCommands, server=server, target_server=server, forks=forks)


@pytest.mark.timeout(60 * EXAMPLES)
def test_no_sequence_of_commands_and_restores_loses_a_write(two_servers: tuple[Server, Server], forks: Forks) -> None:
    run(WithRestores, server=two_servers[0], target_server=two_servers[1], forks=forks)
