"""The arithmetic of a forecast, and the sizes that operators write."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from confiture.catalog_model import Index
from confiture.journal.disk import Grown, disk_now
from confiture.plan.forecast import Wal, Width, gain, index_bytes, wal_space
from confiture.types import TableRef, duration, parsed_size

GB = 2**30
WAL = Wal(max_size=GB, keep=0, slot_keep=None, idle_slots=0, archived=False, present=None)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500GB", 500 * 10**9), ("466GiB", 466 * GB), ("1.5 TB", 15 * 10**11), ("7k", 7000), ("12B", 12)],
)
def test_size_is_read_in_thousands_or_in_1024s(text: str, size: int) -> None:
    assert parsed_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1,5GB", "five", "1 GB free", "1e9", "500Gb/s", "١GB"])
def test_text_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parsed_size(text)


def test_wal_is_limited_by_what_the_server_keeps() -> None:
    assert wal_space(WAL, 10 * GB).bytes == GB
    assert wal_space(WAL, GB // 2).bytes == GB // 2
    assert wal_space(replace(WAL, present=GB), 10 * GB).bytes == 0
    assert wal_space(replace(WAL, keep=3 * GB), 10 * GB).bytes == 3 * GB


def test_unused_replication_slot_keeps_all_wal_of_the_run() -> None:
    unlimited = wal_space(replace(WAL, idle_slots=1), 10 * GB)
    assert unlimited.bytes == 10 * GB
    assert "1 unused replication slot keeps it, without max_slot_wal_keep_size" in unlimited.basis
    assert wal_space(replace(WAL, idle_slots=2, slot_keep=4 * GB), 10 * GB).bytes == 4 * GB


def test_repeated_values_make_an_index_smaller() -> None:
    index = replace(Index.of_key(TableRef("public", "t"), "i", ("a",)), is_unique=False)
    few, many = ({"a": Width(8, 0, distinct)} for distinct in (10, -1))
    assert index_bytes(index, 1e6, few) < 0.5 * index_bytes(index, 1e6, many)
    assert index_bytes(replace(index, is_unique=True), 1e6, few) == index_bytes(index, 1e6, many)
    assert index_bytes(index, 0, many) == 0


def test_each_further_process_adds_less_than_the_first() -> None:
    assert gain(0) == gain(1) == 1
    assert 1.5 < gain(2) < 2


def grown(**values: object) -> Grown:
    """A run of which half the rows are copied: 60 of about 120 GB, in an hour, with 100 GB free before it."""
    of = {"expected": 120 * GB, "sorting": 0, "wal": 0, "free": 100 * GB}
    times = {"total_seconds": 7200.0, "copy_seconds": 5000.0}
    found = Grown(datetime.now(UTC), **of, **times, used=60 * GB, share=0.5, seconds=3600.0, built=False)
    return replace(found, **values)  # type: ignore[arg-type]


def test_disk_that_was_stated_shrinks_by_what_was_written() -> None:
    now = disk_now(grown(), None)
    assert (now.expected, now.used, now.free, now.missing) == (120 * GB, 60 * GB, 40 * GB, 20 * GB)
    assert now.full_in_seconds == 2400
    assert now.problem == (
        "the target's disk will be full before the end: about 60.0 GiB more are needed, and 40.0 GiB are free;"
        f" it is full in about {duration(2400)}"
    )


def test_disk_that_is_measured_counts_more_than_what_was_stated() -> None:
    assert disk_now(grown(), 200 * GB).problem is None
    assert disk_now(grown(), 0).missing == 60 * GB


def test_larger_rows_than_expected_raise_the_size_in_the_end() -> None:
    assert disk_now(grown(used=90 * GB), 200 * GB).expected == 180 * GB
    # A few rows prove nothing, and indexes follow rows.
    assert disk_now(grown(used=90 * GB, share=0.04), 200 * GB).expected == 120 * GB


def test_nothing_is_missing_once_everything_is_built() -> None:
    now = disk_now(grown(built=True, share=1.0), None)
    assert (now.missing, now.problem, now.full_in_seconds) == (0, None, None)


def test_unknown_disk_gives_no_warning() -> None:
    now = disk_now(grown(free=None), None)
    assert (now.free, now.missing, now.problem) == (None, 0, None)
