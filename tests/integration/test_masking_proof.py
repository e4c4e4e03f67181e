"""The proof of no leak: clear values in the result are counted, and values that a rule produces are not."""

from __future__ import annotations

import os
from typing import Any

import pytest

from confiture.errors import Refused
from confiture.masking import key, leaks
from confiture.masking.model import Mask
from confiture.types import ALL_PERCENT
from masking import catalog_of, evaluated, masks_of
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE one (id int, hash text, email varchar(60), phone text, first_name text, name varchar(9), street text,
    address text, zip text, note text, constant text, "per%cent" text, noise numeric(9,2), born date, int int, u uuid,
    doc json);
INSERT INTO one SELECT n, 'h' || n, 'u' || n || '@corp.com', '+49 30 ' || 1000000 + n, 'Person' || n, 'Name ' || n,
    n || ' Way', n || ' Road, Town', 'AB' || n, 'Text ' || n, 'c' || n, 'p' || n, n, '2000-01-01'::date + n, n,
    md5(n::text)::uuid, json_build_object(1, n) FROM generate_series(1, 500) n;
"""
MASK = """
one: {hash: hash, email: email, phone: phone, first_name: name, name: name, street: address, address: address,
      zip: address, note: text, constant: {rule: constant, value: "100% c1"}, '"per%cent"': hash,
      noise: number noise, born: date shift, int: hash, u: uuid, doc: {rule: constant, value: "{}"}}
"""


def leaked(source: TestDatabase, target: TestDatabase, mask: Mask) -> tuple[int, int]:
    """How many values of the result are looked up, and how many of them the source has."""
    column = catalog_of(target).by_ref[mask.table].known_column(mask.column)
    salt = os.urandom(leaks.SALT_BYTES)
    with target.connect() as there, source.connect() as here:
        found = there.execute(leaks.result_query(mask, column), {"salt": salt}).fetchall()
        hashes = [value for (value,) in found]
        row: Any = here.execute(leaks.source_query(mask.table, [column]), {"salt": salt, "hashes": hashes}).fetchone()
    return len(hashes), row[0]


@pytest.fixture
def copied(databases: Databases) -> tuple[TestDatabase, TestDatabase, tuple[Mask, ...]]:
    """A source, a target with its masked rows, and the masks."""
    source, target = databases.make(), databases.make()
    source.sql(OLD)
    target.sql(OLD.split(";")[0])
    masks = masks_of(source, MASK).masks
    names = ", ".join('"' + mask.column + '"' for mask in masks)
    with target.connect() as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY one ({names}) FROM STDIN") as copy:
            for row in evaluated(source, masks):
                copy.write_row(row)
    return source, target, masks


def test_masked_values_are_not_among_those_of_the_source(
    copied: tuple[TestDatabase, TestDatabase, tuple[Mask, ...]],
) -> None:
    source, target, masks = copied
    for mask in masks:
        looked_up, found = leaked(source, target, mask)
        if mask.leak_percent is not None:
            assert 100 * found <= mask.leak_percent * max(looked_up, 1), mask.column
        if mask.rule.kind in ("constant", "name", "text") or mask.column in ("street", "address"):
            assert looked_up == 0, mask.column


def test_clear_values_in_the_result_are_counted_for_each_rule(
    copied: tuple[TestDatabase, TestDatabase, tuple[Mask, ...]],
) -> None:
    source, target, masks = copied
    for mask in masks:
        if mask.leak_percent in (None, ALL_PERCENT):
            continue
        target.sql("TRUNCATE one")
        with source.connect() as here, target.connect() as there:
            with here.cursor() as reading, there.cursor() as writing:
                with reading.copy("COPY one TO STDOUT") as out, writing.copy("COPY one FROM STDIN") as into:
                    for data in out:
                        into.write(data)
        looked_up, found = leaked(source, target, mask)
        assert found == looked_up >= 499, mask.column
        assert 100 * found > mask.leak_percent * looked_up


def test_a_single_clear_value_fails_a_hashed_column(
    copied: tuple[TestDatabase, TestDatabase, tuple[Mask, ...]],
) -> None:
    source, target, masks = copied
    target.sql("INSERT INTO one (hash, email, first_name, note) VALUES ('h7', 'u7@corp.com', 'Person7', 'Text 7')")
    for mask in masks:
        if mask.column in ("hash", "email", "first_name", "note"):
            _, found = leaked(source, target, mask)
            assert found == 1
            assert mask.leak_percent == 0


def test_the_key_is_required_and_its_length_is_checked() -> None:
    with pytest.raises(Refused, match="The masks need a key"):
        key.from_environment({})
    with pytest.raises(Refused, match="too short"):
        key.from_environment({key.KEY_VARIABLE: "short"})
    assert key.from_environment({key.KEY_VARIABLE: "x" * 16}) == b"x" * 16


def test_neither_settings_nor_check_value_contain_the_key() -> None:
    secret = b"0123456789abcdef"
    texts = [*key.settings(secret).values(), key.check_value(secret, "run")]
    assert all(secret.hex() not in text and secret.decode() not in text for text in texts)
    assert key.check_value(secret, "run") != key.check_value(secret, "other")
    assert key.check_value(secret, "run") == key.check_value(secret, "run")
