"""The names of columns that look personal, in several languages, and the names that only seem to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confiture.catalog_model import Column, Table
from confiture.masking.parts import words
from confiture.masking.personal_names import kinds, personal
from confiture.types import TableRef

TABLE = Table(
    oid=1, ref=TableRef("public", "t"), kind="r", row_security=False, forces_row_security=False, tuples=0, bytes=0,
    inherited_from=False, inherits=False, may_select=True, may_use_schema=True, may_create_in_schema=True,
    owner_uses_schema=True, may_lock=True, owned=True, owner="postgres",
)  # fmt: skip


def column(name: str, type_: str = "text") -> Column:
    return Column(
        name=name, formatted=type_, type_kind="b", base_formatted=type_, base_name=type_, base_schema="pg_catalog",
        base_kind="b", base_builtin=True, typmod=-1, not_null=False, null_free=False, has_default=False, identity="",
        generated="", collation=None, deterministic=True,
    )  # fmt: skip


def label(place: str, type_: str = "text", *others: str) -> str | None:
    """The kind that the name of a column shows; ``place`` is TABLE.COLUMN, or a column of a table that says nothing."""
    table, _, name = place.rpartition(".")
    judged = column(name, type_)
    whole = replace(TABLE, ref=TableRef("public", table or "t"), columns=(judged, *map(column, others)))
    found = personal(whole, judged)
    return found.label if found else None


@pytest.mark.parametrize(
    ("place", "type_", "shown"),
    [
        ("email", "text", "an e-mail address"), ("workEmail", "text", "an e-mail address"),
        ("E_Mail", "text", "an e-mail address"), ("user_email2", "varchar", "an e-mail address"),
        ("emails", "_text", "an e-mail address"), ("courriel", "text", "an e-mail address"),
        ("email_id", "text", "an e-mail address"), ("contact_email", "jsonb", "an e-mail address"),
        ("users.name", "text", "a person's name"), ("tb_users.Name", "text", "a person's name"),
        ("customers_2024.name", "text", "a person's name"), ("first_name", "text", "a person's name"),
        ("Prénom", "text", "a person's name"), ("nachname", "text", "a person's name"),
        ("apellidos", "text", "a person's name"), ("cardholder", "text", "a person's name"),
        ("date_of_birth", "date", "a date of birth"), ("dob", "timestamp", "a date of birth"),
        ("BirthDate", "date", "a date of birth"), ("geburtsdatum", "text", "a date of birth"),
        ("birth_year", "int4", "a date of birth"), ("BillingAddress", "text", "a postal address"),
        ("zip", "text", "a postal address"), ("zip_code", "int4", "a postal address"),
        ("Straße", "text", "a postal address"), ("address", "jsonb", "a postal address"),
        ("users.city", "text", "a postal address"), ("last_login_ip", "text", "a network address"),
        ("IPAddress", "inet", "a network address"), ("password_hash", "text", "a secret"),
        ("api_token", "text", "a secret"), ("token", "uuid", "a secret"), ("mot_de_passe", "text", "a secret"),
        ("salary", "numeric", "an income"), ("ssn", "bpchar", "an official number of a person"),
        ("tax_id", "text", "an official number of a person"), ("passport_no", "text", "an official number of a person"),
        ("mobile", "text", "a telephone number"), ("tel", "text", "a telephone number"),
        ("phone1", "int8", "a telephone number"), ("iban", "text", "a bank account or card"),
        ("cardNumber", "text", "a bank account or card"), ("user_agent", "text", "a mark of a person's device"),
        ("diagnosis", "text", "a special category of personal data"), ("username", "text", "a user name"),
        ("users.avatar", "bytea", "a picture of a person"), ("employee.latitude", "float8", "a postal address"),
    ],
)  # fmt: skip
def test_a_personal_name_is_recognized(place: str, type_: str, shown: str) -> None:
    assert label(place, type_) == shown


@pytest.mark.parametrize(
    ("place", "type_"),
    [
        ("country.name", "text"), ("products.name", "text"), ("companies.name", "text"), ("user_roles.name", "text"),
        ("email_verified", "bool"), ("email_verified_at", "timestamptz"), ("address_id", "int4"),
        ("email_template", "text"), ("phone_type", "text"), ("is_mobile", "bool"), ("token_type", "text"),
        ("max_tokens", "int4"), ("tokens", "int4"), ("shipping", "text"), ("filename", "text"), ("hostname", "text"),
        ("users.company_name", "text"), ("ip_count", "int4"), ("description", "text"), ("title", "text"),
        ("status", "text"), ("created_at", "timestamptz"), ("mailing_list_id", "int4"), ("recipe", "text"),
        ("strip", "text"), ("zipfile", "bytea"), ("password_reset_at", "timestamptz"), ("telemetry", "jsonb"),
        ("passenger_count", "int4"), ("secretary", "text"), ("sin", "float8"), ("lat", "float8"), ("user_id", "int4"),
        ("phone_number_id", "int4"), ("net_income", "numeric"), ("pinned", "text"), ("addressable", "text"),
        ("password_expires", "date"), ("orders.number", "text"), ("nominal", "numeric"), ("photo", "bytea"),
        ("mobile_layout", "text"), ("ort", "text"),
    ],
)  # fmt: skip
def test_a_technical_name_raises_no_alarm(place: str, type_: str) -> None:
    assert label(place, type_) is None


def test_a_name_beside_a_birth_date_is_that_of_a_person() -> None:
    assert label("rows.name") is None
    assert label("rows.name", "text", "date_of_birth") == "a person's name"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("homePhone", ["home", "phone"]), ("HTTPServer", ["http", "server"]), ("e_mail", ["e", "mail"]),
        ("Line 1", ["line", "1"]), ("ADDRESS1", ["address1"]), ("prénom", ["prenom"]), ("___", []),
    ],
)  # fmt: skip
def test_a_name_is_divided_into_words(name: str, found: list[str]) -> None:
    assert words(name) == found


@given(st.text())
def test_any_name_is_judged(name: str) -> None:
    assert label(f"t.{name}") is None or label(f"t.{name}") in {kind.label for kind in kinds()}
