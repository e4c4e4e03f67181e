"""The columns whose values must stay different, and whether a rule can keep them so. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from confiture.catalog_model import Index, Table
from confiture.masking.expressions import Place, hash_bits
from confiture.masking.model import KEEPS_APART, Kind, Rule
from confiture.types import double_quoted, quoted

#: The chance that two of all values become equal is below 2 to the power of minus this.
SAFETY_BITS = 20
#: A table is treated as having at least so many rows.
ROWS_LEAST = 1000
#: A name in quotation marks, and what is between two of them.
_PARTS = re.compile(r'"(?:[^"]|"")*"|[^"]+')


def unique_indexes(table: Table, column: str) -> Iterator[Index]:
    """The unique indexes of the table and of its partitions that contain the column, also in an expression.

    An exclusion constraint, which may reject equal values as well, counts as one.
    """
    for index in (*table.indexes, *table.partition_indexes):
        rejects_equal = index.is_unique or (index.constraint_definition or "").startswith("EXCLUDE")
        if rejects_equal and (column in index.columns or (index.expressions and mentions(index.definition, column))):
            yield index


def mentions(text: str, column: str) -> bool:
    """Whether SQL may name a column. Names without quotation marks are in any letter case."""
    folded = _PARTS.sub(lambda part: part[0] if part[0].startswith('"') else part[0].lower(), text)
    called = re.escape(quoted(column)), re.escape(double_quoted(column))
    return re.search(rf"(?<![\w\"])(?:{'|'.join(called)})(?![\w\"])", folded) is not None


def needed_bits(table: Table) -> float:
    """The bits in which hashes of the table's values must differ, so that they stay different."""
    return 2 * math.log2(max(table.estimated_rows, ROWS_LEAST)) + SAFETY_BITS


def problem(rule: Rule, place: Place, table: Table, indexes: tuple[Index, ...]) -> tuple[str, str] | None:
    """Why the rule cannot keep the values of the column different, and a hint; None if it can, or need not.

    :param indexes: the unique indexes that contain the column.
    """
    if not indexes or rule.kind in (Kind.KEEP, Kind.SQL):
        return None
    index = indexes[0]
    if rule.kind is Kind.NULL:
        distinct = next((i for i in indexes if "NULLS NOT DISTINCT" in i.definition), None)
        return None if distinct is None else (f"NULL may occur once in the unique index {quoted(distinct.name)}", _HINT)
    if rule.kind not in KEEPS_APART:
        return f"{rule.kind} may give two rows the same value, and the index {quoted(index.name)} is unique", _HINT
    bits, needed = hash_bits(rule, place), needed_bits(table)
    if bits >= needed:
        return None
    message = (
        f"{rule.kind} gives values of {bits:.0f} bits; the unique index {quoted(index.name)} over about"
        f" {max(table.estimated_rows, ROWS_LEAST):,} rows needs {needed:.0f}"
    )
    return message, "make the column or the option length longer, or write an SQL expression"


_HINT = "hash, email and uuid keep different values different"
