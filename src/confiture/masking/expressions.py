"""The SQL expression of each rule: one over the source row, in which NULL stays NULL.

Functions are qualified with pg_catalog, and operands have types of pg_catalog, so that no search_path changes them.
The templates are in ``sql/masking.sql``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from psycopg import sql

from confiture.catalog_model import Column
from confiture.masking.families import Family, Room, family
from confiture.masking.key import HASH, SHORT
from confiture.masking.model import Kind, Rule
from confiture.masking.numbers import noisy, permuted, shifted
from confiture.plan.projection import wire_type
from confiture.sql import template

#: The domain of masked addresses.
DOMAIN = "example.com"
#: Characters of a hash where there is room: 128 bits. From the second on, hexadecimal digits suffice.
HASH_LENGTH, HEX_FROM = 32, 16
#: Of the local part of an address: 64 bits.
LOCAL_LENGTH = 16
BYTES_LENGTH = 16
#: Bits of a digit in each alphabet; 62 of 64 letters differ.
_HEX_BITS, _LETTER_BITS = 4.0, 5.9
#: Letters before the hash in an address, so that it begins as a name does.
_PREFIX = 1


@dataclass(frozen=True, slots=True)
class Place:
    """The column that a rule is applied to.

    :ivar room: of the column, or of all columns that foreign keys link with it.
    :ivar by: the columns that decide the shift of a date; empty for the date itself.
    """

    column: Column
    room: Room
    by: tuple[str, ...] = ()

    @property
    def reference(self) -> sql.Composable:
        """The column in the source row."""
        return sql.Identifier(self.column.name)

    @property
    def value(self) -> sql.Composable:
        """Its value as text: equal values of any type have equal texts."""
        text = sql.SQL("{}::pg_catalog.text").format(self.reference)
        return sql.SQL("pg_catalog.lower({})").format(text) if self.room.folded else text


def expression(rule: Rule, place: Place) -> str:
    """The SQL expression of a rule that applies to the column's family.

    :raises KeyError: when it does not.
    """
    if rule.kind is Kind.SQL:
        return rule.sql or ""
    built = _BUILDERS[rule.kind](rule, place)
    return built.as_string(None)


def hash_bits(rule: Rule, place: Place) -> float:
    """The bits in which two masked values may differ: with few of them, two values become equal by chance."""
    kind = family(place.column)
    if kind is Family.INTEGER:
        return float("inf")  # a permutation
    if kind is Family.ADDRESS:
        return 24
    if kind is Family.MAC_ADDRESS:
        return 40 if place.column.base_name == "macaddr" else 56
    if rule.kind is Kind.UUID or kind is Family.UUID:
        return 112
    if rule.kind is Kind.EMAIL:
        length = email_length(rule, place)
    elif kind is Family.BYTES:
        return 8 * BYTES_LENGTH
    else:
        length = hash_length(rule, place)
    return length * (_HEX_BITS if _is_hex(length, place) else _LETTER_BITS)


def hash_length(rule: Rule, place: Place) -> int:
    """The characters of a hash."""
    wanted = rule.length or HASH_LENGTH
    return wanted if place.room.length is None else min(wanted, place.room.length)


def email_length(rule: Rule, place: Place) -> int:
    """The characters of the hash in the local part; below 1 if there is no room for the domain."""
    used = _PREFIX + 1 + len(rule.domain or DOMAIN)
    return LOCAL_LENGTH if place.room.length is None else min(LOCAL_LENGTH, place.room.length - used)


def _is_hex(length: int, place: Place) -> bool:
    return length >= HEX_FROM or place.room.folded


def _filled(block: str, **holes: sql.Composable | int) -> sql.Composed:
    found = {name: sql.Literal(hole) if isinstance(hole, int) else hole for name, hole in holes.items()}
    return template("masking.sql", block).format(**found)


def _mac(place: Place) -> sql.Composed:
    return _filled("mac", value=place.value)


def _short(value: sql.Composable, setting: str = SHORT) -> sql.Composed:
    return _filled("short", value=value, setting=sql.Literal(setting))


def _keep(rule: Rule, place: Place) -> sql.Composable:
    return place.reference


def _null(rule: Rule, place: Place) -> sql.Composable:
    return sql.SQL("NULL")


def _constant(rule: Rule, place: Place) -> sql.Composable:
    literal = sql.SQL("{}::{}").format(sql.Literal(rule.value), sql.SQL(wire_type(place.column)[0]))
    return sql.SQL("CASE WHEN {} IS NULL THEN NULL ELSE {} END").format(place.reference, literal)


def _letters(length: int, place: Place, hashed: sql.Composed) -> sql.Composed:
    if not _is_hex(length, place):
        return _filled("letters", hash=hashed, length=length)
    if length % 2:
        return _filled("odd_hex", hash=hashed, length=length)
    return _filled("hex", hash=hashed, bytes=length // 2)


def _hash(rule: Rule, place: Place) -> sql.Composable:
    kind, name = family(place.column), place.column.base_name
    if kind is Family.INTEGER:
        return permuted(place.reference, place.room.bits or 0, name)
    if kind is Family.UUID:
        return _uuid(rule, place)
    if kind is Family.BYTES:
        return _filled("bytes", hash=_short(place.value), length=BYTES_LENGTH)
    if kind is Family.JSON:
        return _filled("json", digits=_hash_text(rule, place))
    if kind is Family.ADDRESS:
        made = _filled("inet", hash=_short(place.value), column=place.reference)
        return made if name == "inet" else sql.SQL("pg_catalog.network({})").format(made)
    if kind is Family.MAC_ADDRESS:
        bytes_ = 5 if name == "macaddr" else 7
        return _filled("macaddr", hash=_short(place.value), length=bytes_, type=sql.SQL(f"pg_catalog.{name}"))
    return _hash_text(rule, place)


def _hash_text(rule: Rule, place: Place) -> sql.Composed:
    length = hash_length(rule, place)
    return _letters(length, place, _short(place.value, HASH) if length <= HASH_LENGTH else _mac(place))


def _email(rule: Rule, place: Place) -> sql.Composable:
    local = _letters(email_length(rule, place), place, _short(place.value))
    return _filled("email", value=place.value, local=local, domain=sql.Literal(f"@{rule.domain or DOMAIN}"))


def _uuid(rule: Rule, place: Place) -> sql.Composable:
    made = _filled("uuid", hash=_short(place.value))
    return made if family(place.column) is Family.UUID else sql.SQL("({})::pg_catalog.text").format(made)


def _phone(rule: Rule, place: Place) -> sql.Composable:
    codes = {f"code_at_{at}": _filled("country_code", value=place.value, place=at) for at in (2, 3)}
    digits = _digits(place, _filled("country", value=place.value, **codes))
    return _filled("hiding_letters", value=place.value, digits=digits)


def _digits(place: Place, kept: sql.Composable) -> sql.Composed:
    return _filled("phone", value=place.value, short=_short(place.value), kept=kept)


def _name(rule: Rule, place: Place) -> sql.Composable:
    first, last = entries("first_names"), entries("last_names")
    if rule.part in ("first", "last"):
        made = _listed(place, first if rule.part == "first" else last)
    else:
        made = _filled(
            "full_name",
            value=place.value,
            short=_short(place.value),
            first=_array(first),
            first_length=len(first),
            last=_array(last),
            last_length=len(last),
        )
    return _shortened(made, place, max(map(len, first)) + 1 + max(map(len, last)))


def _address(rule: Rule, place: Place) -> sql.Composable:
    streets, cities = entries("streets"), entries("cities")
    if rule.part == "postcode":
        return _filled("postcode", value=place.value, digits=_digits(place, sql.Literal(0)))
    if rule.part == "city":
        made = _listed(place, cities)
    else:
        lists = {"streets": _array(streets), "streets_length": sql.Literal(len(streets))}
        if rule.part != "street":
            lists |= {"cities": _array(cities), "cities_length": sql.Literal(len(cities))}
        block = "street" if rule.part == "street" else "full_address"
        made = _filled(block, value=place.value, short=_short(place.value), **lists)
    return _shortened(made, place, max(map(len, streets)) + max(map(len, cities)) + len("256 , "))


def _listed(place: Place, words: tuple[str, ...]) -> sql.Composed:
    short = _short(place.value)
    return _filled("listed", value=place.value, short=short, list=_array(words), length=len(words))


def _shortened(made: sql.Composed, place: Place, most: int) -> sql.Composed:
    length = place.room.length
    return made if length is None or length >= most else _filled("short_enough", expression=made, length=length)


def _text(rule: Rule, place: Place) -> sql.Composable:
    value = sql.SQL("{}::pg_catalog.text").format(place.reference)
    return _filled("text", value=value, ascii=_filled("ascii", value=value))


def _number_noise(rule: Rule, place: Place) -> sql.Composable:
    return noisy(rule, place.column, place.reference, _short(place.value))


def _date_shift(rule: Rule, place: Place) -> sql.Composable:
    texts = [sql.SQL("{}::pg_catalog.text").format(sql.Identifier(name)) for name in place.by]
    by = sql.SQL(" || ',' || ").join(texts)
    # The date itself where the person is not known.
    person = sql.SQL("COALESCE({}, {}::pg_catalog.text)").format(by, place.reference) if texts else place.value
    return shifted(rule, family(place.column) is Family.DATE, place.reference, _short(person))


_BUILDERS: dict[Kind, Callable[[Rule, Place], sql.Composable]] = {
    Kind.KEEP: _keep,
    Kind.NULL: _null,
    Kind.CONSTANT: _constant,
    Kind.HASH: _hash,
    Kind.EMAIL: _email,
    Kind.PHONE: _phone,
    Kind.NAME: _name,
    Kind.ADDRESS: _address,
    Kind.UUID: _uuid,
    Kind.TEXT: _text,
    Kind.NUMBER_NOISE: _number_noise,
    Kind.DATE_SHIFT: _date_shift,
}


@cache
def entries(name: str) -> tuple[str, ...]:
    """The entries of a list of the package, which are ASCII so that every encoding has them.

    :param name: ``first_names``, ``last_names``, ``streets`` or ``cities``.
    """
    text = resources.files("confiture.masking").joinpath("lists", f"{name}.txt").read_text(encoding="ascii")
    return tuple(text.splitlines())


def _array(words: tuple[str, ...]) -> sql.Composable:
    return sql.Literal("{" + ",".join(f'"{word}"' if " " in word else word for word in words) + "}")
