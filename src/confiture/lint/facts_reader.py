"""Reads the objects that files name from the catalog of a database."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from psycopg.rows import dict_row

from confiture.lint.facts import Check, Column, Dependent, Domain, Facts, Index, Table
from confiture.lint.model import Size
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import Json, TableRef

_WORD = re.compile(r'"((?:[^"]|"")+)"|([A-Za-z_\x80-\U0010ffff][\w$]*)')


def words(texts: Iterable[str]) -> list[str]:
    """Every name that may occur in files: their words in lower case, and what stands in double quotes."""
    found: set[str] = set()
    for text in texts:
        for quoted, plain in _WORD.findall(text):
            found.add(quoted.replace('""', '"') if quoted else plain.lower())
    return sorted(found)


def read(tx: Transaction, texts: Iterable[str], schemas: tuple[str, ...]) -> Facts:
    """The objects of a database that files name. The result is consistent if the transaction is REPEATABLE READ.

    :param texts: of the files.
    :param schemas: the search path of the files' statements.
    """
    named = words(texts)
    rows = _query(tx, "tables", words=named)
    oids = [row["oid"] for row in rows]
    columns, checks, dependents = (_grouped(tx, block, oids) for block in ("columns", "checks", "dependents"))
    tables = {
        TableRef(row["schema"], row["name"]): Table(
            TableRef(row["schema"], row["name"]),
            kind=row["kind"],
            size=Size(row["bytes"], row["rows"]),
            columns={c["name"]: Column(c["type"], c["not_null"]) for c in columns[row["oid"]]},
            checks=tuple(Check(**c) for c in checks[row["oid"]]),
            key=tuple(row["key"] or ()),
            partition_key=row["partition_key"],
            partitions=tuple(_partitions(rows, row, is_default=False)),
            default_partition=next(iter(_partitions(rows, row, is_default=True)), None),
            partition_of=TableRef(row["parent_schema"], row["parent_name"]) if row["parent_name"] else None,
            unique_index=row["unique_index"],
            policies=row["policies"],
            dependents=tuple(Dependent(**d) for d in dependents[row["oid"]]),
        )
        for row in rows
    }
    return Facts(
        version=tx.pg.info.server_version,
        schemas=schemas,
        tables=tables,
        indexes={
            TableRef(row["schema"], row["name"]): Index(
                TableRef(row["table_schema"], row["table_name"]), tuple(row["columns"] or ())
            )
            for row in _query(tx, "indexes", tables=oids)
        },
        functions={row["name"]: row["volatile"] for row in _query(tx, "functions", words=named)},
        domains={row["name"]: Domain(row["base"], row["constrained"]) for row in _query(tx, "domains")},
    )


def _partitions(rows: list[Json], parent: Json, *, is_default: bool) -> list[TableRef]:
    return [
        TableRef(row["schema"], row["name"])
        for row in rows
        if (row["parent_schema"], row["parent_name"]) == (parent["schema"], parent["name"])
        and row["is_default"] == is_default
    ]


def _query(tx: Transaction, block: str, **parameters: object) -> list[Json]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(load("lint.sql")[block].decode(), parameters or None).fetchall()


def _grouped(tx: Transaction, block: str, oids: list[int]) -> dict[int, list[Json]]:
    grouped: dict[int, list[Json]] = defaultdict(list)
    for row in _query(tx, block, tables=oids):
        grouped[row.pop("table_oid")].append(row)
    return grouped
