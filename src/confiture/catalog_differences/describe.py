"""Reads the catalogs of a database into a description, in the transaction of the caller.

https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

from collections import defaultdict

from psycopg.rows import dict_row

from confiture.catalog_differences.model import COMMENT, GRANTS, OWNER, DescribedObject, Description
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import Json

_SQL = "described.sql"
#: The beginning of each statement, and the statements that read properties of the objects of others.
_OWN, _OWNERS, _COMMENTS = "own", "owners", "comments"
#: The statements that depend on the version of the server, with those that they apply to.
_VERSIONS = {"published_before_15": range(150_000), "published": range(150_000, 10**9)}

#: The class of an object, its OID, and the number of a column or 0.
_Address = tuple[int, int, int]


def describe(tx: Transaction) -> Description:
    """Every object of the transaction's database, ordered by kind and name.

    Objects of the system, of extensions and of Confiture's own schemas are left out, as are rows, values of sequences,
    large objects and the settings of the database. Definitions are the texts that the server prints: two servers of
    different versions may print the same definition differently.

    :param tx: a transaction with the profile, whose search_path is ``pg_catalog``, so that every name is qualified. The
        description is consistent if it is REPEATABLE READ.
    """
    version = tx.pg.info.server_version
    stated = _stated(tx)
    objects: dict[tuple[str, str], tuple[tuple[str, str] | None, dict[str, str]]] = {}
    for block in load(_SQL):
        if block in (_OWN, _OWNERS, _COMMENTS) or version not in _VERSIONS.get(block, range(10**9)):
            continue
        for row in _rows(tx, block):
            of = None if row["of_kind"] is None else (row["of_kind"], row["of_name"])
            _, properties = objects.setdefault((row["kind"], row["name"]), (of, {}))
            properties.update(_texts(row["properties"]) | stated.get(_address(row), {}))
    return tuple(
        sorted(DescribedObject(*identity, of, tuple(sorted(p.items()))) for identity, (of, p) in objects.items())
    )


def _rows(tx: Transaction, block: str) -> list[Json]:
    texts = load(_SQL)
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(texts[_OWN] + b"\n" + texts[block]).fetchall()


def _address(row: Json) -> _Address:
    return row["class"], row["oid"], row["sub"]


def _texts(values: Json) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _stated(tx: Transaction) -> dict[_Address, dict[str, str]]:
    """Owner, privileges and comment of each object that has them, by its address."""
    stated: dict[_Address, dict[str, str]] = defaultdict(dict)
    for block in (_OWNERS, _COMMENTS):
        for row in _rows(tx, block):
            stated[_address(row)].update(_texts({name: row[name] for name in (OWNER, GRANTS, COMMENT)}))
    return stated
