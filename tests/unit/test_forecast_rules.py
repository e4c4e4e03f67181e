"""The arithmetic of a forecast, and the sizes that operators write."""

from __future__ import annotations

from dataclasses import replace

import pytest

from confiture.catalog_model import Index
from confiture.plan.forecast import Wal, Width, gain, index_bytes, wal_space
from confiture.types import TableRef, parsed_size

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
