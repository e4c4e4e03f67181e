"""The columns whose names show that they hold personal values.

A name is compared by its words, in several languages, so that ``ip`` is found in ``last_ip`` and not in ``shipping``.
A word such as ``name`` shows it only in a table of persons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from confiture.catalog_model import Column, Table
from confiture.masking.families import Family, family
from confiture.masking.mask_file import rule_from
from confiture.masking.model import Rule
from confiture.masking.parts import words
from confiture.types import Json


@dataclass(frozen=True, slots=True)
class Personal:
    """One kind of personal values.

    :ivar label: its name in a message.
    :ivar certain: phrases of a column's name that show it; after ``=`` a whole name.
    :ivar doubtful: phrases that show it only in a table of persons.
    :ivar families: the types that it may have.
    :ivar rules: for the suggestion, the best first.
    """

    label: str
    certain: frozenset[str]
    doubtful: frozenset[str]
    families: frozenset[Family]
    rules: tuple[Rule, ...]


#: Types without a rule of their own that hold texts. A composite type holds the texts of its attributes.
_OTHER_TEXTS = frozenset({"_text", "_varchar", "_bpchar", "_citext", "hstore", "xml", "tsvector"})
_ATTRIBUTE = re.compile(r'"(?:[^"]|"")+"|[^\s,()"]+')
_LONGEST = 4


def personal(table: Table, column: Column) -> Personal | None:
    """The kind of personal values that the name and the type of the column show; None if they show none.

    The names of the attributes of a composite type count as that of the column.
    """
    attributes = _ATTRIBUTE.findall(column.attributes or "")
    names = (column.name, *(name.strip('"') for name in attributes))
    return next((shown for name in names if (shown := _personal(table, column, name)) is not None), None)


def _personal(table: Table, column: Column, name: str) -> Personal | None:
    found, kind = words(name), family(column)
    holds_texts = kind is not Family.OTHER or column.base_name in _OTHER_TEXTS or column.attributes is not None
    fitting = [p for p in kinds() if holds_texts and kind in p.families]
    runs = {*_runs(found), "=" + " ".join(found)}
    certain = next((p for p in fitting if p.certain & runs and not _is_technical(found, p, runs)), None)
    if certain is not None or not is_of_persons(table):
        return certain
    return next((p for p in fitting if p.doubtful & runs and _is_alone(p.doubtful, found)), None)


def is_of_persons(table: Table) -> bool:
    """Whether the rows of the table are persons, by its name or by a column that only persons have."""
    named = [word for word in words(table.ref.name) if not word.isdigit()]
    if named and named[-1] in _words("persons"):
        return True
    return any(_words("only_persons") & set(_runs(words(column.name))) for column in table.columns)


@cache
def kinds() -> tuple[Personal, ...]:
    """The kinds of personal values, in the order in which a name is compared with them."""
    return tuple(
        Personal(
            label=entry["label"],
            certain=frozenset(entry["certain"]),
            doubtful=frozenset(entry.get("doubtful", ())),
            families=frozenset(Family[name] for name in entry["families"]),
            rules=tuple(rule_from(rule) for rule in entry["rules"]),
        )
        for entry in _lists()["kinds"]
    )


@cache
def _lists() -> Json:
    path = resources.files("confiture.masking").joinpath("lists", "personal.yaml")
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


@cache
def _words(name: str) -> frozenset[str]:
    """A list of words: ``technical``, ``flags``, ``persons``, ``only_persons`` or ``beside``."""
    return frozenset(_lists()[name])


def _is_technical(found: list[str], kind: Personal, runs: set[str]) -> bool:
    """Whether the name is that of a flag or a property, unless the phrase itself ends like that, as ``tax_id`` does."""
    if len(found) == 1 or (found[0] not in _words("flags") and found[-1] not in _words("technical")):
        return False
    return not any(phrase.split()[-1] == found[-1] for phrase in kind.certain & runs if " " in phrase)


def _is_alone(doubtful: frozenset[str], found: list[str]) -> bool:
    known = {word for phrase in doubtful for word in phrase.split()} | _words("beside")
    return {word.rstrip("0123456789") for word in found} <= known


def _runs(found: list[str]) -> Iterator[str]:
    """Each word and each run of adjacent words, also without the number or the s of a plural at its end."""
    for first in range(len(found)):
        for last in range(first + 1, min(first + _LONGEST, len(found)) + 1):
            run = " ".join(found[first:last])
            yield from (run, run.rstrip("0123456789"), run.removesuffix("s"))
