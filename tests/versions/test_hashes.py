"""The hashes of values of each type, on servers of different versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_pairs import NUMBERED, VALUES

import postgres_versions
from confiture import config
from confiture.compare import checksum
from confiture.postgres.session import Session
from live import LiveRun
from servers import Databases

NEWEST = postgres_versions.NEWEST
PAIRS = [(version, NEWEST) for version in NUMBERED if version != NEWEST]
KEY = "CREATE TABLE item (id bigint PRIMARY KEY, name text, uid uuid, small smallint, number int, flag boolean);"


@pytest.mark.parametrize("pair", PAIRS, indirect=True, ids="_to_".join)
def test_versions_hash_the_values_of_each_type_alike(pair: tuple[Databases, Databases], tmp_path: Path) -> None:
    rows = "INSERT INTO item SELECT n, 'n' || n, md5(n::text)::uuid, -n, -n, n % 2 = 0 FROM generate_series(-9, 9) n;"
    types = "CREATE TYPE mood AS ENUM ('low'); CREATE TYPE place AS (street text, zip int);"
    live = LiveRun(pair[0], tmp_path, f"{types} {VALUES} {KEY} {rows}", f"{types} {VALUES} {KEY}", apart=pair[1])
    assert live.up_to_cutover(capture=False).verify().equal
    source, target = (config.resolve(d.conninfo, tmp_path) for d in (live.source, live.target))
    with Session(source, "test") as one, Session(target, "test") as other:
        with one.transaction(read_only=True) as a, other.transaction(read_only=True) as b:
            assert checksum.agree(a, b, recode=False).kind == "own"
