"""A secret is found in a text in any encoding, and a hook gets no variable that contains one."""

from __future__ import annotations

import base64
import json
import os
import shlex
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from confiture import secret_values
from confiture.commands.hooks import environment_of_hook
from confiture.config import Database

SECRET = "p@ss w/ö'r\\d\"%41+"

FORMS = {
    "as it is": SECRET,
    "within": f"-p{SECRET}-",
    "percent-encoded": quote(SECRET, safe=""),
    "with slashes kept": quote(SECRET),
    "in lower case": quote(SECRET, safe="").replace("%2F", "%2f").replace("%C3%B6", "%c3%b6"),
    "every byte encoded": "".join(f"%{byte:02x}" for byte in SECRET.encode()),
    "with plus for blanks": quote_plus(SECRET),
    "encoded twice": quote(quote(SECRET, safe=""), safe=""),
    "libpq": make_conninfo("", host="h", password=SECRET),
    "shell": shlex.quote(SECRET),
    "SQL": SECRET.replace("'", "''"),
    "JSON": json.dumps({"password": SECRET}),
    "a URL within JSON": json.dumps({"url": f"jdbc:postgresql://h/d?user=u&pw={quote_plus(SECRET)}"}),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "URL-safe base64": base64.urlsafe_b64encode(f"user:{SECRET}".encode()).decode(),
    "base64 of a URL": base64.b64encode(f"postgresql://u:{quote(SECRET, safe='')}@h/d".encode()).decode(),
    "base64 with line breaks": base64.encodebytes(f"{'x' * 70}{SECRET}".encode()).decode(),
    "hex": SECRET.encode().hex().upper(),
}


@pytest.mark.parametrize("form", FORMS)
def test_variable_with_an_encoded_password_does_not_reach_the_hook(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(os, "environ", {"SOME_NAME": FORMS[form], "OTHER": "kept", "PATH": "/bin"})
    database = Database("old", make_conninfo("", host="a", user="u", password=SECRET))
    for pair in ((database, Database("new", "host=b")), (Database("old", "host=a"), database)):
        environment = environment_of_hook("12345678", *pair)
        assert "SOME_NAME" not in environment
        assert (environment["OTHER"], environment["PATH"]) == ("kept", "/bin")


def test_password_that_only_libpq_has_read_does_not_reach_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"A": "x-from-a-file", "B": "of-the-environment", "PGPASSWORD": "of-the-env"})
    monkeypatch.setattr(secret_values, "_used", {"from-a-file"})
    kept = environment_of_hook("12345678", Database("old", "host=a"), Database("new", "host=b"))
    assert not {"A", "B", "PGPASSWORD"} & set(kept)


@given(before=st.text(max_size=5), secret=st.text(min_size=4, max_size=12), after=st.text(max_size=5))
def test_secret_is_found_wherever_it_begins_in_base64(before: str, secret: str, after: str) -> None:
    text = (before + secret + after).encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert secret_values.contains(encode(text).decode(), [secret])


def test_text_without_a_secret_contains_none() -> None:
    assert not secret_values.contains("/usr/lib/postgresql/18/bin", ["", "correct horse"])
    assert not secret_values.contains("aGVsbG8gd29ybGQ=", ["correct horse"])
