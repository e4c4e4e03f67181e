"""Whose code the mapping's expressions run: reading a view of ours runs its functions with our role's privileges.

A function's owner may replace it at any time, so the owner decides: a superuser, our own role or the owner of the
table is trusted, any other role only for a function that the mapping names under ``$trust_functions``. Functions are
judged by the OID that the server has resolved: a name means something else where an application's role may create
functions in a schema of the search path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture.errors import Refused
from confiture.plan.model import TablePlan, Trusted
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import TableRef

_NAMED = load("trust.sql")


@dataclass(frozen=True, slots=True)
class Untrusted:
    """A function that reading a view runs, though another role may replace it.

    :ivar view: whose reading runs it, as ``regclass`` prints it.
    :ivar function: its name with its argument types.
    :ivar owner: the role that owns it, quoted; ``trusted_owner`` owns the table.
    :ivar changed: the mapping trusts it, and it was redefined since the plan.
    """

    view: str
    function: str
    owner: str
    trusted_owner: str
    changed: bool

    def __str__(self) -> str:
        if self.changed:
            return f"runs {self.function}, which was redefined since the plan trusted it"
        return f"runs the function {self.function}, which role {self.owner} owns and may replace"

    @property
    def hint(self) -> str:
        """The ways out."""
        if self.changed:
            return "review the function, then plan the table again with --restart-table"
        name = self.function.replace("'", "''")
        return (
            "if another function was meant, write its schema before its name; else review the function and name it in"
            f" the mapping, $trust_functions: ['{name}'], or run:"
            f" ALTER FUNCTION {self.function} OWNER TO {self.trusted_owner}"
        )


def resolve(tx: Transaction, names: Sequence[str], side: str) -> tuple[Trusted, ...]:
    """The functions that the mapping trusts, as this database has them now; those that it lacks are left out.

    Argument types outside pg_catalog carry their schema.
    """
    found = []
    with _plain(tx):
        for name in names:
            with suppress(psycopg.Error), tx.pg.transaction():  # it may be no function's name at all
                row = tx.pg.execute(_NAMED["named"], {"name": name}).fetchone()
                if row is not None:
                    found.append(Trusted(side, name, *row))
    return tuple(found)


@contextmanager
def _plain(tx: Transaction) -> Iterator[None]:
    """Names are pg_catalog's in the block: the session's own search_path is what an application may have prepared."""
    with tx.pg.transaction(force_rollback=True):
        tx.pg.execute("SET LOCAL search_path = pg_catalog")
        yield


def untrusted(
    tx: Transaction, views: Sequence[tuple[sql.Identifier, TableRef]], trusted: Sequence[Trusted]
) -> list[Untrusted]:
    """What reading these views runs without our trust.

    :param views: each with the table that it reads.
    :param trusted: the functions of this side that the mapping names.
    """
    known = {t.oid: t.digest for t in trusted}
    values = {
        "views": [view.as_string(tx.pg) for view, _ in views],
        "tables": [table.identifier.as_string(tx.pg) for _, table in views],
    }
    with _plain(tx):
        rows = tx.pg.execute(_NAMED["untrusted"], values).fetchall()
    return [
        Untrusted(view, function, owner, trusted_owner, changed=oid in known)
        for view, oid, function, owner, trusted_owner, digest in rows
        if known.get(oid) != digest
    ]


def refuse(tx: Transaction, schema: str, tables: Sequence[TablePlan], trusted: Sequence[Trusted], side: str) -> None:
    """Judge the run's views of these tables, in the transaction that has created them.

    :raises Refused: naming each function, its owner and the ways out.
    """
    views = [(sql.Identifier(schema, t.view), t.source) for t in tables]
    found = untrusted(tx, views, [t for t in trusted if t.side == side])
    if found:
        raise Refused(
            f"a view of the {side} would run code of another role",
            why="\n".join(dict.fromkeys(f"{u.view} {u}" for u in found)),
            fix=found[0].hint,
        )
