"""The proof that no clear value is in the result: its values are looked up among those of the source, by hash.

The target gives salted hashes of the masked values, and the source counts those that its own values have. So the source
sends a number and nothing else, and each server sees only its own values. A value that the rule itself produces, such
as a name of the list, proves nothing and is left out.

An SQL expression may give the value of another masked column, so that its values are looked up in all that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from confiture.catalog_model import Column, Table
from confiture.masking.expressions import entries
from confiture.masking.families import Family, family, is_citext, room
from confiture.masking.model import Kind, Mask, Masks, Rule
from confiture.masking.uniqueness import mentions
from confiture.sql import template
from confiture.types import ALL_PERCENT, TableRef

#: Rules with few values, which are compared with a regular expression.
_OF_LISTS = (Kind.NAME, Kind.ADDRESS, Kind.TEXT)
#: Bytes of a salt, which is random for each proof.
SALT_BYTES = 32
#: Of the distinct values of the result, the most in percent that may also occur in the source, and the reason.
NONE, BY_CHANCE = 0.0, 50.0


def allowed_percent(rule: Rule, column: Column) -> float | None:
    """Of the distinct values that are looked up, the most in percent that may also occur in the source.

    - 0 for values with many bits (``hash`` of text, ``email``, ``uuid``), and for rules whose own values are left out
      (``constant``, ``name``, ``address``, ``text``): any other value is a clear one.
    - 50 for values from a small range, which equal another person's clear value by chance (``phone``, a ``postcode``,
      ``hash`` of an integer or of a network address).
    - What the mask file permits, or 50, for an SQL expression, which may as well be the clear value.
    - 100, which no column exceeds, for ``number noise`` and ``date shift``: their values are as frequent in the source
      as in the result.
    - None, which is not checked: ``keep``, which is clear on purpose, and ``null``.
    """
    if rule.kind in (Kind.KEEP, Kind.NULL):
        return None
    if rule.kind is Kind.SQL:
        return BY_CHANCE if rule.leak_percent is None else rule.leak_percent
    if rule.kind in (Kind.NUMBER_NOISE, Kind.DATE_SHIFT):
        return ALL_PERCENT
    small = (Family.INTEGER, Family.ADDRESS, Family.MAC_ADDRESS)
    if rule.kind is Kind.PHONE or rule.part == "postcode" or (rule.kind is Kind.HASH and family(column) in small):
        return BY_CHANCE
    return NONE


def result_query(mask: Mask, column: Column) -> sql.Composed:
    """The hashes (``bytea``) of the distinct masked values, read in the target.

    :returns: a statement with the parameter ``salt``, of :data:`SALT_BYTES` random bytes.
    """
    block = "hashes_of_few_values" if mask.rule.kind in _OF_LISTS else "result_hashes"
    return template("masking.sql", block).format(
        hash=_hash(column, column),
        column=_escaped(sql.Identifier(column.name)),
        table=_escaped(mask.table.identifier),
        made=_escaped(_made(mask, column)),
    )


def looked_up_in(mask: Mask, column: Column, source: Table, masks: Masks) -> tuple[Column, ...]:
    """The columns of the source whose clear values may be in a masked column: itself, and what its expression names.

    :param column: of the target.
    """
    if mask.rule.sql is None:
        return (column,)
    others = (c for c in source.columns if c.name != column.name and mentions(mask.rule.sql, c.name))
    rules = masks.of(source.ref)
    return (column, *(c for c in others if c.name in rules and rules[c.name].is_masked))


def source_query(table: TableRef, columns: Sequence[Column]) -> sql.Composed:
    """The number of the given hashes that values of the source have.

    :param columns: from :func:`looked_up_in`.
    :returns: a statement with the parameters ``salt`` and ``hashes``, an array of ``bytea`` from :func:`result_query`.
    """
    values = sql.SQL("\nUNION ALL\n").join(values_query(table, column, columns[0]) for column in columns)
    return template("masking.sql", "source_hashes").format(values=values)


def values_query(table: TableRef, column: Column, masked: Column) -> sql.Composed:
    """The hashes (``bytea``) of the values of a column, equal ones repeated, read in the source.

    :param masked: the column whose values are looked up, which decides whether letters differ by their case.
    :returns: a statement that ends with its condition, to which a range of keys can be added; with the parameter
        ``salt``.
    """
    return template("masking.sql", "hashes_of_values").format(
        hash=_hash(column, masked), column=_escaped(sql.Identifier(column.name)), table=_escaped(table.identifier)
    )


def _hash(column: Column, masked: Column) -> sql.Composed:
    return template("masking.sql", "salted").format(value=_escaped(_text(column, masked)))


def _escaped(part: sql.Composable) -> sql.SQL:
    """A part of a statement with parameters, where a percent sign is doubled."""
    return sql.SQL(part.as_string(None).replace("%", "%%"))


def _text(column: Column, masked: Column) -> sql.Composable:
    text = sql.SQL("{}::pg_catalog.text").format(sql.Identifier(column.name))
    if column.base_name == "numeric" and column.base_builtin:
        return sql.SQL("pg_catalog.trim_scale({})::pg_catalog.text").format(sql.Identifier(column.name))
    return sql.SQL("pg_catalog.lower({})").format(text) if is_citext(masked) else text


def _made(mask: Mask, column: Column) -> sql.Composable:
    """A condition: the rule produces this value whatever the clear value is."""
    rule, text = mask.rule, sql.SQL("{}::pg_catalog.text").format(sql.Identifier(column.name))
    empty = sql.SQL("{} = ''").format(text)
    if rule.kind is Kind.CONSTANT:
        # As texts, because json has no equality.
        return sql.SQL("{} = ({}::{})::pg_catalog.text").format(
            text, sql.Literal(rule.value), sql.SQL(column.formatted)
        )
    if rule.kind is Kind.TEXT:
        return template("masking.sql", "has_shape_only").format(value=text)
    if rule.kind is Kind.NAME or (rule.kind is Kind.ADDRESS and rule.part != "postcode"):
        return _is_listed(rule, column, text)
    return empty


def _is_listed(rule: Rule, column: Column, text: sql.Composable) -> sql.Composed:
    """The condition that a value consists of entries of the lists, or of their beginnings where the column is short."""
    is_cut = room(column).length is not None
    if rule.kind is Kind.NAME:
        first, last = (_array(name, is_cut) for name in ("first_names", "last_names"))
        if rule.part in ("first", "last"):
            return template("masking.sql", "is_entry").format(value=text, list=first if rule.part == "first" else last)
        return template("masking.sql", "is_full_name").format(value=text, first=first, last=last)
    streets, cities = (_array(name, is_cut) for name in ("streets", "cities"))
    if rule.part == "city":
        return template("masking.sql", "is_entry").format(value=text, list=cities)
    return template("masking.sql", "is_address").format(value=text, streets=streets, cities=cities)


def _array(name: str, is_cut: bool) -> sql.Literal:
    """A list as an array, with the empty text."""
    words = entries(name)
    found = (
        {"", *(word[:length].strip() for word in words for length in range(1, len(word) + 1))}
        if is_cut
        else {"", *words}
    )
    return sql.Literal("{" + ",".join(f'"{word}"' for word in sorted(found)) + "}")
