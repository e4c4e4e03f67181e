"""``verify --repair`` copies the rows that differ again through catch-up, and then verifies them."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.compare import changed_keys
from confiture.errors import Refused
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE item (shop int, code varchar(10), name text, gone boolean NOT NULL, PRIMARY KEY (code, shop));
CREATE TABLE line (id int PRIMARY KEY, shop int, code varchar(10), n int, FOREIGN KEY (code, shop) REFERENCES item);
INSERT INTO item SELECT n % 7, 'c''' || n, 'n' || n, n % 5 = 0 FROM generate_series(1, 100) n;
INSERT INTO line SELECT n, n % 7, 'c''' || n, n FROM generate_series(1, 100) n;
"""
NEW = """
CREATE TABLE item (shop bigint, code text, name text, PRIMARY KEY (shop, code));
CREATE TABLE gone_item (shop bigint, code text, name text, PRIMARY KEY (shop, code));
CREATE INDEX gone_name ON gone_item (name);
CREATE TABLE line (id bigint PRIMARY KEY, shop bigint, code text, n bigint CHECK (n < 1000));
"""
MAPPING = """
item: {$where: "NOT gone", $omit: [gone]}
gone_item: {$from: item, $where: "gone", $omit: [gone]}
"""
SAME = {
    "item": "SELECT shop, code, name FROM item WHERE NOT gone",
    "gone_item": "SELECT shop, code, name FROM item WHERE gone",
    "line": "SELECT id, shop, code, n FROM line",
}
TAMPERED = {
    "a value": "UPDATE item SET name = 'x' WHERE code = 'c''3'; UPDATE gone_item SET name = NULL WHERE code = 'c''5'",
    "a row that is missing": "DELETE FROM line WHERE id % 3 = 0; DELETE FROM gone_item",
    "a row too many": "INSERT INTO line VALUES (-5, 1, 'x', 1); INSERT INTO item SELECT 3, 'of none', 'x'",
    "a key": "UPDATE item SET shop = shop + 50 WHERE code LIKE 'c''1%'",
}


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    run = LiveRun(databases, tmp_path, OLD, NEW, MAPPING, chunk_rows=30)
    run.setup()
    run.migrate()
    return run


@pytest.mark.parametrize("tampered", TAMPERED.values(), ids=TAMPERED)
def test_rows_that_differ_are_repaired_and_the_run_is_verified(live: LiveRun, tampered: str) -> None:
    live.tamper(tampered)
    assert not live.verify().equal
    assert live.state == "migrating"
    live.source.sql("UPDATE line SET n = n + 1 WHERE id < 10")
    assert live.verify(repair=True).equal
    assert live.state == "verified"
    live.assert_same(**SAME)


def test_a_verified_run_is_repaired_without_again(live: LiveRun) -> None:
    assert live.verify().equal
    live.tamper("DELETE FROM line")
    assert live.verify(repair=True).equal
    assert live.state == "verified"
    live.cutover()
    live.assert_same(**SAME)


def test_difference_that_a_repair_cannot_remove_is_still_reported(live: LiveRun) -> None:
    live.tamper("DELETE FROM line WHERE id = 4")
    live.tamper("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'gone_name'::regclass")
    result = live.verify(repair=True)
    assert [d.subject for d in result.differences] == ["public.gone_item public.gone_name"]
    assert live.state == "migrating"
    assert live.target.value("SELECT count(*) FROM line WHERE id = 4") == 1


def test_follow_compares_changed_keys_and_discards_those_that_agree(
    live: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed_keys, "KEYS_AT_ONCE", 10)
    assert live.verify().equal
    live.source.sql("UPDATE line SET n = n + 1; UPDATE item SET gone = NOT gone")
    live.source.sql("DELETE FROM line WHERE id = 7; DELETE FROM item WHERE code = 'c''7'")
    assert live.follow() > 100
    assert live.target.value("SELECT count(*) FROM confiture.changed_key") == 0
    assert live.state == "verified"
    live.cutover()
    live.assert_same(**SAME)


def test_difference_that_follow_confirms_revokes_the_verification(live: LiveRun) -> None:
    assert live.verify().equal
    live.tamper("UPDATE line SET n = -1 WHERE id IN (8, 9)")
    live.touch("line", 8)
    live.source.sql("UPDATE line SET n = 5 WHERE id = 9")
    live.follow()
    assert live.state == "migrating"
    assert [line for line in live.progress.lines if "public.line id = 8 column n: value differs" in line]
    with pytest.raises(Refused, match="not verified"):
        live.cutover()
    assert live.verify(repair=True).equal
    live.cutover()
    live.assert_same(**SAME)


def test_repair_without_capture_is_refused_with_an_alternative(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW, MAPPING)
    run.setup(capture=False)
    run.migrate()
    with pytest.raises(Refused, match="cannot be repaired") as refused:
        run.verify(repair=True)
    assert "--restart-table" in refused.value.fix
