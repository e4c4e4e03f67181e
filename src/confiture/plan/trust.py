"""The functions that the mapping's expressions call run with the privileges of Confiture's role.

The owner of a function may replace it at any time. Functions of a superuser, of Confiture's role and of the table's
owner are trusted. A function of any other role is trusted only if the mapping names it under ``$trust_functions``.
Functions are identified by the OID that the server has resolved, because a role that may create functions in a schema
of the search path can change the meaning of a name.
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
    """A function that a SELECT from a view calls, and that an untrusted role may replace.

    :ivar view: the view, as ``regclass`` prints it.
    :ivar function: its name with its argument types.
    :ivar owner: the role that owns it, quoted; ``trusted_owner`` owns the table.
    :ivar changed: the mapping trusts the function, but it was redefined since the plan.
    """

    view: str
    function: str
    owner: str
    trusted_owner: str
    changed: bool

    def __str__(self) -> str:
        if self.changed:
            return f"runs {self.function}, which was redefined after the plan trusted it"
        return f"runs the function {self.function}, which role {self.owner} owns and may replace"

    @property
    def hint(self) -> str:
        """How to proceed."""
        if self.changed:
            return "review the function, then plan the table again with --restart-table"
        name = self.function.replace("'", "''")
        return (
            "if another function is meant, qualify its name with its schema; otherwise review the function and add it"
            f" to the mapping, $trust_functions: ['{name}'], or run:"
            f" ALTER FUNCTION {self.function} OWNER TO {self.trusted_owner}"
        )


def resolve(tx: Transaction, names: Sequence[str], side: str) -> tuple[Trusted, ...]:
    """The functions that the mapping trusts, as this database defines them now, without those that do not exist.

    :param names: function names with argument types; types outside pg_catalog are schema-qualified.
    :param side: ``source`` or ``target``.
    """
    found = []
    with plain(tx):
        for name in names:
            with suppress(psycopg.Error), tx.pg.transaction():  # the text may not be the name of a function
                row = tx.pg.execute(_NAMED["named"], {"name": name}).fetchone()
                if row is not None:
                    found.append(Trusted(side, name, *row))
    return tuple(found)


@contextmanager
def plain(tx: Transaction) -> Iterator[None]:
    """Resolve names in pg_catalog only in the block: a role may have created functions in the session's search_path."""
    with tx.pg.transaction(force_rollback=True):
        tx.pg.execute("SET LOCAL search_path = pg_catalog")
        yield


def untrusted(
    tx: Transaction, views: Sequence[tuple[sql.Identifier, TableRef]], trusted: Sequence[Trusted]
) -> list[Untrusted]:
    """The untrusted functions that a SELECT from the views calls.

    :param views: each view with the table that it reads.
    :param trusted: the functions of this database that the mapping names.
    """
    known = {t.oid: t.digest for t in trusted}
    values = {
        "views": [view.as_string(tx.pg) for view, _ in views],
        "tables": [table.identifier.as_string(tx.pg) for _, table in views],
    }
    with plain(tx):
        rows = tx.pg.execute(_NAMED["untrusted"], values).fetchall()
    return [
        Untrusted(view, function, owner, trusted_owner, changed=oid in known)
        for view, oid, function, owner, trusted_owner, digest in rows
        if known.get(oid) != digest
    ]


def refuse(tx: Transaction, schema: str, tables: Sequence[TablePlan], trusted: Sequence[Trusted], side: str) -> None:
    """Check the views of these tables, in the transaction that created them.

    :raises Refused: a view calls untrusted functions; the error names each with its owner, and how to proceed.
    """
    views = [(sql.Identifier(schema, t.view), t.source) for t in tables]
    found = untrusted(tx, views, [t for t in trusted if t.side == side])
    if found:
        raise Refused(
            f"a view on the {side} would run code of another role",
            why="\n".join(dict.fromkeys(f"{u.view} {u}" for u in found)),
            fix=found[0].hint,
        )
