"""Since PostgreSQL 17 an interval may be infinite. An older server reads its binary form as a finite interval."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.errors import DataFailure
from live import LiveRun
from servers import Databases

ITEM = "CREATE TABLE item (id int PRIMARY KEY, gap interval, gaps interval[], during tstzrange);"
ROWS = "INSERT INTO item SELECT n, n * interval '1 day 1.5 s', ARRAY[interval '-1 mon'] FROM generate_series(1, 9) n;"
INFINITE = {
    "positive": "UPDATE item SET gap = 'infinity' WHERE id = 4",
    "negative": "UPDATE item SET gap = '-infinity' WHERE id = 4",
    "in an array": "UPDATE item SET gaps = '{1 day,infinity}' WHERE id = 4",
}
#: The remedy: what the older server can store.
MAPPING = """
item:
  gap: {source_column: gap, transform: "CASE WHEN isfinite(gap) THEN gap END"}
  gaps: {source_column: gaps, transform: "array_remove(array_remove(gaps, 'infinity'), '-infinity')"}
"""

older = pytest.mark.parametrize("pair", [("17", "16"), ("18", "14")], ids="_to_".join, indirect=True)


@older
@pytest.mark.parametrize("strategy", ["copy", "fdw"])
@pytest.mark.parametrize("change", INFINITE.values(), ids=INFINITE)
def test_an_older_server_gets_no_finite_value_for_an_infinite_one(
    pair: tuple[Databases, Databases], tmp_path: Path, change: str, strategy: str
) -> None:
    live = LiveRun(pair[0], tmp_path, ITEM + ROWS + change, ITEM, apart=pair[1], strategy=strategy)
    live.setup()
    with pytest.raises(DataFailure) as refused:
        live.migrate()
    assert "id = 4" in str(refused.value)
    assert "column gap" in str(refused.value)


@older
def test_a_change_to_infinity_is_not_applied_as_a_finite_value(
    pair: tuple[Databases, Databases], tmp_path: Path
) -> None:
    live = LiveRun(pair[0], tmp_path, ITEM + ROWS, ITEM, apart=pair[1])
    live.up_to_cutover()
    live.source.sql(INFINITE["positive"])
    with pytest.raises(DataFailure) as refused:
        live.follow()
    assert "column gap" in "\n".join(refused.value.lines())
    live.source.sql("UPDATE item SET gap = '1 day' WHERE id = 4")
    live.follow()
    live.cutover()
    live.assert_same(item="SELECT * FROM item")


@older
def test_a_mapping_replaces_infinite_intervals(pair: tuple[Databases, Databases], tmp_path: Path) -> None:
    live = LiveRun(pair[0], tmp_path, ITEM + ROWS + ";".join(INFINITE.values()), ITEM, MAPPING, apart=pair[1])
    live.up_to_cutover()
    assert live.target.rows("SELECT gap, gaps::text FROM item WHERE id = 4") == [(None, '{"1 day"}')]


@pytest.mark.parametrize("pair", [("17", "18"), ("18", "17")], ids="_to_".join, indirect=True)
def test_infinite_intervals_arrive_where_both_servers_know_them(
    pair: tuple[Databases, Databases], tmp_path: Path
) -> None:
    live = LiveRun(pair[0], tmp_path, ITEM + ROWS + ";".join(INFINITE.values()), ITEM, apart=pair[1])
    live.through()
    assert live.target.rows("SELECT gap::text, gaps::text FROM item WHERE id = 4") == [
        ("-infinity", '{"1 day",infinity}')
    ]
