"""The part of a name or an address that a column has, by its own name. No I/O."""

from __future__ import annotations

import re
from dataclasses import replace

from confiture.masking.model import Kind, Rule

_NAME_PARTS = (
    ("first", {"first", "given", "forename", "firstname", "givenname", "vorname", "prenom", "prénom", "fname"}),
    (
        "last",
        {"last", "sur", "surname", "lastname", "family", "familyname", "nachname", "lname", "apellido", "cognome"},
    ),
)
_ADDRESS_PARTS = (
    ("street", {"street", "strasse", "straße", "rue", "line1", "addr1", "address1", "calle"}),
    ("city", {"city", "town", "ort", "stadt", "ville", "ciudad", "citta"}),
    ("postcode", {"zip", "zipcode", "postcode", "postal", "postalcode", "plz", "cp"}),
)
_WORD = re.compile(r"[A-ZÀ-Þ]?[a-zß-ÿ]+\d*|[A-ZÀ-Þ]+(?![a-zß-ÿ])\d*|\d+")


def words(name: str) -> list[str]:
    """The words of a column's name in lower case: of ``homePhone`` and ``home_phone`` they are home and phone."""
    return [word.lower() for word in _WORD.findall(name)]


def with_part(rule: Rule, column: str) -> Rule:
    """The rule with the part that the column's name shows, if the rule has parts and names none; else ``full``."""
    if rule.part is not None or rule.kind not in (Kind.NAME, Kind.ADDRESS):
        return rule
    found = set(words(column))
    known = _NAME_PARTS if rule.kind is Kind.NAME else _ADDRESS_PARTS
    return replace(rule, part=next((part for part, shown in known if found & shown), "full"))
