"""A few cases of the kill matrix, selected by a seed. ``make gate`` runs all of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import matrix
from forked import Forks
from servers import Databases

SEED = 20
SINGLE, DOUBLE = 3, 1


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
    kills = 0
    for number, case in enumerate(pick.sample(every, SINGLE) + matrix.doubles(every, pick, DOUBLE)):
        prepared = matrix.PreparedRun(databases, tmp_path / str(number), scenario, case.step, forks)
        outcome = prepared.check(case, wanted, seed=number)
        kills += outcome.kills
    # A command may not reach a point, because the amount of its work depends on the writers. Most points are reached.
    # With jobs, the points of the runner and of its workers are counted together, and each process passes fewer.
    assert kills >= (1 if scenario.killed else SINGLE)
