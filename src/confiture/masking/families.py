"""The families of types to which a rule applies, and the room that a column has. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from confiture.catalog_model import Column
from confiture.masking.model import Kind


class Family(StrEnum):
    """Types that are masked in the same way."""

    STRING = "a string"
    INTEGER = "an integer"
    NUMERIC = "a numeric"
    FLOAT = "a floating-point number"
    DATE = "a date"
    TIMESTAMP = "a time stamp"
    UUID = "a uuid"
    BYTES = "a bytea"
    JSON = "a JSON document"
    ADDRESS = "a network address"
    MAC_ADDRESS = "a MAC address"
    OTHER = "another type"


_FAMILIES = {
    "text": Family.STRING, "varchar": Family.STRING, "bpchar": Family.STRING, "name": Family.STRING,
    "int2": Family.INTEGER, "int4": Family.INTEGER, "int8": Family.INTEGER,
    "numeric": Family.NUMERIC, "money": Family.OTHER, "float4": Family.FLOAT, "float8": Family.FLOAT,
    "date": Family.DATE, "timestamp": Family.TIMESTAMP, "timestamptz": Family.TIMESTAMP,
    "uuid": Family.UUID, "bytea": Family.BYTES, "json": Family.JSON, "jsonb": Family.JSON,
    "inet": Family.ADDRESS, "cidr": Family.ADDRESS, "macaddr": Family.MAC_ADDRESS, "macaddr8": Family.MAC_ADDRESS,
}  # fmt: skip

#: The families that a rule applies to; a rule that is missing here applies to all.
APPLIES: dict[Kind, frozenset[Family]] = {
    Kind.HASH: frozenset({
        Family.STRING, Family.INTEGER, Family.UUID, Family.BYTES, Family.JSON, Family.ADDRESS, Family.MAC_ADDRESS,
    }),
    Kind.EMAIL: frozenset({Family.STRING}),
    Kind.PHONE: frozenset({Family.STRING}),
    Kind.NAME: frozenset({Family.STRING}),
    Kind.ADDRESS: frozenset({Family.STRING}),
    Kind.TEXT: frozenset({Family.STRING}),
    Kind.UUID: frozenset({Family.UUID, Family.STRING}),
    Kind.NUMBER_NOISE: frozenset({Family.INTEGER, Family.NUMERIC, Family.FLOAT}),
    Kind.DATE_SHIFT: frozenset({Family.DATE, Family.TIMESTAMP}),
}  # fmt: skip
#: Bits of the magnitude of an integer.
INTEGER_BITS = {"int2": 15, "int4": 31, "int8": 63}
#: Characters of a value of type name.
_NAME_LENGTH = 63
#: The header of a type modifier.
_HEADER = 4


@dataclass(frozen=True, slots=True)
class Room:
    """The limits of a value of the column.

    :ivar length: characters; None without a limit.
    :ivar bits: of an integer's magnitude; None for another type.
    :ivar folded: whether its equality ignores case (citext).
    """

    length: int | None = None
    bits: int | None = None
    folded: bool = False

    def narrowed(self, other: Room) -> Room:
        """The room of a value that both columns can hold."""
        return Room(_least(self.length, other.length), _least(self.bits, other.bits), self.folded or other.folded)


def family(column: Column) -> Family:
    """The family of the column's base type."""
    if is_citext(column):
        return Family.STRING
    return _FAMILIES.get(column.base_name, Family.OTHER) if column.base_builtin else Family.OTHER


def is_citext(column: Column) -> bool:
    """Whether it has the type of the extension citext."""
    return column.base_name == "citext" and not column.base_builtin


def room(column: Column) -> Room:
    """The room of the column."""
    if column.base_name == "name" and column.base_builtin:
        return Room(_NAME_LENGTH)
    if column.base_name in ("varchar", "bpchar") and column.typmod >= _HEADER:
        return Room(column.typmod - _HEADER)
    return Room(bits=INTEGER_BITS.get(column.base_name), folded=is_citext(column))


def precision_and_scale(column: Column) -> tuple[int, int] | None:
    """The digits of a numeric column, and those of them behind the point; None if it has no limit."""
    if column.base_name != "numeric" or column.typmod < _HEADER:
        return None
    modifier = column.typmod - _HEADER
    # The scale has eleven bits with a sign since PostgreSQL 15.
    return modifier >> 16 & 0xFFFF, ((modifier & 0x7FF) ^ 1024) - 1024


def _least(one: int | None, other: int | None) -> int | None:
    return min(one, other) if one is not None and other is not None else one if other is None else other
