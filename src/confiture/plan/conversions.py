"""The losses of a type conversion, and the columns that a key may have: pure functions of the catalogs' columns."""

from __future__ import annotations

from confiture.catalog_model import Column
from confiture.plan.projection import wire_type
from confiture.types import quoted

STRINGS = {"text", "varchar", "bpchar", "name"}
_INTEGERS = {"int2", "int4", "int8"}
NUMBERS = _INTEGERS | {"numeric"}
#: Types whose values both servers order alike, whatever their locales.
PORTABLE_ORDER = {
    "int2", "int4", "int8", "uuid", "bytea", "date", "time", "timestamp", "timestamptz", "bool", "oid", "numeric",
    "money", "macaddr", "macaddr8", "inet", "cidr",
}  # fmt: skip
_KEY_TYPES = PORTABLE_ORDER | STRINGS | {"char", "timetz", "bit", "varbit"}
#: Conversions that lose nothing.
_LOSSLESS = {
    ("int2", "int4"),
    ("int2", "int8"),
    ("int4", "int8"),
    ("int2", "numeric"),
    ("int4", "numeric"),
    ("int8", "numeric"),
    ("int2", "float4"),
    ("int2", "float8"),
    ("int4", "float8"),
    ("float4", "float8"),
    ("date", "timestamp"),
    ("cidr", "inet"),
    ("macaddr", "macaddr8"),
    ("jsonb", "json"),
    ("bit", "varbit"),
}


def order_family(column: Column) -> str:
    return "integer" if column.base_name in _INTEGERS else column.base_name


def key_problem(column: Column) -> str | None:
    """Why a column cannot be part of a key (I-1.8): it may be NULL, or equal values may have different bytes."""
    if not column.null_free:
        return "may be NULL"
    return equality_problem(column)


def equality_problem(column: Column) -> str | None:
    """Why equal values of the column may have different bytes (I-1.9); None if they cannot."""
    if not column.deterministic:
        return f"has the nondeterministic collation {column.collation}: equal values may differ"
    if column.base_kind == "e":
        return None
    if not column.base_builtin or column.base_name not in _KEY_TYPES:
        return f"has type {column.formatted}, whose equality is not that of its bytes"
    if column.base_name == "numeric" and column.typmod == -1:
        return "is numeric without a fixed scale: 1.0 and 1.00 are equal and differ"
    if column.base_name == "bpchar" and column.typmod == -1:
        return "is bpchar without a length: values that differ in trailing blanks are equal"
    return None


def image_problem(source: Column, target: Column) -> str | None:
    """Why the target column cannot hold the values of a key column: different keys must remain different."""
    problem = equality_problem(target)
    if problem is not None:
        return f"is copied to {quoted(target.name)}, which {problem}"
    if not _keeps_apart(source, target):
        return f"is copied from {source.formatted} to {target.formatted}, which may make different keys equal"
    return None


#: Casts between types that keep different values different.
_KEEPS_APART = {("date", "timestamp"), ("cidr", "inet"), ("macaddr", "macaddr8"), ("bit", "varbit")}


def _keeps_apart(source: Column, target: Column) -> bool:
    """Whether the cast converts different source values to different target values, or raises an error.

    Equal values of either column have equal bytes.
    """
    a, b = source.base_name, target.base_name
    if target.base_builtin and b in ("text", "varchar"):
        return True  # different values of each such type have different text forms
    if target.base_kind == "e":
        return source.base_kind == "e" or a in STRINGS  # converted by the label, which is not truncated
    if b == "numeric" and a in _INTEGERS:
        return _scale(target.typmod) >= 0
    if a == "numeric" and b in _INTEGERS:
        return _scale(source.typmod) <= 0
    if a in _INTEGERS and b in _INTEGERS:
        return True  # a value out of range is an error
    return (_same_type(source, target) and _narrowing(source, target) is None) or (a, b) in _KEEPS_APART


def _same_type(a: Column, b: Column) -> bool:
    return (a.base_schema, a.base_name) == (b.base_schema, b.base_name)


def conversion_problem(source: Column, target: Column) -> str | None:
    """Why a column must not be copied without a transform: the loss (I-1.4). None if nothing is lost.

    A string that is too long is an error when it is copied and is never truncated, so lengths may shrink.
    """
    if target.base_name in ("text", "varchar") and target.base_builtin:
        return None
    if source.base_name in STRINGS and wire_type(target)[1] is not None:
        return None  # the input function of the target type reads the text: an invalid value is an error
    if source.attributes is not None and target.attributes is not None and source.attributes != target.attributes:
        # As text, a value has its attributes in their order and without their names.
        return f"{source.formatted} has the attributes ({source.attributes}), the target's ({target.attributes})"
    if _same_type(source, target):
        return _narrowing(source, target)
    both_own = not source.base_builtin and not target.base_builtin
    if both_own and source.base_name == target.base_name:
        return None
    if both_own and source.base_kind == target.base_kind == "e":
        return None  # labels are transferred as text; a label that the target lacks is an error
    if source.base_name in _INTEGERS and target.base_name == "numeric" and _rounds_integers(target):
        return f"{source.formatted} to {target.formatted} would round"
    if (source.base_name, target.base_name) in _LOSSLESS:
        return None
    if source.base_name in STRINGS and target.base_name in STRINGS:
        return None
    return f"{source.formatted} to {target.formatted} is not a lossless conversion"


def _narrowing(source: Column, target: Column) -> str | None:
    name = source.base_name.removeprefix("_")
    if name == "numeric" and target.typmod != -1:
        if source.typmod == -1 or _scale(source.typmod) > _scale(target.typmod):
            return f"{source.formatted} to {target.formatted} would round"
    if name in ("timestamp", "timestamptz", "time", "timetz", "interval") and target.typmod != -1:
        if source.typmod == -1 or (source.base_formatted != target.base_formatted and not _finer(source, target)):
            return f"{source.formatted} to {target.formatted} would round"
    return None


def _rounds_integers(target: Column) -> bool:
    return target.typmod != -1 and _scale(target.typmod) < 0


def _finer(source: Column, target: Column) -> bool:
    """Whether target has at least the fractional digits of source, for times; intervals must be equal."""
    return source.base_name != "interval" and source.typmod <= target.typmod


def _scale(typmod: int) -> int:
    # https://www.postgresql.org/docs/current/datatype-numeric.html: eleven bits, signed, since PostgreSQL 15
    return (((typmod - 4) & 0x7FF) ^ 1024) - 1024
