"""One foreign key between planned tables, and how the source compares the values that the target has of it. No I/O.

The values are those of the target: masked, and printed by its types. A column that is copied as it is is compared
itself, so that the source can use its index. Any other is compared by the expression that gives the target its value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from confiture.catalog_model import Catalog, Column, ForeignKey
from confiture.copy.run_table import RunTable
from confiture.journal.model import DeferredForeignKey
from confiture.plan.projection import Projected, raw, wire_type
from confiture.types import KeyOperator, TableRef

#: The values of some columns of a row, printed by the target.
Values = tuple[str, ...]

_EQUAL = "OPERATOR(pg_catalog.=)"
#: The values that are looked up, as a relation, and one of its columns; no expression of a column names them.
_WANTED, _VALUE = "confiture_wanted", "confiture_value_{}"
#: Types that read each other's texts and are compared by the same index.
_INTEGERS = frozenset(("smallint", "integer", "bigint"))
_TEXTS = frozenset(("text", "character varying"))
_QUOTED_NAME = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True, slots=True)
class Compared:
    """One column on the source, as it is compared with values of the target.

    :ivar value: SQL over the source row.
    :ivar operator: with the value on its left, and a value of ``type`` on its right.
    :ivar stored: whether the value is a column as it is stored.
    """

    value: sql.Composable
    operator: str
    type: str
    stored: bool

    @property
    def is_array(self) -> bool:
        """Whether the value is an array."""
        return self.type.endswith("[]")


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key of the target.

    :ivar child: the planned table that refers, of which ``key.table`` may be a partition.
    :ivar parent: the planned table that is referred to; None if the sync does not fill it.
    :ivar compared: the referenced columns on the source; empty without a parent.
    """

    key: DeferredForeignKey
    child: RunTable
    parent: RunTable | None
    compared: tuple[Compared, ...]

    @property
    def is_enforced(self) -> bool:
        """Whether no row may be without its parent: the key is declared neither NOT VALID nor NOT ENFORCED."""
        return self.key.validated

    @property
    def is_of_each_row(self) -> bool:
        """Whether the source gives each row of the table its values: it is no key of one partition, nor of defaults."""
        filled = {p.target for p in self.child.table.columns}
        return self.key.table == self.child.table.target and filled >= set(self.key.columns)

    def __str__(self) -> str:
        return f"foreign key {self.key.name} of {self.key.table}"


def references(
    keys: Iterable[DeferredForeignKey],
    jobs: Mapping[TableRef, RunTable],
    roots: Mapping[TableRef, TableRef],
    source: Catalog,
) -> tuple[Reference, ...]:
    """The foreign keys whose referring table is planned.

    :param jobs: by target table.
    :param roots: of each partition of the target, the table that it is part of.
    :param source: the catalog of the source, which decides how it compares.
    """
    known = {_ends(k): k for t in source.tables for k in t.foreign_keys}
    found = []
    for key in keys:
        child = jobs.get(roots.get(key.table, key.table))
        if child is not None:
            parent = jobs.get(roots.get(key.references, key.references))
            if parent is not None and not {p.target for p in parent.table.columns} >= set(key.ref_columns):
                parent = None
            by = () if parent is None else _compared_key(key, child, parent, known.get(_ends(key)), source)
            found.append(Reference(key, child, parent, by))
    return tuple(found)


def _ends(key: ForeignKey | DeferredForeignKey) -> tuple[object, ...]:
    return (key.table, key.columns, key.references, key.ref_columns)


def _compared_key(
    key: DeferredForeignKey,
    child: RunTable,
    parent: RunTable,
    own: ForeignKey | None,
    source: Catalog,
) -> tuple[Compared, ...]:
    """The referenced columns on the source, compared as its own foreign key does, where it has the same one."""
    operators: Sequence[KeyOperator | None] = own.operators if own else key.operators or [None] * len(key.columns)
    found = []
    for name, ref, operator in zip(key.columns, key.ref_columns, operators, strict=True):
        usable = operator if own or operator is None or _is_builtin(operator) else None
        found.append(compared(parent, source, ref, usable if _is_stored(child, source, name) else None))
    return tuple(found)


def _is_builtin(operator: KeyOperator) -> bool:
    names = (operator.operator.removeprefix("OPERATOR("), operator.left_type, operator.right_type)
    return all(name.startswith("pg_catalog.") for name in names)


def compared(job: RunTable, source: Catalog, name: str, operator: KeyOperator | None = None) -> Compared:
    """A column of the target on the source.

    :param operator: of a foreign key that references the column; None for equality.
    :raises KeyError: when the sync does not fill the column.
    """
    item = {p.target: p for p in job.table.columns}[name]
    column = _stored(job, source, item)
    if column is None or item.source is None:
        value = sql.SQL("(\n{}\n)::{}").format(raw(item.expression), raw(item.wire))
        return Compared(value, _EQUAL, item.wire, False)
    name_there = sql.Identifier(job.table.source.name, item.source)
    if operator is None:
        return Compared(name_there, _EQUAL, column.base_formatted, True)
    left, right = (_concrete(t, column) for t in (operator.left_type, operator.right_type))
    return Compared(sql.SQL("{}::{}").format(name_there, raw(left)), operator.operator, right, True)


def _concrete(type_name: str, column: Column) -> str:
    """A type that values can be cast to: an operator of enums or arrays is declared for a pseudo-type."""
    return column.base_formatted if re.match(r"pg_catalog\.(any|record)", type_name) else type_name


def _is_stored(job: RunTable, source: Catalog, name: str) -> bool:
    item = next((p for p in job.table.columns if p.target == name), None)
    return item is not None and _stored(job, source, item) is not None


def _stored(job: RunTable, source: Catalog, item: Projected) -> Column | None:
    """The column of the source that is copied as it is, and reads what the target prints; None for any other."""
    table = source.by_ref.get(job.table.source)
    column = table.column(item.source) if table is not None and item.source is not None else None
    if column is None or item.cast_in is not None:
        return column  # a type of its own reads the text of its values
    wires = {wire_type(column)[0], item.wire}
    return column if len(wires) == 1 or wires <= _INTEGERS or wires <= _TEXTS else None


def matching(columns: Sequence[Compared], values: Sequence[Values]) -> sql.Composed:
    """A condition: the columns of a source row have one of these values. The server builds a hash table of them."""
    if len(columns) == 1 and not columns[0].is_array:
        by = columns[0]
        return sql.SQL("{} {} ANY ({})").format(by.value, raw(by.operator), array((v for (v,) in values), by.type))
    names = [sql.Identifier(_VALUE.format(n)) for n, _ in enumerate(columns, 1)]
    # An array of arrays would be one array: such values are cast one by one.
    types = ["pg_catalog.text" if by.is_array else by.type for by in columns]
    tests = [
        sql.SQL("{} {} {}::{}").format(by.value, raw(by.operator), name, raw(by.type))
        for by, name in zip(columns, names, strict=True)
    ]
    return sql.SQL("EXISTS (SELECT FROM {} AS {}({}) WHERE {})").format(
        rows_from(array((v[n] for v in values), type_name) for n, type_name in enumerate(types)),
        sql.Identifier(_WANTED),
        sql.SQL(", ").join(names),
        sql.SQL(" AND ").join(tests),
    )


def rows_from(arrays: Iterable[sql.Composable]) -> sql.Composed:
    """Arrays of equal length as a relation with a column for each, for a FROM clause."""
    lists = sql.SQL(", ").join(sql.SQL("pg_catalog.unnest({})").format(a) for a in arrays)
    return sql.SQL("ROWS FROM ({})").format(lists)


def array(values: Iterable[str], type_name: str) -> sql.Composed:
    """A literal array of a type; a constant, unlike a cast of another array."""
    inside = ",".join('"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
    return sql.SQL("{}::{}[]").format(sql.Literal("{" + inside + "}"), raw(type_name))


def is_match_full(key: DeferredForeignKey) -> bool:
    """Whether a row with some NULLs among the key's columns violates it."""
    return "MATCH FULL" in _QUOTED_NAME.sub("", key.definition)
