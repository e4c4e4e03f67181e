"""The columns whose contents look personal: conditions that the source evaluates over a sample of each table.

The source returns how many values satisfy each condition, and no value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture.catalog_model import Column, Table
from confiture.masking.expressions import entries
from confiture.masking.families import Family, family
from confiture.masking.model import Kind, Rule
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.sql import template
from confiture.types import counted

#: Rows of a sample at most, and the time that its statement may take.
ROWS, TIMEOUT = 1000, "10s"
#: Rows from which a table is sampled at random, and the rows in the pages that are then read.
RANDOM_FROM, RANDOM_ROWS = 20_000, 10_000
#: Columns of one statement, whose result has several columns for each.
COLUMNS = 10
#: Rare values of a free text: so many values, or this share of them.
RARE_VALUES, RARE_SHARE = 3, 0.05
#: The ``typtype`` of enums, whose labels are part of the schema.
_ENUM = "e"


@dataclass(frozen=True, slots=True)
class Check:
    """One condition.

    :ivar block: its name in ``sql/masking_sample.sql``.
    :ivar label: the values that satisfy it, in a message.
    :ivar share: of the values, the least that must satisfy it; None for :data:`RARE_VALUES` or :data:`RARE_SHARE`.
    :ivar among: a weaker condition: half of the values that satisfy it must satisfy this one.
    :ivar distinct: the least number of different values.
    :ivar documents: whether it applies to documents and arrays; ``numbers``: whether to long numbers.
    """

    block: str
    label: str
    rules: tuple[Rule, ...]
    share: float | None = None
    among: str | None = None
    distinct: int = 0
    documents: bool = False
    numbers: bool = False


_HASH, _TEXT = Rule(Kind.HASH), Rule(Kind.TEXT)
CHECKS = (
    Check("email_alone", "e-mail addresses", (Rule(Kind.EMAIL), _HASH), share=0.5),
    Check("email", "texts with an e-mail address", (_TEXT,), documents=True),
    Check("ssn", "social security numbers", (_HASH,), share=0.5),
    Check("phone", "telephone numbers", (Rule(Kind.PHONE), _HASH), share=0.3),
    Check("phone_inside", "texts with a telephone number", (_TEXT,), documents=True),
    Check("iban", "IBANs", (_HASH,), among="iban_like", documents=True),
    Check("card", "numbers of payment cards", (_HASH,), among="card_like", documents=True, numbers=True),
    Check("ip", "network addresses", (_HASH,), share=0.5),
    Check("named", "first names", (Rule(Kind.NAME), _HASH), share=0.25, distinct=5),
    Check("keys", "documents with keys of personal values", (_TEXT,), documents=True),
)
#: An inet column has the addresses of clients more often than those of servers.
INET = Check("", "network addresses", (_HASH,))


@dataclass(frozen=True, slots=True)
class Found:
    """The first condition that enough values of a column satisfy, and their share as text."""

    column: Column
    check: Check
    why: str


def sampled(tx: Transaction, table: Table, columns: Sequence[Column]) -> tuple[Found, ...] | None:
    """The columns whose contents look personal; None if the table could not be sampled.

    :param tx: a transaction of the source, whose settings are as before at the end.
    :param columns: of the table; those of other types are left out.
    """
    found: list[Found] = []
    chosen = [column for column in columns if any(_applicable(column))]
    for some in (chosen[n : n + COLUMNS] for n in range(0, len(chosen), COLUMNS)):
        try:
            counts = _counted(tx, table, some)
        except (psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege, psycopg.DataError):
            return None
        found += [judged for column in some if (judged := _judged(column, counts[column.name])) is not None]
    return tuple(found)


def _applicable(column: Column) -> Iterator[Check]:
    kind, name = family(column), column.base_name
    if kind is Family.ADDRESS and name == "inet":
        yield INET
    # Arrays, composite types, hstore, tsvector and types of extensions may hold any text.
    document = kind is Family.JSON or (kind is Family.OTHER and column.base_kind != _ENUM)
    for check in CHECKS:
        if kind is Family.STRING or (document and check.documents) or (check.numbers and name in ("int8", "numeric")):
            yield check


def _counted(tx: Transaction, table: Table, columns: Sequence[Column]) -> dict[str, dict[str, int]]:
    """The counts of each condition by column; ``values`` is the number of values."""
    labels: list[tuple[str, str]] = []
    counts: list[sql.Composable] = []
    values: list[sql.Composable] = []
    for number, column in enumerate(columns):
        alias = sql.Identifier(f"v{number}")
        values.append(_block("value", column=sql.Identifier(column.name), alias=alias))
        for name, count in _counts(column, sql.SQL("s.{}").format(alias)):
            labels.append((column.name, name))
            counts.append(count)
    random = table.kind in ("r", "p") and table.estimated_rows >= RANDOM_FROM
    percent = min(100.0, 100 * RANDOM_ROWS / max(table.estimated_rows, 1))
    only = sql.SQL("ONLY " if table.only else "")
    query = _block(
        "sample",
        counts=sql.SQL(", ").join(counts),
        values=sql.SQL(", ").join(values),
        table=only + table.ref.identifier,
        sampled=sql.SQL(f" TABLESAMPLE SYSTEM ({percent:.6f})" if random else ""),
        rows=sql.Literal(ROWS),
    )
    with tx.pg.transaction():
        tx.pg.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(TIMEOUT)))
        row = only_row(tx.pg.execute(query))
        raise psycopg.Rollback()
    result: dict[str, dict[str, int]] = {column.name: {} for column in columns}
    for (name, label), count in zip(labels, row, strict=True):
        result[name][label] = count
    return result


def _counts(column: Column, v: sql.Composable) -> Iterator[tuple[str, sql.Composable]]:
    yield "values", _block("values", v=v)
    for check in _applicable(column):
        for block in (check.block, check.among):
            if block:
                yield block, _block("matching", condition=_condition(block, v))
        if check.distinct:
            condition = _condition(check.block, v)
            yield f"{check.block} distinct", _block("named_distinct", v=v, condition=condition)


def _condition(block: str, v: sql.Composable) -> sql.Composable:
    names = sql.Literal("{" + ",".join(entries("first_names")) + "}")
    return _block(block, v=v, **({"names": names} if block == "named" else {}))


def _judged(column: Column, counts: dict[str, int]) -> Found | None:
    values = counts["values"]
    for check in _applicable(column):
        hits = counts[check.block] if check.block else values
        if values and hits and _is_enough(check, hits, values, counts):
            return Found(column, check, f"{check.label} in {hits:,} of {counted(values, 'sampled value')}")
    return None


def _is_enough(check: Check, hits: int, values: int, counts: dict[str, int]) -> bool:
    if check.share is not None:
        enough = hits >= check.share * values
    else:
        enough = hits >= RARE_VALUES or hits >= RARE_SHARE * values
    if check.among is not None:
        enough = enough and 2 * hits >= counts[check.among]
    return enough and counts.get(f"{check.block} distinct", check.distinct) >= check.distinct


def _block(name: str, **holes: sql.Composable) -> sql.Composed:
    return template("masking_sample.sql", name).format(**holes)
