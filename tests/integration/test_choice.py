"""The options that choose rows: their faults, and the rows that each table then has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from chosen import resolved
from confiture import catalog
from confiture.catalog_model import Catalog
from confiture.errors import FaultyInput
from confiture.postgres.session import Session
from confiture.sync import conditions
from confiture.sync.choice import choice
from confiture.sync.selection import selections
from confiture.types import TableRef
from servers import Databases, TestDatabase

SHOP = """
CREATE SCHEMA app; CREATE SCHEMA other;
CREATE TABLE customer (id int PRIMARY KEY, country text NOT NULL, friend int REFERENCES customer);
CREATE TABLE invoice (id int PRIMARY KEY, customer int REFERENCES customer);
CREATE TABLE "Line=1" (id int PRIMARY KEY, invoice int NOT NULL REFERENCES invoice, customer int);
CREATE TABLE app.note (customer int NOT NULL REFERENCES customer, country int);
CREATE TABLE other.note (id int);
CREATE TABLE boss (id int PRIMARY KEY, team int);
CREATE TABLE team (id int PRIMARY KEY, boss int REFERENCES boss);
ALTER TABLE boss ADD FOREIGN KEY (team) REFERENCES team;
INSERT INTO customer SELECT n, CASE WHEN n % 2 = 0 THEN 'CH' ELSE 'it''s' END FROM generate_series(1, 400) n;
INSERT INTO invoice SELECT n, CASE WHEN n > 10 THEN n % 400 + 1 END FROM generate_series(1, 800) n;
INSERT INTO "Line=1" SELECT n, n % 800 + 1 FROM generate_series(1, 1600) n;
INSERT INTO app.note SELECT n, n FROM generate_series(1, 400) n;
INSERT INTO team SELECT generate_series(1, 5); INSERT INTO boss SELECT n, n FROM generate_series(1, 5) n;
ANALYZE;
"""


@pytest.fixture
def shop(databases: Databases) -> tuple[TestDatabase, TestDatabase]:
    source, target = databases.cloned(SHOP), databases.cloned(SHOP)
    return source, target


def catalog_of(database: TestDatabase) -> Catalog:
    with Session(resolved(database), "test") as session, session.transaction(read_only=True) as tx:
        return catalog.read(tx)


def chosen(source: TestDatabase, target: TestDatabase, **options: object) -> Mapping[str, int]:
    """The number of chosen rows of each table, as the source counts them."""
    here = catalog_of(source)
    made, faults = choice(here, **options)  # type: ignore[arg-type]
    assert faults == ()
    found = {}
    for ref, selected in selections(here, catalog_of(target), made).items():
        found[ref.name] = source.value(f"SELECT count(*) FROM {ref} WHERE {selected.where or 'true'}")
    return found


def faults_of(source: TestDatabase, **options: object) -> list[str]:
    return [str(f) for f in choice(catalog_of(source), **options)[1]]  # type: ignore[arg-type]


def test_every_fault_of_the_options_is_named_with_a_way_out(shop: tuple[TestDatabase, TestDatabase]) -> None:
    found = faults_of(
        shop[0],
        tables=["custmer", "note", "app.note", "a b"],
        where=["customer", "invoice=", "invoce=id = 1", "=x", "app.note=true", "app.note=false", "invoice=id=1"],
        percent=0,
    )
    assert [f.split(" (")[0] for f in found] == [
        "--tables: the source has no table custmer",
        "--tables: table note is in several schemas: app, other",
        "--tables: 'a b' is not the name of a table",
        "--where 'customer' has no condition",
        "--where 'invoice=' has no condition",
        "--where names public.invoice, which --tables does not name",
        "--where: the source has no table invoce",
        "--where: '' is not the name of a table",
        "--where names app.note twice",
        "--where names public.invoice twice",
        "--sample 0 is not more than 0 and at most 100",
    ]
    assert "did you mean customer?" in found[0]
    assert "did you mean invoice?" in found[6]


@pytest.mark.parametrize(
    ("text", "table", "condition"),
    [
        ("customer=country = 'a=b'", TableRef("public", "customer"), "country = 'a=b'"),
        ('"Line=1"=id=1', TableRef("public", "Line=1"), "id=1"),
        (' PUBLIC . "Line=1" =\tid >= 1 ', TableRef("public", "Line=1"), "id >= 1"),
        ("App.Note=true", TableRef("app", "note"), "true"),
    ],
)
def test_the_first_equals_sign_outside_of_quotes_ends_the_name(
    shop: tuple[TestDatabase, TestDatabase], text: str, table: TableRef, condition: str
) -> None:
    made, faults = choice(catalog_of(shop[0]), where=[text])
    assert (made.conditions, faults) == ({table: condition}, ())


def test_each_condition_that_the_source_rejects_is_a_fault(shop: tuple[TestDatabase, TestDatabase]) -> None:
    wrong = ["customer=contry = 'CH'", "invoice=id = 1;", "app.note=count(*) > 1", "boss=id", "team=(id = 1"]
    right = ['"Line=1"=id = 1 -- a comment', "other.note=id IN (SELECT id FROM public.team)"]
    here = catalog_of(shop[0])
    made, _ = choice(here, where=[*wrong, *right])
    with Session(resolved(shop[0]), "test") as session, session.transaction(read_only=True) as tx:
        found = [str(f) for f in conditions.faults(tx, here, made)]
    assert [f.split(":")[0] for f in found] == [
        f"--where {t}" for t in ("app.note", "public.boss", "public.customer", "public.invoice", "public.team")
    ]
    assert 'column "contry" does not exist' in found[2]
    assert "without a semicolon" in found[3]


def test_a_condition_chooses_the_rows_below_it(shop: tuple[TestDatabase, TestDatabase]) -> None:
    found = chosen(*shop, where=["customer=country = 'CH' -- Swiss ones"])
    swiss = "SELECT id FROM customer WHERE country = 'CH'"
    invoices = f"SELECT id FROM invoice WHERE customer IS NULL OR customer IN ({swiss})"
    assert found["customer"] == 200
    assert found["invoice"] == shop[0].value(f"SELECT count(*) FROM ({invoices}) i") == 405
    assert found["Line=1"] == shop[0].value(f'SELECT count(*) FROM "Line=1" WHERE invoice IN ({invoices})') == 810
    assert found["note"] == 0 or found["note"] == 200  # of two schemas


def test_a_condition_of_its_own_replaces_that_of_the_tables_above(shop: tuple[TestDatabase, TestDatabase]) -> None:
    found = chosen(*shop, where=["customer=false", "invoice=id <= 3"])
    assert (found["customer"], found["invoice"]) == (0, 3)
    assert found["Line=1"] == 6


def test_tables_that_are_not_named_have_no_row_of_their_own(shop: tuple[TestDatabase, TestDatabase]) -> None:
    found = chosen(*shop, tables=['"Line=1"', "customer"], where=["customer=country = 'CH'"])
    assert (found["customer"], found["invoice"], found["Line=1"]) == (200, 0, 810)


def test_a_condition_breaks_the_cycle_that_its_table_is_in(shop: tuple[TestDatabase, TestDatabase]) -> None:
    found = chosen(*shop, where=["team=id = 2"])
    assert (found["team"], found["boss"]) == (1, 1)


def test_a_sample_is_the_same_each_time_and_about_the_percentage(shop: tuple[TestDatabase, TestDatabase]) -> None:
    found = chosen(*shop, percent=25)
    assert found == chosen(*shop, percent=25)
    assert 60 < found["customer"] < 140
    assert 300 < found["Line=1"] < 500
    assert (found["team"], found["boss"]) == (5, 5)
    assert found != chosen(*shop, percent=25, seed=1)
    assert chosen(*shop, percent=100)["customer"] == 400


def test_a_sample_takes_none_of_the_rows_that_a_condition_leaves_out(shop: tuple[TestDatabase, TestDatabase]) -> None:
    found = chosen(*shop, percent=25, where=["customer=country = 'CH'"])
    assert found["customer"] == 200
    assert 60 < found["invoice"] < 140


def test_a_table_that_is_reached_on_too_many_ways_needs_a_condition(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "CREATE TABLE t0 (id int PRIMARY KEY);" + "".join(
        f"CREATE TABLE t{n} (id int PRIMARY KEY, {', '.join(f'r{m} int REFERENCES t{m}' for m in range(n))});"
        for n in range(1, 10)
    )
    database = databases.cloned(text)
    here = catalog_of(database)
    made, _ = choice(here, where=["t0=id = 1"])
    with pytest.raises(FaultyInput, match="on too many ways") as raised:
        selections(here, here, made)
    assert '--where "t8=CONDITION"' in raised.value.fix


def test_chosen_rows_have_the_reason_of_their_choice(shop: tuple[TestDatabase, TestDatabase]) -> None:
    here = catalog_of(shop[0])
    made, _ = choice(here, where=["customer=id = 1"], percent=10)
    found = {ref.name: s.reason for ref, s in selections(here, here, made).items()}
    assert found["customer"] == "by its condition"
    assert found["invoice"] == "10 % of the rows whose parents are chosen"
    assert found["team"] == "all rows, not sampled because it is small"
