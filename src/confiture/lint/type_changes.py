"""Whether a change of a column's type rewrites the table. No I/O.

https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-NOTES
"""

from __future__ import annotations

from confiture.lint.nodes import Type

#: Types that differ in no stored byte, and whose cast calls no function.
_SAME = (
    frozenset(("varchar", "text")),
    frozenset(("oid", "int4")),
    frozenset(("bit", "varbit")),
)
#: The same in one direction only.
_ONE_WAY = (("cidr", "inet"), ("xml", "text"), ("xml", "varchar"), ("int4", "regclass"), ("oid", "regclass"))
#: The number of fractional digits where a type states none.
_DIGITS = 6
_TIMES = ("timestamp", "timestamptz", "time", "timetz")


def rewrites(old: Type, new: Type) -> bool:
    """Whether the values have to be stored again. Domains are compared by their names."""
    if old.array or new.array:
        return _in_arrays(old, new)
    if old.name == new.name:
        return _narrower(old, new)
    if (old.name, new.name) in _ONE_WAY or frozenset((old.name, new.name)) in _SAME:
        return bool(new.modifiers) and not (old.name == "varchar" and not _shorter(old, new))
    return True


def _in_arrays(old: Type, new: Type) -> bool:
    """Arrays keep their files only if their elements are the same: the server compares no modifiers of elements."""
    return (old.array, old.name) != (new.array, new.name) or (bool(new.modifiers) and old.modifiers != new.modifiers)


def _narrower(old: Type, new: Type) -> bool:
    """Whether values may have to change to fit the modifiers of the same type."""
    if old.modifiers == new.modifiers:
        return False
    if old.name in ("varchar", "varbit"):
        return _shorter(old, new)
    if old.name == "numeric":
        return _less_precise(old, new)
    if old.name in _TIMES:
        return (new.modifiers or (_DIGITS,))[0] < (old.modifiers or (_DIGITS,))[0]
    if old.name == "interval":
        return bool(new.modifiers)
    return True


def _shorter(old: Type, new: Type) -> bool:
    return bool(new.modifiers) and (not old.modifiers or new.modifiers[0] < old.modifiers[0])


def _less_precise(old: Type, new: Type) -> bool:
    if not new.modifiers:
        return False
    if not old.modifiers:
        return True
    scale = [(*modifiers, 0)[1] for modifiers in (old.modifiers, new.modifiers)]
    return scale[0] != scale[1] or new.modifiers[0] < old.modifiers[0]
