"""The examples of the page on masking are what a server computes."""

from __future__ import annotations

import re

import pytest

from confiture.masking.mask_file import OPTIONS
from conftest import ROOT
from masking import evaluated, masks_of
from servers import TestDatabase

PAGE = (ROOT / "docs/masking.md").read_text(encoding="utf-8")
KEY = b"an example of a key"
ROW = re.compile(
    r"^\| `(?P<type>[^`]+)` \| `(?P<rule>[^`]+)` \| (?P<original>.*?) \| (?P<masked>.*?) \|$", re.MULTILINE
)
EXAMPLES = [found.groups() for found in ROW.finditer(PAGE.split("<!-- examples -->")[1].split("<!-- end")[0])]


@pytest.mark.parametrize(("type_", "rule", "original", "masked"), EXAMPLES)
def test_an_example_of_the_page_is_computed(
    database: TestDatabase, type_: str, rule: str, original: str, masked: str
) -> None:
    with database.connect() as connection:
        connection.execute(f"CREATE TABLE one (c {type_})".encode())
        connection.execute(f"INSERT INTO one VALUES (%s::text::{type_})".encode(), (original,))
    ((found,),) = evaluated(database, masks_of(database, f"one: {{c: {rule}}}").masks, KEY)
    assert found == masked


def test_the_page_lists_every_rule_with_its_options() -> None:
    rows = dict(re.findall(r"^\| `([a-z ]+)` \| ([^|]*?) ?\|", PAGE.split("<!-- examples -->")[0], re.MULTILINE))
    for kind, options in OPTIONS.items():
        assert set(re.findall(r"`(\w+)`", rows[str(kind)])) == set(options)
    assert {rule.strip("{").removeprefix("rule: ").split(",")[0].rstrip("}") for _, rule, _, _ in EXAMPLES} | {
        "keep",
        "null",
    } == {str(kind) for kind in OPTIONS}
