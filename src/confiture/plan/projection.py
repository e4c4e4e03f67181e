"""The one SELECT of a target table: what it casts to, and how its values are compared.

Everything that reads a source row reads it through this SELECT (docs/invariants.md, I-1.1 and I-1.3). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from confiture.catalog import Column
from confiture.types import TableRef

#: Key columns stand in the view under these names, beside the target's columns.
KEY_PREFIX = "confiture_key_"

#: Casting explicitly to these with a length would cut silently, so the cast carries none (I-9.7).
_LENGTH_TYPES = {
    "varchar": "character varying",
    "bpchar": "bpchar",
    "bit": '"bit"',
    "varbit": "bit varying",
    "_varchar": "character varying[]",
    "_bpchar": "bpchar[]",
    "_bit": '"bit"[]',
    "_varbit": "bit varying[]",
}

#: Scalar types whose binary form is the same on every supported server (I-9.6).
_BINARY = {
    *(
        [
            "bool",
            "int2",
            "int4",
            "int8",
            "float4",
            "float8",
            "numeric",
            "text",
            "varchar",
            "bpchar",
            "name",
            "char",
            "bytea",
            "date",
            "time",
            "timetz",
        ]
    ),
    *(
        [
            "timestamp",
            "timestamptz",
            "interval",
            "uuid",
            "json",
            "jsonb",
            "inet",
            "cidr",
            "macaddr",
            "macaddr8",
            "bit",
            "varbit",
            "money",
            "oid",
        ]
    ),
    *(["point", "line", "lseg", "box", "path", "polygon", "circle", "tsvector"]),
    *(["int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"]),
}

#: How values are made comparable by hash (docs/invariants.md, I-6.3); everything else goes as text.
_AS_IS = {"bool", "int2", "int4", "uuid", "bytea", "date"}
_BY_SEND = {
    "int8": "int8send",
    "timestamp": "timestamp_send",
    "timestamptz": "timestamptz_send",
    "float4": "float4send",
    "float8": "float8send",
}
_TEXT = {"text", "varchar"}


@dataclass(frozen=True, slots=True)
class Projected:
    """One column of the SELECT.

    :ivar target: the column it fills.
    :ivar expression: SQL over the source row, as the operator wrote it; for a rename the quoted column.
    :ivar source: the source column when it is a plain rename, else None.
    :ivar wire: the type the SELECT casts to, as SQL.
    :ivar cast_in: what the target casts a wire text to; None where the types are the same.
    :ivar canon: how the value is made comparable: ``as_is``, ``text``, or a send function's name.
    :ivar binary: whether its binary form may travel.
    :ivar reverse: SQL over the target row that gives the source column ``reverse_column`` its value again.
    """

    target: str
    expression: str
    source: str | None
    wire: str
    cast_in: str | None
    canon: str
    binary: bool
    reads: tuple[str, ...] = ()
    reverse: str | None = None
    reverse_column: str | None = None


def wire_type(column: Column) -> tuple[str, str | None]:
    """The type the SELECT casts to, and what the target casts it in with (None: not at all).

    A type of the target's own (enum, composite, extension) may not exist on the source, so it
    travels as text.
    """
    builtin = column.base_schema == "pg_catalog" and column.base_builtin
    if not builtin or column.base_name.lstrip("_").startswith("reg"):
        return "text", column.formatted
    return _LENGTH_TYPES.get(column.base_name, column.base_formatted), None


def canon(column: Column) -> str:
    """How a column of this type is compared: by its wire type, never by the column's own."""
    if wire_type(column)[1] is not None:
        return "text"
    if column.base_name in _AS_IS:
        return "as_is"
    if column.base_name in _TEXT:
        return "collated"
    return _BY_SEND.get(column.base_name, "text")


def is_binary(column: Column) -> bool:
    """Whether its binary form is the same on both sides."""
    name = column.base_name.removeprefix("_")
    return wire_type(column)[1] is None and name in _BINARY


def raw(text: str) -> sql.SQL:
    """SQL that is the operator's own, or that the server printed for us."""
    return sql.SQL(text)


def view_select(
    source: TableRef, only: bool, key: Sequence[str], projected: Sequence[Projected], where: str | None
) -> sql.Composed:
    """The SELECT of a target table over its source table, the walk key leading.

    Line breaks around the operator's expressions keep a trailing comment from swallowing what follows.
    """
    items = [
        sql.SQL("{} AS {}").format(sql.Identifier(source.name, name), sql.Identifier(f"{KEY_PREFIX}{i}"))
        for i, name in enumerate(key, 1)
    ]
    items += [
        sql.SQL("(\n{}\n)::{} AS {}").format(raw(p.expression), raw(p.wire), sql.Identifier(p.target))
        for p in projected
    ]
    query = sql.SQL("SELECT {} FROM {}{}").format(
        sql.SQL(", ").join(items),
        sql.SQL("ONLY " if only else ""),
        source.identifier,
    )
    if where is None:
        return query
    return query + sql.SQL(" WHERE (\n{}\n)").format(raw(where))


#: Wire types that a collation compares.
_COLLATED = {"text", "character varying", "bpchar", "name"}


def same_key(left: sql.Composable, right: sql.Composable, p: Projected) -> sql.Composed:
    """Two values of a key's image are the same, byte by byte; the first comparison is the one an index answers.

    The plan takes no key whose collation finds different bytes equal, but a collation may come later.
    """
    test = sql.SQL("{} = {}").format(left, right)
    if p.cast_in is None and p.wire in _COLLATED:
        test += sql.SQL(' AND {} COLLATE "C" = {} COLLATE "C"').format(left, right)
    return test


def comparable(value: sql.Composable, p: Projected, *, recode: bool) -> sql.Composed:
    """``value``, of type ``p.wire``, in the form that is hashed and compared.

    :param recode: the servers' encodings differ, so text is compared as UTF-8 bytes.
    """
    if p.canon == "as_is":
        return sql.Composed([value])
    if p.canon in ("text", "collated"):
        text = sql.SQL("({})::text").format(value)
        if recode:
            return sql.SQL("convert_to({}, 'UTF8')").format(text)
        return sql.SQL('{} COLLATE "C"').format(text)
    return sql.SQL("{}({})").format(raw(p.canon), value)
