"""Properties of masked values, for any values that a column may have."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from confiture.masking.leaks import allowed_percent
from confiture.masking.mask_file import rule_from
from masking import catalog_of, evaluated, masked, masks_of
from servers import TestDatabase

few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
texts = st.lists(text, min_size=1, max_size=60, unique=True)
APART = st.sampled_from(["hash", "email", "uuid", "{rule: hash, length: 13}"])
RULES = st.sampled_from(
    ["hash", "email", "phone", "name", "address", "{rule: address, part: postcode}", "uuid", "text"]
)


@few
@given(texts, APART)
def test_different_texts_stay_different(database: TestDatabase, values: list[str], rule: str) -> None:
    found = masked(database, "text", rule, values)
    assert len(set(found)) == len(values)
    assert not {value for value in found if value} & set(values)


@few
@given(texts, RULES)
def test_a_rule_gives_the_same_values_again(database: TestDatabase, values: list[str], rule: str) -> None:
    found = masked(database, "text", rule, values)
    assert masked(database, "text", rule, list(reversed(values))) == list(reversed(found))
    assert all(value is not None for value in found)


@few
@given(
    st.data(),
    st.sampled_from(["varchar", "char"]),
    st.sampled_from(["hash", "email", "phone", "name", "address", "text"]),
)
def test_masked_texts_fit_their_column(database: TestDatabase, data: st.DataObject, type_: str, rule: str) -> None:
    length = data.draw(st.integers(17, 40))
    values = data.draw(st.lists(text.map(lambda value: value[:length]), min_size=1, max_size=40))
    found = masked(database, f"{type_}({length})", rule, values)
    assert all(value is not None and len(value.rstrip(" ") if type_ == "char" else value) <= length for value in found)


@few
@given(st.lists(st.text("+0123456789 ()-/.xZ\"\\'é王", max_size=30), min_size=1, max_size=60))
def test_telephone_numbers_keep_their_form_and_no_letter(database: TestDatabase, values: list[str]) -> None:
    for before, after in zip(values, masked(database, "text", "phone", values), strict=True):
        assert after is not None
        shape = re.sub("[A-Za-z]|[^\x01-\x7f]", "x", re.sub("[0-9]", "0", before))
        assert re.sub("[0-9]", "0", after).replace('"', "'").replace("\\", "/") == shape.replace('"', "'").replace(
            "\\", "/"
        )


@few
@given(texts)
def test_no_letter_or_digit_of_a_text_is_left(database: TestDatabase, values: list[str]) -> None:
    for before, after in zip(values, masked(database, "text", "text", values), strict=True):
        assert after is not None
        assert len(after) == len(before)
        assert not re.search("[A-WYZa-wyz1-9]", after)
        assert after.isascii()


@few
@given(st.sampled_from([("int2", 15), ("int4", 31), ("int8", 63)]), st.data())
def test_different_integers_stay_different(database: TestDatabase, type_: tuple[str, int], data: st.DataObject) -> None:
    name, bits = type_
    values = data.draw(st.lists(st.integers(-(2**bits), 2**bits - 1), min_size=1, max_size=80, unique=True))
    found = [int(value or "") for value in masked(database, name, "hash", values)]
    assert len(set(found)) == len(values)
    assert all(-(2**bits) <= value < 2**bits for value in found)


@few
@given(
    st.integers(1, 12).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p))),
    st.floats(0.1, 99).map(lambda percent: round(percent, 1)),
    st.data(),
)
def test_noise_is_bounded_and_fits(
    database: TestDatabase, digits: tuple[int, int], percent: float, data: st.DataObject
) -> None:
    precision, scale = digits
    most = 10**precision - 1
    whole = data.draw(st.lists(st.integers(-most, most), min_size=1, max_size=40))
    numbers = [Decimal(number).scaleb(-scale) for number in whole]
    found = masked(
        database,
        f"numeric({precision},{scale})",
        f"{{rule: number noise, percent: {percent}}}",
        [str(n) for n in numbers],
    )
    for before, text_after in zip(numbers, found, strict=True):
        after = Decimal(text_after or "")
        assert abs(after - before) <= abs(before) * Decimal(str(percent)) / 100 + Decimal("0.51").scaleb(-scale)
        assert after.is_zero() or (after > 0) == (before > 0)
        assert abs(after) <= Decimal(most).scaleb(-scale)


@few
@given(st.lists(st.dates(date(2, 1, 1), date(8990, 1, 1)), min_size=1, max_size=40), st.integers(1, 366))
def test_a_date_moves_and_not_too_far(database: TestDatabase, values: list[date], days: int) -> None:
    found = masked(database, "date", f"{{rule: date shift, days: {days}}}", [value.isoformat() for value in values])
    for before, after in zip(values, found, strict=True):
        moved = abs((date.fromisoformat(after or "") - before).days)
        assert 1 <= moved <= days


@few
@given(st.lists(text, min_size=1, max_size=20))
def test_identity_and_generated_columns_take_their_part(database: TestDatabase, values: list[str]) -> None:
    database.sql("""DROP TABLE IF EXISTS own; DROP DOMAIN IF EXISTS short; CREATE DOMAIN short AS varchar(70);
        CREATE TABLE own (id int GENERATED ALWAYS AS IDENTITY UNIQUE, c short,
                          g text GENERATED ALWAYS AS (upper(c)) STORED)""")
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO own (c) VALUES (%s)", [(value,) for value in values])
    masks = masks_of(database, "own: {id: hash, c: hash}").masks
    rows = evaluated(database, masks)
    assert len({row[1] for row in rows}) == len(values)
    assert all(int(row[1]) >= 2**30 for row in rows)
    column = catalog_of(database).by_ref[masks[0].table].known_column("c")
    assert allowed_percent(rule_from("hash"), column) == 0
