"""Personal columns without a rule are found by their names and by counts that the source takes of a sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from confiture.catalog_model import Table
from confiture.config import resolve
from confiture.masking import mask_file
from confiture.masking.assignment import assigned
from confiture.masking.detection import Detection, detect, refusal, suggestion
from confiture.masking.model import MaskFile, Masks
from confiture.postgres.session import Session
from confiture.types import TableRef
from conftest import ROOT
from masking import catalog_of, masks_of
from servers import TestDatabase


def found_in(
    database: TestDatabase, masks: Masks | None = None, *, into: Mapping[TableRef, Table | None] | None = None
) -> Detection:
    """``into``: tables that differ in the target; None for one that it lacks."""
    catalog = catalog_of(database)
    there = {**catalog.by_ref, **(into or {})}
    target = replace(catalog, tables=tuple(table for table in there.values() if table is not None))
    with Session(resolve(database.conninfo, ROOT), "test") as session, session.transaction(read_only=True) as tx:
        return detect(tx, catalog, target, masks or Masks())


def filled(database: TestDatabase, type_: str, values: list[Any]) -> None:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS one; CREATE TABLE one (c {type_})".encode())
        cursor.executemany(f"INSERT INTO one VALUES (%s::text::{type_})".encode(), [(value,) for value in values])


IBANS = ["DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19", "FR1420041010050500013M02606"]
CARDS = ["4111 1111 1111 1111", "5555555555554444", "378282246310005", "6011-1111-1111-1117"]


@pytest.mark.parametrize(
    ("type_", "values", "why", "rule"),
    [
        ("text", ["ann@corp.com", "bob@x.co.uk", None, ""], "e-mail addresses in 2 of 2 sampled values", "email"),
        ("text", ["x"] * 90 + ["write to ann@corp.com"] * 3, "texts with an e-mail address in 3 of 93 sam", "text"),
        ("jsonb", ['{"a": "ann@corp.com"}'], "texts with an e-mail address in 1 of 1 sampled value", "constant"),
        ("text[]", ["{ann@corp.com}"], "texts with an e-mail address in 1 of 1 sampled value", "constant"),
        ("text", ["+49 30 1234567", "030/1234567", "(555) 234-5678", "555-234-5678"], "telephone numbers in", "phone"),
        ("text", ["call +49 30 1234567 today"], "texts with a telephone number in 1 of 1 sampled value", "text"),
        ("text", IBANS, "IBANs in 3 of 3 sampled values", "hash"),
        ("json", [json.dumps({"to": IBANS[0]})], "IBANs in 1 of 1 sampled value", "constant"),
        ("text", CARDS, "numbers of payment cards in 4 of 4", "hash"),
        ("bigint", [CARDS[1]], "numbers of payment cards in 1 of 1", "hash"),
        ("text", ["192.168.1.1", "10.0.0.255", "2001:db8::1"], "network addresses in 3 of 3", "hash"),
        ("inet", ["192.168.1.1"], "network addresses in 1 of 1", "hash"),
        ("varchar(11)", ["078-05-1120", "219-09-9999"], "social security numbers in 2 of 2", "hash"),
        ("text", ["Anna", "Omar Li", "Zoe", "Mei Tan", "Lars", "other"], "first names in 5 of 6", "name"),
        ("jsonb", ['{"first_name": "x"}'], "documents with keys of personal values in 1 of 1", "constant"),
        ("jsonb", ['{"a": {"dateOfBirth": "1990-01-01"}}'], "documents with keys of personal values", "constant"),
    ],
)  # fmt: skip
def test_personal_contents_are_found(
    database: TestDatabase, type_: str, values: list[Any], why: str, rule: str
) -> None:
    filled(database, type_, values)
    (suspicion,) = found_in(database).suspicions
    assert suspicion.why.startswith(why)
    assert suspicion.rule.kind == rule


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("text", ["2020-01-01", "12:30:45", "1,234.56", "978-3-16-148410-0", "v1.2.3", "#123"]),
        ("text", [f"{n % 9}.{n % 7}.{n % 5}" for n in range(50)]),
        ("text", [f"4{n * 7919:015}" for n in range(1, 200)]),
        ("bigint", [f"4{n * 7919:015}" for n in range(1, 200)]),
        ("text", [f"DE{10 + n % 89}{n * 77:018}" for n in range(1, 300)]),
        ("text", [f"1Z{n:016}" for n in range(200)]),
        ("text", [f"{n:032x}" for n in range(200)]),
        ("text", ["Paris", "London", "Luca", "Oslo"] * 9),
        ("text", ["a@b", "@handle", "user@", "x @ y.com"] * 9),
        ("text", ["x"] * 200 + ["one ann@corp.com"] * 2),
        ("jsonb", ['{"name": "x", "age": 3, "tags": ["a"]}'] * 9),
        ("cidr", ["10.0.0.0/8"]),
        ("text", ["", None]),
        ("text", []),
    ],
)
def test_other_contents_raise_no_alarm(database: TestDatabase, type_: str, values: list[Any]) -> None:
    filled(database, type_, values)
    assert found_in(database).suspicions == ()


def test_the_suggested_entries_are_a_mask_file_that_fits(database: TestDatabase) -> None:
    database.sql("""
        CREATE SCHEMA crm;
        CREATE TABLE crm."Customer" (id int PRIMARY KEY, "E-mail" varchar(99) UNIQUE NOT NULL, phone text UNIQUE,
            first_name text, born date, "yes" text, address jsonb NOT NULL, tags text[], password text, zip char(5),
            salary numeric(8,2), ip inet, ssn varchar(11) UNIQUE, address_id int, email_verified bool);
        CREATE TABLE item (name text, note text);
        INSERT INTO item SELECT 'thing', 'by ann@corp.com' FROM generate_series(1, 9);
        """)
    found = found_in(database)
    text = suggestion(found.suspicions, MaskFile())
    assert text.splitlines()[0] == 'crm."Customer":'
    masks = masks_of(database, text)
    assert {(m.table.name, m.column) for m in masks.masks} == {(s.table.name, s.column) for s in found.suspicions}
    assert {m.column: str(m.rule.kind) for m in masks.masks} == {
        "E-mail": "email", "phone": "hash", "first_name": "name", "born": "date shift", "address": "constant",
        "password": "hash", "zip": "address", "salary": "number noise", "ip": "hash", "ssn": "hash", "note": "text",
    }  # fmt: skip
    assert found_in(database, masks).suspicions == ()


def test_the_refusal_lists_every_column_with_its_reason(database: TestDatabase) -> None:
    database.sql(
        "CREATE TABLE one (email text, note text, x text); INSERT INTO one VALUES ('a', '+49 30 1234567', 'x')"
    )
    file, _ = mask_file.parse("one:\n  x: keep\n", "mask.yaml")
    catalog = catalog_of(database)
    masks, _ = assigned(catalog, catalog, file)
    what, why, fix = refusal(found_in(database, masks).suspicions, file, "db/sync/mask.yaml").lines()
    assert what == "2 columns without a rule look personal"
    assert why.splitlines() == [
        "one.email  by its name an e-mail address",
        "one.note   telephone numbers in 1 of 1 sampled value",
    ]
    assert fix.splitlines()[1:] == ["one:  # add to its entry in line 1", "  email: email", "  note: phone"]


def test_referring_and_generated_columns_are_not_judged(database: TestDatabase) -> None:
    database.sql("""
        CREATE TABLE login (email text PRIMARY KEY, lower_email text GENERATED ALWAYS AS (lower(email)) STORED);
        CREATE TABLE visit (email text REFERENCES login);
        INSERT INTO login VALUES ('ann@corp.com'); INSERT INTO visit VALUES ('ann@corp.com');
        """)
    assert [(s.table.name, s.column) for s in found_in(database).suspicions] == [("login", "email")]


def test_types_that_hold_any_text_are_judged(database: TestDatabase) -> None:
    database.sql("""
        CREATE TYPE place AS (street text, extra text); CREATE TYPE pair AS (a text, b text);
        CREATE DOMAIN tag AS text; CREATE DOMAIN tags AS text[]; CREATE TYPE mood AS ENUM ('ann@corp.com');
        CREATE TABLE thing (
            id int PRIMARY KEY, by_attribute place, many place[], composite pair, domains tag[], listed tags,
            words tsvector, label mood, numbers int[]);
        INSERT INTO thing SELECT n, NULL, NULL, ROW('x'::text, 'ann@corp.com'::text)::pair, '{ann@corp.com}',
            '{ann@corp.com}', 'ann@corp.com', 'ann@corp.com', '{1,2}' FROM generate_series(1, 9) n;
        """)
    found = {s.column: str(s.rule) for s in found_in(database).suspicions}
    empty = "constant (value {})"
    assert found == {
        "by_attribute": "null", "many": empty, "composite": "null", "domains": empty, "listed": empty,
        "words": "constant (value )",
    }  # fmt: skip


def test_columns_that_repeat_the_words_of_personal_ones_are_judged(database: TestDatabase) -> None:
    database.sql("""
        CREATE TABLE person (email text, words tsvector NOT NULL, twice text GENERATED ALWAYS AS (email || 'x') STORED);
        CREATE TABLE page (title text, words tsvector);
        """)
    person = catalog_of(database).by_ref[TableRef("public", "person")]
    plain = replace(person, columns=tuple(replace(c, generated="") for c in person.columns))
    found = found_in(database, into={person.ref: plain})
    assert {(s.table.name, s.column): str(s.rule) for s in found.suspicions} == {
        ("person", "email"): "email", ("person", "words"): "constant (value )", ("person", "twice"): "hash",
    }  # fmt: skip


def test_a_column_that_only_a_cycle_or_unchecked_rows_refer_to_is_judged(database: TestDatabase) -> None:
    database.sql("""
        CREATE TABLE a (email text PRIMARY KEY);
        CREATE TABLE b (email text PRIMARY KEY REFERENCES a);
        ALTER TABLE a ADD FOREIGN KEY (email) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
        CREATE TABLE c (email text PRIMARY KEY REFERENCES c);
        CREATE TABLE e (email text);
        ALTER TABLE e ADD FOREIGN KEY (email) REFERENCES c NOT VALID;
        CREATE TABLE f (email text REFERENCES b, boss text REFERENCES c);
        """)
    found = {(s.table.name, s.column) for s in found_in(database).suspicions}
    assert found == {("a", "email"), ("b", "email"), ("c", "email"), ("e", "email"), ("f", "email")}


def test_a_column_that_refers_to_a_table_that_is_not_copied_is_judged(database: TestDatabase) -> None:
    database.sql("CREATE TABLE a (email text PRIMARY KEY); CREATE TABLE b (email text REFERENCES a)")
    found = found_in(database, into={TableRef("public", "a"): None})
    assert [(s.table.name, s.column) for s in found.suspicions] == [("b", "email")]


def test_a_large_table_is_sampled_and_a_locked_one_is_named(database: TestDatabase) -> None:
    database.sql("""
        CREATE TABLE large AS SELECT n AS id, 'u' || n || '@corp.com' AS c, repeat('x', 50) AS d
        FROM generate_series(1, 60000) n;
        CREATE TABLE wide AS SELECT 'y' AS c;
        ANALYZE;
        """)
    (suspicion,) = found_in(database).suspicions
    assert suspicion.why == "e-mail addresses in 1,000 of 1,000 sampled values"
    database.sql("CREATE ROLE reader LOGIN; GRANT SELECT ON large TO reader")
    catalog = catalog_of(database)
    with Session(resolve(database.conninfo, ROOT), "test") as session, session.transaction(read_only=True) as tx:
        tx.pg.execute("SET LOCAL ROLE reader")
        found = detect(tx, catalog, catalog, Masks())
    assert [ref.name for ref in found.unsampled] == ["wide"]
    database.sql("DROP OWNED BY reader; DROP ROLE reader")
