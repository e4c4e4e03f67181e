"""The differences between two descriptions, object by object. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from confiture.catalog_differences.model import (
    COLUMN_ORDER,
    COMMENT,
    DEFAULT_PRIVILEGES,
    GRANTS,
    INHERITS,
    OWNER,
    PARTITION_OF,
    VERSION,
    DescribedObject,
    Description,
    Difference,
    Found,
    PropertyDifference,
    without_properties,
)

_Objects = Mapping[tuple[str, str], DescribedObject]


def differences(expected: Description, found: Description) -> tuple[Difference, ...]:
    """The objects that are not equal, ordered by the object that they belong to, kind and name.

    A part of a missing or an extra object, such as a column of a table, is no difference of its own. Neither is a
    difference that a partition, or a table that inherits, has in common with its parent.
    """
    before: _Objects = {o.identity: o for o in expected}
    after: _Objects = {o.identity: o for o in found}
    every = sorted(before.keys() | after.keys(), key=lambda identity: _place(before.get(identity) or after[identity]))
    all_of_them = {d.identity: d for identity in every for d in _difference(identity, before, after)}
    return tuple(d for d in all_of_them.values() if not _is_that_of_a_parent(d, all_of_them, after))


def _place(one: DescribedObject) -> tuple[object, ...]:
    """Sorts an object before its parts, and those before the next object."""
    kind, name = one.of or one.identity
    return name, kind, one.of is not None, one.identity


def _difference(identity: tuple[str, str], before: _Objects, after: _Objects) -> Iterator[Difference]:
    was, now = before.get(identity), after.get(identity)
    one = was or now
    if one is None or was == now:
        return
    if was is None or now is None:
        if one.of is not None and ((one.of in before) != (one.of in after)):
            return
        status = Found.EXTRA if was is None else Found.MISSING
    else:
        status = Found.DIFFERENT
    yield Difference(status, *identity, one.of, tuple(_properties(was, now)))


def _is_that_of_a_parent(one: Difference, every: Mapping[tuple[str, str], Difference], after: _Objects) -> bool:
    """Whether a table differs in the same way as a parent of it: in a column, a constraint or the order of columns."""
    table = after.get(one.of or one.identity)
    if table is None:
        return False
    parents = table.value(PARTITION_OF) or table.value(INHERITS)
    if parents is None or not one.name.startswith(table.name):
        return False
    same = (every.get((one.kind, parent + one.name.removeprefix(table.name))) for parent in parents.split(", "))
    return any(_is_alike(one, other) for other in same if other is not None and other.status is one.status)


def _is_alike(one: Difference, parents: Difference) -> bool:
    if one.of is None:
        return {p.name for p in one.properties} == {COLUMN_ORDER} <= {p.name for p in parents.properties}
    return one.properties == parents.properties


def _properties(was: DescribedObject | None, now: DescribedObject | None) -> Iterator[PropertyDifference]:
    before, after = dict(was.properties if was else ()), dict(now.properties if now else ())
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield PropertyDifference(name, before.get(name), after.get(name))


def stated_by_ddl(
    empty: Description, built: Description, found: Description, builder: str, stated: frozenset[str]
) -> tuple[Description, Description]:
    """Both descriptions without owners, privileges, comments and versions that the DDL does not determine.

    Privileges are compared for every object if the DDL grants or revokes any, and comments if it has any. The version
    of extensions is compared if the DDL names one. The owner of an object is compared if the DDL gave the object to
    another role than the one that has run it.

    :param empty: the description of the database in which the DDL was run, before that.
    :param built: after that; ``found`` is that of the other database.
    :param builder: the role that has run the DDL.
    :param stated: the properties that statements of the DDL name, whatever their effect.
    """
    left = frozenset(name for name in (GRANTS, COMMENT) if name not in stated and not _any(name, empty, built))
    expected, other = without_properties(built, left), without_properties(found, left)
    if GRANTS in left:
        expected, other = (tuple(o for o in d if o.kind != DEFAULT_PRIVILEGES) for d in (expected, other))
    if VERSION not in stated:
        expected, other = _without_versions(expected), _without_versions(other)
    before = {o.identity: o.value(OWNER) for o in empty}
    given = {o.identity for o in built if o.value(OWNER) not in (builder, before.get(o.identity))}
    return _owned(expected, given), _owned(other, given)


def _without_versions(described: Description) -> Description:
    version = frozenset((VERSION,))
    return tuple(without_properties((o,), version)[0] if o.kind == "extension" else o for o in described)


def _any(name: str, empty: Description, built: Description) -> bool:
    before = {o.identity: o.value(name) for o in empty}
    return any(o.value(name) not in (None, before.get(o.identity)) for o in built)


def _owned(described: Description, given: set[tuple[str, str]]) -> Description:
    owner = frozenset((OWNER,))
    return tuple(o if o.identity in given else without_properties((o,), owner)[0] for o in described)


def without_names(described: Description, patterns: tuple[str, ...]) -> Description:
    """The objects that no pattern matches, by the name of the object or of the object that it belongs to.

    :param patterns: as in a shell, such as ``public.event_2*``; a name of schema ``public`` may be given without it.
    """
    return tuple(o for o in described if not any(_matches(name, patterns) for name in (o.name, (o.of or ("", ""))[1])))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, p) or fnmatchcase(name.removeprefix("public."), p) for p in patterns)
