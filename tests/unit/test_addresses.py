"""Addresses that users give, and URLs that are printed for applications: never with a secret."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from confiture.config import Database, address
from confiture.errors import UsageError


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("db1", "db1", None),
        ("db1.example.org:6432", "db1.example.org", "6432"),
        ("[::1]:5432", "::1", "5432"),
        ("host=db1 port=5433", "db1", "5433"),
        ("port=5433", None, "5433"),
    ],
)
def test_an_address_consists_of_host_and_port(given: str, host: str | None, port: str | None) -> None:
    found = conninfo_to_dict(address(given))
    assert (found.get("host"), found.get("port")) == (host, port)


@pytest.mark.parametrize("given", ["", "host=a password=canary", "host=a dbname=b", "a b", "postgresql://u:canary@h/d"])
def test_an_invalid_address_is_refused_without_printing_it(given: str) -> None:
    with pytest.raises(UsageError) as refused:
        address(given)
    assert "canary" not in "".join(refused.value.lines())


@pytest.mark.parametrize(
    ("conninfo", "url"),
    [
        ("host=h port=5433 user=u password=canary dbname=d", "postgresql://u@h:5433/d"),
        ("host=::1 user=u dbname=d", "postgresql://u@[::1]/d"),
        ("host=/tmp port=5433 dbname='a b'", "postgresql:///a%20b?host=%2Ftmp&port=5433"),
        ("host=a,b port=1,2 dbname=d sslmode=require", "postgresql:///d?host=a%2Cb&port=1%2C2&sslmode=require"),
        ("service=x dbname=d", "postgresql:///d?service=x"),
        ("user='a@b' host=h dbname='d?'", "postgresql://a%40b@h/d%3F"),
    ],
)
def test_a_url_without_secrets_names_the_same_database(conninfo: str, url: str) -> None:
    database = Database("d", conninfo)
    assert database.url == url
    assert conninfo_to_dict(url) == conninfo_to_dict(database.public)
    assert "canary" not in url
    given = conninfo_to_dict(database.application_url)
    assert given == {k: v for k, v in conninfo_to_dict(url).items() if k != "user"}
