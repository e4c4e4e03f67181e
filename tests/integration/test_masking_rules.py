"""Each masking rule on a server: the masked values fit their column, and reveal nothing that the rule hides."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from decimal import Decimal

import pytest

from confiture.masking import key
from confiture.masking.expressions import entries
from masking import KEY, evaluated, faults_of, masked, masks_of
from servers import Databases, TestDatabase

TEXTS = ["", "a", "Ann@corp.example", "  x ", "Ünïcode — 名前", "'; DROP TABLE one; --", '"quoted"', "\\x41", "%s {}"]


@pytest.fixture(params=["new", "old"])
def any_server(request: pytest.FixtureRequest) -> TestDatabase:
    """An empty database on PostgreSQL 18, and on the older version that is installed."""
    made: Databases = request.getfixturevalue("databases" if request.param == "new" else "old_databases")
    return made.make()


def _derived(number: int) -> bytes:
    return hmac.new(KEY, f"confiture mask {number}".encode(), hashlib.sha256).digest()


def test_a_long_hash_is_the_hmac_that_python_computes(any_server: TestDatabase) -> None:
    expected = [hmac.new(_derived(1), text.encode(), hashlib.sha256).hexdigest() for text in TEXTS]
    assert masked(any_server, "text", "{rule: hash, length: 64}", TEXTS) == expected
    assert masked(any_server, "text", "{rule: hash, length: 33}", TEXTS) == [text[:33] for text in expected]


def test_a_hash_of_128_bits_is_the_one_that_python_computes(any_server: TestDatabase) -> None:
    expected = [hashlib.sha256(_derived(3)[:16] + text.encode()).hexdigest()[:32] for text in TEXTS]
    assert masked(any_server, "text", "hash", TEXTS) == expected
    assert masked(any_server, "text", "{rule: hash, length: 20}", TEXTS) == [text[:20] for text in expected]


@pytest.mark.parametrize("length", [32, 33, 64])
def test_no_rule_uses_more_than_half_of_a_hash_without_hmac(database: TestDatabase, length: int) -> None:
    database.sql("CREATE TABLE t (a text)")
    (mask,) = masks_of(database, f"t: {{a: {{rule: hash, length: {length}}}}}").masks
    assert ("mask_outer" in mask.expression) == (length > 32)
    assert ("mask_hash" in mask.expression) == (length <= 32)


def test_a_hash_does_not_begin_as_the_address_of_its_value(database: TestDatabase) -> None:
    (hashed,), (address,), (uuid,) = (masked(database, "text", rule, ["Ann"]) for rule in ("hash", "email", "uuid"))
    assert hashed is not None
    assert address is not None
    assert uuid is not None
    assert address[1:9] == uuid[:8]
    assert hashed[:8] != uuid[:8]


@pytest.mark.parametrize("rule", ["hash", "email", "phone", "name", "address", "uuid", "text"])
def test_a_very_long_text_is_masked(any_server: TestDatabase, rule: str) -> None:
    values = ["x" * 300_000, "x" * 300_001, "é1 " * 100_000]
    found = masked(any_server, "text", rule, values)
    assert None not in found
    if rule in ("hash", "email", "uuid"):
        assert len(set(found)) == len(values)


def test_each_digit_of_a_telephone_number_depends_on_the_whole(any_server: TestDatabase) -> None:
    numbers = [f"+41 44 {n:03} {last}" for n in range(60) for last in ("11", "12")]
    found = masked(any_server, "text", "phone", numbers)
    assert all(text is not None and re.fullmatch(r"\+41 [0-9]{2} [0-9]{3} [0-9]{2}", text) for text in found)
    for at in (4, 5, 7, 8, 9, 11, 12):
        assert len({text[at] for text in found if text is not None}) == 10
    # Equal digits do not stay equal, and no table of ten digits is applied to the number.
    assert any(len({text[-1], text[-2]}) == 2 for text in found[::2] if text is not None)


def test_a_column_with_a_nondeterministic_collation_is_masked(old_databases: Databases) -> None:
    database = old_databases.make()  # the packaged server has no ICU
    database.sql("CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    for rule in ("hash", "email", "phone", "name", "address", "uuid", "text"):
        values = ["+49 30 1234567", "", "Ünï 5"]
        expected = masked(database, "text", rule, values)
        database.sql("DROP TABLE one; CREATE TABLE one (c text COLLATE folded)")
        with database.connect() as connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO one VALUES (%s)", [(value,) for value in values])
        assert [row[0] for row in evaluated(database, masks_of(database, f"one: {{c: {rule}}}").masks)] == expected


@pytest.mark.parametrize(
    ("type_", "rule"),
    [
        ("text", "hash"), ("text", "email"), ("text", "phone"), ("text", "name"), ("text", "address"),
        ("text", "{rule: address, part: postcode}"), ("text", "uuid"), ("text", "text"), ("bytea", "hash"),
        ("text", "{rule: constant, value: x}"), ("jsonb", "hash"), ("json", "hash"), ("uuid", "uuid"),
        ("inet", "hash"), ("cidr", "hash"), ("macaddr", "hash"), ("macaddr8", "hash"), ("int2", "hash"),
        ("int4", "hash"), ("int8", "hash"), ("int4", "number noise"), ("int8", "number noise"), ("date", "date shift"),
        ("numeric(5,2)", "number noise"), ("numeric", "number noise"), ("float8", "number noise"),
        ("float4", "number noise"), ("timestamp", "date shift"), ("timestamptz", "date shift"),
        ("varchar(20)", "email"),
    ],
)  # fmt: skip
def test_null_stays_null(any_server: TestDatabase, type_: str, rule: str) -> None:
    assert masked(any_server, type_, rule, [None]) == [None]


def test_equal_values_are_masked_alike_in_all_columns_and_types(any_server: TestDatabase) -> None:
    any_server.sql(
        "CREATE TABLE a (t text, v varchar(40), b char(40), e text, f varchar(60));"
        "INSERT INTO a VALUES ('x@y', 'x@y', 'x@y', 'x@y', 'x@y')"
    )
    (row,) = evaluated(any_server, masks_of(any_server, "a: {t: hash, v: hash, b: hash, e: email, f: email}").masks)
    b, e, f, t, v = row
    assert b == t == v
    assert e == f


def test_another_key_gives_other_values(database: TestDatabase) -> None:
    database.sql("CREATE TABLE a (t text, n text, p text, i int); INSERT INTO a VALUES ('x', 'Ann', '+49 123456', 5)")
    masks = masks_of(database, "a: {t: hash, n: {rule: name}, p: phone, i: hash}").masks
    one, other = evaluated(database, masks), evaluated(database, masks, b"another key of enough bytes")
    assert all(a != b for a, b in zip(one[0], other[0], strict=True))


def test_an_address_is_at_a_reserved_domain_and_fits_its_column(any_server: TestDatabase) -> None:
    for type_, rule in [("text", "email"), ("varchar(20)", "email"), ("char(24)", "email")]:
        found = masked(any_server, type_, rule, ["a@b.c", "d@e.f", ""])
        limit = int((re.findall(r"\d+", type_) or [29])[0])
        assert found[2] is not None
        assert found[2].strip() == ""
        for value in found[:2]:
            assert value is not None
            assert re.fullmatch(r"u[0-9a-zA-Z]+@example\.com *", value)
            assert len(value.rstrip()) <= limit
    assert masked(any_server, "text", "{rule: email, domain: corp.test}", ["a"])[0].endswith("@corp.test")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "number",
    ["+49 30 1234567", "0049-30-1234567", "030/12 34 56", "(555) 123-4567", "+1-555-0100", "+353 1 234", "5", "none",
     "ann.lee@corp.com", "ask Ann, +49 30 1234567", "王小明", "", '12" \\x ext. 9', "123456789 " * 8, "٣٤٥"],
)  # fmt: skip
def test_a_telephone_number_keeps_its_form_and_country(any_server: TestDatabase, number: str) -> None:
    (found,) = masked(any_server, "text", "phone", [number])
    assert found is not None
    shape = re.sub("[0-9]", "0", number).replace('"', "'").replace("\\", "/")
    assert re.sub("[0-9]", "0", found).replace('"', "'").replace("\\", "/") == re.sub(
        "[A-Za-z]|[^\x01-\x7f]", "x", shape
    )
    country = re.match(r"\+49|0049|\+1(?=-)|\+353|0", number)
    assert country is None or found.startswith(country[0])
    if len(re.sub("[^0-9]", "", number)) > 3:
        assert found != number


def test_names_and_addresses_come_from_the_lists(any_server: TestDatabase) -> None:
    values = [f"person {n}" for n in range(300)]
    first, last = set(entries("first_names")), set(entries("last_names"))
    for name in masked(any_server, "text", "name", values):
        assert name is not None
        one, other = name.split(" ")
        assert one in first
        assert other in last
    assert set(masked(any_server, "text", "{rule: name, part: last}", values)) <= last
    assert len(set(masked(any_server, "text", "{rule: name, part: first}", values))) > 100
    streets, cities = set(entries("streets")), set(entries("cities"))
    for address in masked(any_server, "text", "address", values):
        assert address is not None
        found = re.fullmatch(r"[0-9]+ (.+), (.+)", address)
        assert found is not None
        assert found[1] in streets
        assert found[2] in cities
    for name in masked(any_server, "varchar(7)", "name", values):
        assert name is not None
        assert 1 <= len(name) <= 7


def test_a_masked_text_keeps_only_its_shape(any_server: TestDatabase) -> None:
    found = masked(any_server, "text", "text", ["Hello, World 42!", "ÉCOLE naïve\tx", "", "名前 (3)"])
    assert found == ["Xxxxx, Xxxxx 00!", "xXXXX xxxxx\tx", "", "xx (0)"]


@pytest.mark.parametrize(("type_", "bits"), [("int2", 15), ("int4", 31), ("int8", 63)])
def test_hashed_integers_stay_different_and_in_range(any_server: TestDatabase, type_: str, bits: int) -> None:
    most = 2**bits - 1
    values = sorted({*range(-300, 300), *range(most - 300, most + 1), *range(-most - 1, -most + 300)})
    found = [int(text or "") for text in masked(any_server, type_, "hash", values)]
    assert len(set(found)) == len(values)
    assert all(-most - 1 <= value <= most for value in found)
    assert all((value < 0) == (before < 0) for value, before in zip(found, values, strict=True))


def test_a_small_integer_is_a_permutation_of_all_its_values(database: TestDatabase) -> None:
    values = list(range(-(2**15), 2**15))
    found = [int(text or "") for text in masked(database, "int2", "hash", values)]
    assert sorted(found) == values


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("int2", ["32767", "-32768", "0", "1", "1000"]),
        ("int4", ["2147483647", "-2147483648", "0", "-1000"]),
        ("int8", ["9223372036854775807", "-9223372036854775808", "0", "1000"]),
        ("numeric(5,2)", ["999.99", "-999.99", "0", "0.01", "NaN"]),
        ("numeric(3,-2)", ["99900", "-99900", "100"]),
        ("numeric(2,4)", ["0.0099", "-0.0001"]),
        ("numeric", ["1e100", "-3.14159", "0.00", "NaN", "Infinity", "-Infinity"]),
        ("float8", ["1.7e308", "-1.7e308", "1e-300", "0", "NaN", "Infinity", "-Infinity"]),
        ("float4", ["3.4e38", "-1e-30", "0", "NaN", "-Infinity"]),
    ],
)
def test_noise_keeps_sign_scale_and_range(any_server: TestDatabase, type_: str, values: list[str]) -> None:
    found = masked(any_server, type_, "{rule: number noise, percent: 10}", values)
    for text, before in zip(found, values, strict=True):
        assert text is not None
        after, number = Decimal(text), Decimal(before)
        if not number.is_finite():
            assert str(after) == str(number)
            continue
        assert abs(after - number) <= abs(number) * Decimal("0.1000001") + Decimal("0.5")
        assert after.is_zero() or after.is_signed() == number.is_signed()
    stored = masked(any_server, type_, "keep", found)
    assert stored == found


def test_a_date_is_shifted_with_all_dates_of_its_person(any_server: TestDatabase) -> None:
    any_server.sql("""
        CREATE TABLE person (id int PRIMARY KEY, email text, born date, joined timestamptz);
        CREATE TABLE visit (id int PRIMARY KEY, person_id bigint REFERENCES person, at timestamp, ended timestamp);
        INSERT INTO person SELECT n, 'e' || n, '1980-05-05', '2020-01-01 10:00Z' FROM generate_series(1, 50) n;
        INSERT INTO visit SELECT n, 1 + n % 50, '2021-03-01 08:30', '2021-03-03 09:45' FROM generate_series(1, 100) n;
        """)
    rule = "{rule: date shift, days: 20}"
    masks = masks_of(
        any_server, f"person: {{email: email, born: {rule}, joined: {rule}}}\nvisit: {{at: {rule}, ended: {rule}}}"
    )
    assert {(m.column, m.reads) for m in masks.masks if "at" in m.reads or "born" in m.reads} == {
        ("at", ("at", "person_id")),
        ("born", ("born", "id")),
    }
    any_server.sql("CREATE TABLE shifts (of text, id int, days int)")
    people = [m for m in masks.masks if m.table.name == "person" and m.column != "email"]
    visits = [m for m in masks.masks if m.table.name == "visit"]
    by_person = {
        n: any_server.value(f"SELECT '{born}'::date - '1980-05-05'::date")
        for n, (born, _) in enumerate(evaluated(any_server, people), 1)
    }
    assert all(1 <= abs(days) <= 20 for days in by_person.values())
    assert len(set(by_person.values())) > 10
    for n, (at, ended) in enumerate(evaluated(any_server, visits), 1):
        assert any_server.value(f"SELECT ('{ended}'::timestamp - '{at}'::timestamp)::text") == "2 days 01:15:00"
        days = any_server.value(f"SELECT extract(epoch FROM '{at}'::timestamp - '2021-03-01 08:30') / 86400")
        assert days == by_person[1 + n % 50]


def test_dates_at_the_end_of_time_stay(any_server: TestDatabase) -> None:
    ends = ["infinity", "-infinity", "9999-12-31", "5874897-12-31", "4713-11-24 BC"]
    assert masked(any_server, "date", "date shift", ends) == masked(any_server, "date", "keep", ends)
    ends = ["infinity", "-infinity", "9999-12-31 23:59:59", "4713-11-24 BC"]
    assert masked(any_server, "timestamptz", "date shift", ends) == masked(any_server, "timestamptz", "keep", ends)


@pytest.mark.parametrize(("type_", "value", "form"), [
    ("inet", "192.168.7.9", r"10\.\d+\.\d+\.\d+/32"), ("inet", "8.8.8.8/24", r"10\.\d+\.\d+\.\d+/24"),
    ("inet", "2001:db8::1", r"fd[0-9a-f:]+/128"), ("cidr", "8.8.8.0/24", r"10\.\d+\.\d+\.0/24"),
    ("cidr", "2001:db8::/32", r"fd[0-9a-f:]+::/32"), ("macaddr", "08:00:2b:01:02:03", r"02(:[0-9a-f]{2}){5}"),
    ("macaddr8", "08:00:2b:01:02:03:04:05", r"02(:[0-9a-f]{2}){7}"), ("bytea", "abc", r"\\x[0-9a-f]{32}"),
    ("jsonb", '{"a": 1}', r'"[0-9a-f]{32}"'), ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
     r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
])  # fmt: skip
def test_a_value_of_another_type_keeps_its_form(any_server: TestDatabase, type_: str, value: str, form: str) -> None:
    (found,) = masked(any_server, type_, "hash", [value])
    assert found is not None
    assert re.fullmatch(form, found)


def test_columns_with_any_name_are_masked(any_server: TestDatabase) -> None:
    names = ["v", "h", "o", "n", "select", 'quo"te', "Caps", "per%cent", "{brace}", "ünï", "s.h"]
    made: Callable[[str], str] = lambda name: '"' + name.replace('"', '""') + '"'  # noqa: E731
    any_server.sql(f"CREATE TABLE o ({', '.join(f'{made(name)} text' for name in names)})")
    any_server.sql(f"INSERT INTO o SELECT {', '.join(['$$same$$'] * len(names))}")
    for rule in ("hash", "phone", "{rule: name, part: full}", "address", "text"):
        entries_ = "\n".join(f"  '{made(name)}': {rule}" for name in names)
        (row,) = evaluated(any_server, masks_of(any_server, f"o:\n{entries_}\n").masks)
        assert len(set(row)) == 1


def test_the_settings_of_the_key_are_read_once_for_a_statement(database: TestDatabase) -> None:
    database.sql("CREATE TABLE t (a text, i int8); INSERT INTO t SELECT n, n FROM generate_series(1, 9) n")
    for mask in masks_of(database, "t: {a: hash, i: hash}").masks:
        with database.connect() as connection:
            for name, value in key.settings(KEY).items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            lines = connection.execute(
                f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT {mask.expression} FROM t".encode()
            ).fetchall()
            text = "\n".join(line for (line,) in lines)
        once = re.findall(r"InitPlan \d+.*\n.*Result \(actual rows=1(?:\.00)? loops=(\d+)\)", text)
        assert set(once) == {"1"}


def test_a_constant_is_quoted(any_server: TestDatabase) -> None:
    value = 'it\'s \\ "x" % {} é'
    quoted_value = "'" + value.replace("'", "''") + "'"
    assert masked(any_server, "text", f"{{rule: constant, value: {quoted_value}}}", ["a", None]) == [value, None]


def test_a_rule_that_does_not_fit_its_type_is_refused(database: TestDatabase) -> None:
    database.sql(
        "CREATE TABLE t (b boolean, i int, d date, a text[], g text GENERATED ALWAYS AS ('x') STORED, v varchar(9))"
    )
    found = faults_of(database, "t: {b: hash, i: email, d: hash, a: hash, g: hash, v: email}\n")
    for text, message in zip(
        found,
        [
            "t.b: hash does not apply to boolean (to another type apply null, constant and {sql: ...})",
            "t.i: email does not apply to integer (to an integer apply hash, number noise, null, constant and",
            "t.d: hash does not apply to date (to a date apply date shift, null, constant and",
            "t.a: hash does not apply to text[]",
            "t.g is a generated column (its value is computed by the target",
            "t.v: an address with its reserved domain does not fit character varying(9) (use hash)",
        ],
        strict=True,
    ):
        assert message in text
