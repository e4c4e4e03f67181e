"""The part of a name or an address that a column has, by its own name. No I/O."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from confiture.masking.model import Kind, Rule

_NAME_PARTS = (
    ("first", {"first", "given", "forename", "firstname", "givenname", "vorname", "prenom", "fname"}),
    (
        "last",
        {"last", "sur", "surname", "lastname", "family", "familyname", "nachname", "lname", "apellido", "cognome"},
    ),
)
#: Between a small letter and a capital, and before the last capital of several.
_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
_ADDRESS_PARTS = (
    ("street", {"street", "strasse", "rue", "line1", "addr1", "address1", "calle"}),
    ("city", {"city", "town", "ort", "stadt", "ville", "ciudad", "citta"}),
    ("postcode", {"zip", "zipcode", "postcode", "postal", "postalcode", "plz", "cp"}),
)


def words(name: str) -> list[str]:
    """The words of a name, in lower case and without accents: of ``homePhone`` they are home and phone."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return [word.casefold() for word in _WORD.findall(_CASE.sub(" ", plain))]


def with_part(rule: Rule, column: str) -> Rule:
    """The rule with the part that the column's name shows, if the rule has parts and names none; else ``full``."""
    if rule.part is not None or rule.kind not in (Kind.NAME, Kind.ADDRESS):
        return rule
    found = set(words(column))
    known = _NAME_PARTS if rule.kind is Kind.NAME else _ADDRESS_PARTS
    return replace(rule, part=next((part for part, shown in known if found & shown), "full"))
