"""pgbench and other writers write during a whole run: no write that was acknowledged to them is lost.

``benchmarks/nothing_lost.py`` is the long form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import books
from books import Pgbench, Shop
from forked import Forks
from live import LiveRun
from servers import Databases

pytestmark = pytest.mark.xdist_group("books_balance")  # one worker runs its move, once

KILLED = -9
#: The points at which ``migrate`` and each repetition of it are killed: in copies, passes and compactions.
KILLS = (
    "copy.before_commit:3",
    "copy.after_commit:4",
    "compact.before_commit:1",
    "catchup.after_target_commit:1",
    "catchup.before_source_commit:2",
)


@pytest.fixture(scope="module")
def pgbench() -> Path:
    found = books.find_pgbench()
    if found is None:
        pytest.skip("pgbench is not installed (neither in PATH nor beside pg_config --bindir)")
    return found


@pytest.fixture
def bank(databases: Databases, tmp_path: Path, pgbench: Path) -> LiveRun:
    """A run from the tables of pgbench and of ``Shop`` to a target with other names and types."""
    live = LiveRun(databases, tmp_path, "", books.NEW, books.MAPPING, chunk_rows=2_000)  # a compaction is due
    books.prepare(pgbench, live.source.conninfo, scale=1)
    return live


class Writers:
    """All writers of the source."""

    def __init__(self, program: Path, conninfo: str) -> None:
        # The rate is limited, so that the machine has capacity for the run.
        self.pgbench = Pgbench(program, conninfo, rate=300)
        self.shops = [Shop(conninfo, seed, pause=0.005) for seed in (1, 2)]
        for shop in self.shops:
            shop.start()

    def assert_refused_with_nothing_lost(self, live: LiveRun) -> None:
        """Check that the cutover refused the writers and that the target has every acknowledged write."""
        processed = self.pgbench.ended()
        for shop in self.shops:
            shop.join(timeout=30)
            assert isinstance(shop.refused, psycopg.errors.ReadOnlySqlTransaction)
            assert shop.writes
        assert "no longer takes writes" in self.pgbench.errors
        found = books.audit(live.target.rows, self.shops, processed)
        assert processed
        assert found.lost == []
        assert len(set(found.sums)) == 1, found
        # The last transaction of each client may have committed without an acknowledgement.
        assert processed <= found.entries <= processed + 4
        assert found.balanced

    def stop(self) -> None:
        self.pgbench.kill()
        for shop in self.shops:
            shop.stop()


@pytest.fixture
def writers(bank: LiveRun, pgbench: Path) -> Iterator[Writers]:
    """Writers that begin before the setup and stop when the source refuses them."""
    started = Writers(pgbench, bank.source.conninfo)
    yield started
    started.stop()


def test_no_write_is_lost_while_pgbench_writes_during_the_whole_run(bank: LiveRun, writers: Writers) -> None:
    bank.up_to_cutover()
    bank.cutover()
    writers.assert_refused_with_nothing_lost(bank)


def test_no_write_of_pgbench_is_lost_if_migrate_is_killed_repeatedly(
    bank: LiveRun, writers: Writers, forks: Forks
) -> None:
    bank.setup()
    arguments = ["migrate", "schema-to-schema", "migrate", "--target", bank.target.conninfo]
    for point in KILLS:
        died = forks.run(arguments, bank.project, CONFITURE_FAILPOINT=point)
        assert died.code == KILLED, f"{point}: exit {died.code}\n{died.err}"
    bank.migrate()
    assert bank.verify().equal
    bank.cutover()
    writers.assert_refused_with_nothing_lost(bank)
