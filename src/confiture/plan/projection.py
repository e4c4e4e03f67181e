"""The SELECT of a target table: the types it casts to, and how its values are compared. No I/O.

Every read of a source row uses this SELECT (docs/invariants.md, I-1.1 and I-1.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from confiture.catalog_model import Column
from confiture.types import TableRef

#: Prefix of the key columns in the view, which has them in addition to the target's columns.
KEY_PREFIX = "confiture_key_"

#: An explicit cast to one of these types with a length truncates silently, so the cast has no length (I-9.7).
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

#: Scalar types whose binary form is the same on every supported server (I-9.6). Not interval: what PostgreSQL 17 sends
#: for infinity is a finite interval for older servers.
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

#: Types that are hashed without a conversion (docs/invariants.md, I-6.3).
_AS_IS = {"bool", "int2", "int4", "uuid", "bytea", "date"}
#: Types that are hashed in their binary form, by their send function. All other types are hashed as text.
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

    :ivar target: the target column.
    :ivar expression: SQL over the source row, as the operator wrote it; for a rename the quoted column.
    :ivar source: the source column if this is a plain rename, else None.
    :ivar wire: the type that the SELECT casts to, as SQL.
    :ivar cast_in: the type that the target casts a text to; None if no cast is needed.
    :ivar canon: the form that is compared: ``as_is``, ``text``, ``collated``, or the name of a send function.
    :ivar binary: whether its binary form is the same on both servers.
    :ivar reads: the source columns that the expression reads.
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
    """The type that the SELECT casts to, and the type that the target casts it to (None: no cast).

    A user-defined type of the target (enum, composite, extension) may not exist on the source, so its values are
    transferred as text.
    """
    builtin = column.base_schema == "pg_catalog" and column.base_builtin
    if not builtin or column.base_name.lstrip("_").startswith("reg"):
        return "text", column.formatted
    return _LENGTH_TYPES.get(column.base_name, column.base_formatted), None


def canon(column: Column) -> str:
    """The form in which values of the column are compared. It depends on the wire type only."""
    if wire_type(column)[1] is not None:
        return "text"
    if column.base_name in _AS_IS:
        return "as_is"
    if column.base_name in _TEXT:
        return "collated"
    return _BY_SEND.get(column.base_name, "text")


def is_binary(column: Column) -> bool:
    """Whether the binary form of the column's values is the same on both servers."""
    name = column.base_name.removeprefix("_")
    return wire_type(column)[1] is None and name in _BINARY


def raw(text: str) -> sql.SQL:
    """SQL text that the operator wrote or the server printed."""
    return sql.SQL(text)


def view_select(
    source: TableRef,
    only: bool,
    key: Sequence[str],
    projected: Sequence[Projected],
    where: str | None,
    *,
    percent: float | None = None,
) -> sql.Composed:
    """The SELECT of a target table over its source table; the key columns come first.

    The line breaks around the operator's expressions end a trailing comment in them.

    :param percent: of the table's pages, chosen at random; None for all of them.
    """
    items = [
        sql.SQL("{} AS {}").format(sql.Identifier(source.name, name), sql.Identifier(f"{KEY_PREFIX}{i}"))
        for i, name in enumerate(key, 1)
    ]
    items += [
        sql.SQL("(\n{}\n)::{} AS {}").format(raw(p.expression), raw(p.wire), sql.Identifier(p.target))
        for p in projected
    ]
    query = sql.SQL("SELECT {} FROM {}{}{}").format(
        sql.SQL(", ").join(items),
        sql.SQL("ONLY " if only else ""),
        source.identifier,
        sql.SQL("" if percent is None else " TABLESAMPLE SYSTEM ({})").format(sql.Literal(percent)),
    )
    if where is None:
        return query
    return query + sql.SQL(" WHERE (\n{}\n)").format(raw(where))


#: Wire types with a collation.
_COLLATED = {"text", "character varying", "bpchar", "name"}


def same_key(left: sql.Composable, right: sql.Composable, p: Projected) -> sql.Composed:
    """A predicate: two values of a key's image are equal, byte by byte. The first comparison can use an index.

    The plan accepts no key with a nondeterministic collation, but a column may get one after the plan.
    """
    test = sql.SQL("{} = {}").format(left, right)
    if p.cast_in is None and p.wire in _COLLATED:
        test += sql.SQL(' AND {} COLLATE "C" = {} COLLATE "C"').format(left, right)
    return test


def comparable(value: sql.Composable, p: Projected, *, recode: bool) -> sql.Composed:
    """``value``, of type ``p.wire``, converted to the form that is hashed and compared.

    :param recode: whether the encodings of the databases differ; text is then compared as UTF-8 bytes.
    """
    if p.canon == "as_is":
        return sql.Composed([value])
    if p.canon in ("text", "collated"):
        text = sql.SQL("({})::text").format(value)
        if recode:
            return sql.SQL("convert_to({}, 'UTF8')").format(text)
        return sql.SQL('{} COLLATE "C"').format(text)
    return sql.SQL("{}({})").format(raw(p.canon), value)
