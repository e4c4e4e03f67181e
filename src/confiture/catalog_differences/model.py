"""The values: an object of a database with its properties, and a difference between two databases. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: The properties that a database may have without being stated by its DDL.
OWNER: Final = "owner"
GRANTS: Final = "grants"
COMMENT: Final = "comment"
#: The property of an extension that depends on the server if the DDL does not state it.
VERSION: Final = "version"
#: The property of a table that lists its columns in their order.
COLUMN_ORDER: Final = "column order"
#: The property of a partition that names its parent, and that of a table that inherits.
PARTITION_OF: Final = "partition of"
INHERITS: Final = "inherits"
#: The kind of the objects that only ``ALTER DEFAULT PRIVILEGES`` creates.
DEFAULT_PRIVILEGES: Final = "default privileges"


@dataclass(frozen=True, slots=True, order=True)
class DescribedObject:
    """An object of a database.

    Two databases have the same object if all fields are equal: no field depends on OIDs or on the name of the database.

    :ivar kind: the kind as in ``DROP``, such as ``table`` or ``foreign server``.
    :ivar name: the qualified name, quoted as SQL requires it; that of a function has the types of its arguments, and
        that of a column, constraint, trigger, rule or policy begins with the name of its table.
    :ivar of: kind and name of the object that it is dropped with; None for an object of its own.
    :ivar properties: names and values, sorted by name. A property that has the usual value is absent.
    """

    kind: str
    name: str
    of: tuple[str, str] | None
    properties: tuple[tuple[str, str], ...]

    @property
    def identity(self) -> tuple[str, str]:
        """Kind and name, which no other object of the database has."""
        return self.kind, self.name

    def value(self, name: str) -> str | None:
        """The value of a property; None if it has the usual value."""
        return dict(self.properties).get(name)


#: Every object of a database, in order.
Description = tuple[DescribedObject, ...]


class Found(StrEnum):
    """How an object of the database differs from the expected one."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class PropertyDifference:
    """A property whose value is not the expected one; None is the usual value, which is not written.

    :ivar name: of the property.
    """

    name: str
    expected: str | None
    found: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that differs between two databases.

    :ivar of: kind and name of the object that it belongs to, such as the table of a column.
    :ivar properties: those that differ; of a missing or an extra object, all of its own.
    """

    status: Found
    kind: str
    name: str
    of: tuple[str, str] | None
    properties: tuple[PropertyDifference, ...]

    @property
    def identity(self) -> tuple[str, str]:
        """Kind and name of the object."""
        return self.kind, self.name


def without_properties(described: Sequence[DescribedObject], names: frozenset[str]) -> Description:
    """The same objects without some of their properties."""
    return tuple(
        DescribedObject(o.kind, o.name, o.of, tuple(p for p in o.properties if p[0] not in names)) for o in described
    )
