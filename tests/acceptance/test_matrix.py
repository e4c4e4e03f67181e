"""A few cases of the kill matrix, selected by a seed. ``make gate`` runs all of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import matrix
from forked import Forks
from servers import Databases

SEED = 20
SINGLE, DOUBLE, SPARE = 3, 1, 5


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", matrix.SCENARIOS)
def test_a_run_killed_anywhere_ends_like_an_uninterrupted_run(
    name: str, databases: Databases, forks: Forks, tmp_path: Path
) -> None:
    scenario = matrix.SCENARIOS[name]
    wanted = matrix.record(databases, tmp_path / "uninterrupted", scenario, forks)
    every = list(matrix.cases(scenario, wanted))
    assert {step for step, hits in wanted.passed.items() if hits["commit.before"] > 20} == set(
        range(len(scenario.steps))
    )
    assert {f"{transaction}.before_commit" for transaction in matrix.BY_NUMBER[name]} <= set().union(
        *wanted.passed.values()
    )
    pick = random.Random(SEED)
    needed = 1 if scenario.killed else SINGLE
    kills = 0
    # A command may not reach a point, because the amount of its work depends on the writers and on the machine's load.
    # With jobs, the points of the runner and of its workers are counted together, and each process passes fewer. A case
    # without a kill proves nothing, so others follow until enough were killed.
    for number, case in enumerate(matrix.doubles(every, pick, DOUBLE) + pick.sample(every, SINGLE + SPARE)):
        if number >= DOUBLE + SINGLE and kills >= needed:
            break
        prepared = matrix.PreparedRun(databases, tmp_path / str(number), scenario, case.step, forks)
        kills += prepared.check(case, wanted, seed=number).kills
    assert kills >= needed
