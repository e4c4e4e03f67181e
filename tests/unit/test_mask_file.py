"""The grammar of the mask file: every form is read, and every fault is reported with its position."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confiture.errors import UsageError
from confiture.masking.mask_file import load, parse
from confiture.masking.model import Kind, MaskFile, Rule

GUIDE = """\
$defaults:
  "*_phone": phone
customer:
  email: email
  "Full Name": {rule: name, part: full}
  token: {rule: hash, length: 12}
  country: {rule: constant, value: XX}
  salary: {rule: number noise, percent: 10}
  born: {rule: date shift, days: 30, by: person_id}
  note: {sql: "left(note, 3)", leak_percent: 20}
  old: null
"""


def read(text: str) -> MaskFile:
    file, faults = parse(dedent(text), "m.yaml")
    assert faults == ()
    return file


def refused(text: str) -> list[str]:
    return [str(fault) for fault in parse(dedent(text), "m.yaml")[1]]


def test_every_form_of_a_rule_is_read() -> None:
    text = GUIDE.replace('"Full Name"', "'\"Full Name\"'")
    file = read(text)
    (default,), (table,) = file.defaults, file.tables
    assert (default.pattern, default.rule) == ("*_phone", Rule(Kind.PHONE))
    assert [(c.column, c.rule) for c in table.columns] == [
        ("email", Rule(Kind.EMAIL)),
        ("Full Name", Rule(Kind.NAME, part="full")),
        ("token", Rule(Kind.HASH, length=12)),
        ("country", Rule(Kind.CONSTANT, value="XX")),
        ("salary", Rule(Kind.NUMBER_NOISE, percent=10)),
        ("born", Rule(Kind.DATE_SHIFT, days=30, by="person_id")),
        ("note", Rule(Kind.SQL, sql="left(note, 3)", leak_percent=20)),
        ("old", Rule(Kind.NULL)),
    ]
    assert (table.columns[2].at.line, table.columns[2].at.column) == (6, 3)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("c: emial", "m.yaml:2:6: unknown rule 'emial' (did you mean email?)"),
        ("c: {rule: hash, lenght: 3}", "m.yaml:2:19: unknown option 'lenght' of the rule hash (did you mean length?)"),
        ("c: {rule: hash, length: 3}", "m.yaml:2:27: length cannot be '3' (give a whole number from 4 to 64)"),
        ("c: {rule: number noise, percent: 100}", "percent cannot be '100' (give a number from 0.1 to 99)"),
        ("c: {rule: date shift, days: 1.5}", "days cannot be '1.5'"),
        ("c: {rule: constant}", "the rule constant lacks value"),
        ("c: constant", "the rule constant lacks value"),
        ("c: {rule: name, part: frist}", "part cannot be 'frist' (did you mean first?)"),
        ("c: {rule: email, domain: gmail.com}", "mail to 'gmail.com' may be delivered"),
        ("c: {rule: keep, length: 5}", "unknown option 'length' of the rule keep (the rule keep has no options)"),
        ("c: {length: 5}", "the rule has no name"),
        ("c: {sql: x, length: 5}", "length beside sql"),
        ("c: {sql: x, leak_percent: 101}", "leak_percent cannot be '101'"),
        ("c: {sql: ''}", "sql is empty"),
        ("c:", "expected the name of a rule"),
        ("c: [email]", "expected a rule"),
        ("{c: email, C: hash}", "C is given twice (first in line 2)"),
        ("a.b: email", "a.b is the name of a table and a column"),
    ],
)
def test_a_fault_has_its_position_and_a_hint(entry: str, fault: str) -> None:
    (found,) = refused(f"t:\n  {entry}")
    assert fault in found


def test_all_faults_of_a_file_are_reported_in_their_order() -> None:
    found = refused(
        "t:\n  a: emial\n  b: {rule: hash, length: x}\n$default: {}\nu:\n$defaults: {'a b': hash, c: {sql: x}}\n"
    )
    assert [fault.split(":")[1] for fault in found] == ["2", "3", "4", "5", "6", "6"]
    assert "did you mean $defaults?" in found[2]


@pytest.mark.parametrize("domain", ["example.com", "mail.example.org", "corp.test", "a.invalid", "Example.NET"])
def test_a_reserved_domain_is_accepted(domain: str) -> None:
    (table,) = read(f"t: {{c: {{rule: email, domain: {domain}}}}}").tables
    assert table.columns[0].rule.domain == domain.lower()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"The mask file nowhere\.yaml cannot be read"):
        load(Path("nowhere.yaml"))


@given(st.text())
def test_any_text_gives_a_file_or_faults(text: str) -> None:
    file, faults = parse(text, "m.yaml")
    assert isinstance(file, MaskFile)
    assert all(fault.line >= 1 and fault.message for fault in faults)
