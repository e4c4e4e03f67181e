"""How many indexes are built at a time, and with which memory and workers."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from confiture.catalog_model import Identity
from confiture.journal.model import DeferredConstraint, DeferredIndex
from confiture.plan.index_builds import of_keys, of_servers
from confiture.schema_to_schema import index_steps
from confiture.types import TableRef

SOURCE = Identity(
    system_identifier="1",
    database="old",
    oid=1,
    version=180000,
    encoding="UTF8",
    collate="C",
    ctype="C",
    locale_provider="c",
    locale=None,
    in_recovery=False,
    fsync=True,
    large_objects=0,
    superuser=False,
    bypasses_row_security=False,
    role="mover",
    may_create=True,
    may_temp=True,
    server_connections=(97, 10),
)
TARGET = replace(SOURCE, system_identifier="2", database="new", role="owner")
GB = 1024 * 1024


@pytest.mark.parametrize(
    ("changed", "asked", "jobs"),
    [
        ({}, None, 2),
        ({}, 1, 1),
        ({}, 16, 16),
        ({}, 256, 82),
        ({"server_connections": (20, 16)}, None, 1),
        ({"server_connections": (20, 20)}, 5, 1),
        ({"role_connections": (8, 0)}, 9, 3),
        ({"role_connections": (8, 0), "superuser": True}, 9, 9),
        ({"database_connections": (8, 1)}, 9, 2),
        ({"system_identifier": "1"}, 256, 77),
        ({"system_identifier": "1", "role": "mover", "role_connections": (12, 0)}, 9, 2),
        ({"system_identifier": "1", "role_connections": (12, 0)}, 9, 7),
    ],
)
def test_jobs_leave_the_connections_that_the_run_needs(
    changed: dict[str, object], asked: int | None, jobs: int
) -> None:
    builds = of_servers(SOURCE, replace(TARGET, **changed), asked)  # type: ignore[arg-type]
    assert builds.jobs == jobs
    assert bool(builds.reduced) == (asked is not None and jobs < asked)


@pytest.mark.parametrize(
    ("changed", "asked", "memory", "workers"),
    [
        # The default settings of a server are kept.
        ({}, None, 64 * 1024, 2),
        ({}, 16, 64 * 1024, 2),
        ({"shared_buffers": 8 * GB}, 8, GB // 2, 2),
        ({"shared_buffers": 64 * GB}, None, GB, 2),
        ({"shared_buffers": 8 * GB, "maintenance_memory": 2 * GB}, 8, 2 * GB, 2),
        ({"parallel_workers": 32}, None, 64 * 1024, 8),
        ({"parallel_workers": 64}, 1, 64 * 1024, 8),
        ({"parallel_workers": 0, "maintenance_workers": 0}, 2, 64 * 1024, 0),
        ({"maintenance_workers": 16}, 4, 64 * 1024, 16),
    ],
)
def test_each_build_has_its_share_and_never_less_than_the_server_gives(
    changed: dict[str, object], asked: int | None, memory: int, workers: int
) -> None:
    builds = of_servers(SOURCE, replace(TARGET, **changed), asked)  # type: ignore[arg-type]
    assert (builds.memory, builds.workers) == (memory, workers)


@pytest.mark.parametrize(("workers", "memory"), [(1, GB), (2, GB), (4, GB // 2), (8, GB // 4), (64, 64 * 1024)])
def test_keys_built_by_several_workers_share_the_memory(workers: int, memory: int) -> None:
    builds = of_keys(replace(TARGET, shared_buffers=4 * GB), workers)
    assert (builds.jobs, builds.memory) == (1, memory)


def test_builds_are_described_by_their_limits() -> None:
    assert str(of_servers(SOURCE, TARGET)) == (
        "2 indexes are built at a time, each with 64 MB of maintenance_work_mem and up to 2 parallel workers"
    )
    odd = replace(TARGET, maintenance_memory=65_537, maintenance_workers=1, parallel_workers=1)
    assert str(of_servers(SOURCE, odd, 1)) == (
        "one index is built at a time, with 65,537 kB of maintenance_work_mem and up to 1 parallel worker"
    )


def test_exclusion_constraints_of_two_tables_are_built_together() -> None:
    items = [
        DeferredConstraint(table=TableRef("s", name), name=f"{name}_x", definition="EXCLUDE USING gist (r WITH &&)")
        for name in ("a", "b")
    ]
    one, other = index_steps.steps(items, {}, of_servers(SOURCE, TARGET, None))
    assert not one.conflicts_with(other)


def test_partitions_are_built_together_and_attached_one_by_one() -> None:
    names = ("p", "p1", "p2", "p21")
    parents = {"p1": "p", "p2": "p", "p21": "p2"}
    items = [
        DeferredIndex(
            table=TableRef("s", name),
            name=f"{name}_i",
            definition=f"CREATE INDEX {name}_i ON s.{name} (id)",
            level=len(name) - 1,
            parent=(TableRef("s", f"{parents[name]}_i")) if name in parents else None,
        )
        for name in names
    ]
    steps = index_steps.steps(items, {}, of_servers(SOURCE, TARGET, None))
    builds = [s for s in steps if s.name.startswith("build of")]
    attached = [s for s in steps if s.name in {f"index {name}_i on s.{name}" for name in parents}]
    assert len(builds) == len(attached) == len(parents)
    assert not any(a.conflicts_with(b) for a, b in combinations(builds, 2))
    assert all(a.conflicts_with(b) for a, b in combinations(attached, 2))
