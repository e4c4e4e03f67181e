"""The files and the ledger together: what each command runs, and which contradictions it refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from confiture.errors import Refused
from confiture.incremental.model import Direction, Entry, Migration, Script
from confiture.incremental.standing import Standing, judged, pending, to_apply, to_record, to_revert

UP, DOWN = Direction.UP, Direction.DOWN


def file(number: int, text: str = "SELECT 1", *, down: bool = True) -> Migration:
    def script(kind: str) -> Script:
        return Script(Path(f"{number}_m.{kind}.sql"), text, True)

    return Migration(number, "m", script("up"), script("down") if down else None)


def entry(number: int, direction: Direction = UP, *, done: bool = True, text: str = "SELECT 1") -> Entry:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    checksum = file(number, text).up.checksum
    return Entry(
        number, "m", direction, done, checksum, None, False, False, "01234567", "r", "a", "1", moment, None, None
    )


def versions(found: tuple[Migration, ...]) -> list[int]:
    return [migration.version for migration in found]


def standings(files: list[Migration], ledger: list[Entry]) -> dict[int, Standing]:
    return {each.version: each.standing for each in judged(files, ledger)}


def test_each_migration_has_its_standing() -> None:
    files = [file(1), file(2), file(3, "SELECT 3"), file(5), file(6), file(7), file(8)]
    ledger = [entry(1), entry(3), entry(4), entry(5, DOWN), entry(6), entry(7, UP, done=False), entry(9, DOWN)]
    assert standings(files, ledger) == {
        1: Standing.APPLIED,
        2: Standing.OUT_OF_ORDER,
        3: Standing.EDITED,
        4: Standing.MISSING,
        5: Standing.OUT_OF_ORDER,
        6: Standing.APPLIED,
        7: Standing.UNFINISHED,
        8: Standing.PENDING,
    }


def test_up_applies_what_is_pending_in_order() -> None:
    every = judged([file(3), file(1), file(2)], [entry(1)])
    assert versions(to_apply(every, None, out_of_order=False)) == [2, 3]
    assert versions(to_apply(every, 2, out_of_order=False)) == [2]
    assert versions(to_apply(every, 1, out_of_order=False)) == []


def test_up_refuses_to_fill_a_gap_unless_asked_to() -> None:
    every = judged([file(1), file(2), file(3)], [entry(2)])
    with pytest.raises(Refused, match="1 migration would be applied out of order") as raised:
        to_apply(every, None, out_of_order=False)
    assert raised.value.why == "1_m is not applied, and 2 is"
    assert versions(to_apply(every, None, out_of_order=True)) == [1, 3]


def test_up_names_every_edited_and_every_missing_file() -> None:
    every = judged([file(1, "SELECT 2"), file(3)], [entry(1), entry(2)])
    with pytest.raises(Refused, match="not those that were applied") as raised:
        to_apply(every, None, out_of_order=False)
    edited, missing = raised.value.why.splitlines()
    assert file(1, "SELECT 2").up.checksum in edited
    assert file(1).up.checksum in edited
    assert missing == "the file of 2_m, which is applied, is missing"


def test_up_continues_an_unfinished_migration_first() -> None:
    every = judged([file(1), file(2), file(3)], [entry(2, UP, done=False)])
    assert versions(to_apply(every, None, out_of_order=False)) == [2, 1, 3]
    with pytest.raises(Refused, match="2_m is partly applied"):
        to_apply(every, 1, out_of_order=False)


def test_up_leaves_a_partly_reverted_migration_to_down() -> None:
    with pytest.raises(Refused, match="1_m is partly reverted"):
        to_apply(judged([file(1)], [entry(1, DOWN, done=False)]), None, out_of_order=False)


def test_down_reverts_the_newest_first() -> None:
    every = judged([file(1), file(2), file(3), file(4)], [entry(1), entry(2), entry(3)])
    assert [each.version for each, _ in to_revert(every, 1, None)] == [3]
    assert [each.version for each, _ in to_revert(every, 2, None)] == [3, 2]
    assert [each.version for each, _ in to_revert(every, 1, 1)] == [3, 2]
    assert [each.version for each, _ in to_revert(every, 1, 0)] == [3, 2, 1]


def test_down_reverts_an_unfinished_migration_before_all_others() -> None:
    every = judged([file(1), file(2)], [entry(1, UP, done=False), entry(2)])
    assert [each.version for each, _ in to_revert(every, 2, None)] == [1, 2]
    with pytest.raises(Refused, match="1_m is unfinished"):
        to_revert(every, 1, 1)


def test_down_names_every_missing_file_before_it_reverts_one() -> None:
    every = judged([file(1), file(2, down=False), file(3)], [entry(1), entry(2), entry(3), entry(4)])
    with pytest.raises(Refused, match="2 migrations cannot be reverted") as raised:
        to_revert(every, 9, None)
    assert raised.value.why.splitlines() == ["4_m.down.sql is missing", "2_m.down.sql is missing"]
    with pytest.raises(Refused, match="no migration 7"):
        to_revert(every, 1, 7)


def test_baseline_records_what_the_database_has_already() -> None:
    files = [file(1), file(2, "SELECT 2"), file(4), file(5)]
    recorded, discarded = to_record(judged(files, [entry(1), entry(2), entry(3)]), 4)
    assert (versions(recorded), [each.version for each in discarded]) == ([2, 4], [3])


@pytest.mark.parametrize("later", [entry(3), entry(3, DOWN, done=False), entry(1, UP, done=False)])
def test_baseline_is_refused_below_a_later_or_beside_an_unfinished_one(later: Entry) -> None:
    with pytest.raises(Refused, match=r"is unfinished|later migration"):
        to_record(judged([file(1), file(2), file(3)], [later]), 2)


def test_pending_steps_are_ordered_by_their_numbers() -> None:
    assert [step.version for step in pending([file(3), file(1), file(2)], [2])] == [1, 3]
