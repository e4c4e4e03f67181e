"""Runs the DDL in a transaction that is rolled back, and describes the database before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from confiture import build
from confiture.build import DdlFile
from confiture.catalog_differences.describe import describe
from confiture.catalog_differences.model import Description
from confiture.config import Database
from confiture.errors import DataFailure
from confiture.postgres.connection import only_row
from confiture.postgres.profile import PROFILE, profile_sql
from confiture.postgres.session import Session, Transaction


@dataclass(frozen=True, slots=True)
class DescribedDdl:
    """The description of a database that the DDL builds.

    :ivar empty: the database before the DDL ran in it.
    :ivar built: the database after that.
    :ivar builder: the role that ran the DDL.
    """

    empty: Description
    built: Description
    builder: str


def describe_ddl(database: Database, files: Sequence[DdlFile]) -> DescribedDdl:
    """Describe a database that the files build, in an empty database.

    Nothing of it is durable: the transaction is rolled back, with what the DDL does to roles and to other objects of
    the whole server. Statements that create a role which exists are left out, because roles belong to the server.

    :param database: an empty database, with the ``search_path`` of the environment.
    :raises FaultyInput: as :func:`confiture.build.apply`.
    :raises ConfitureError: a statement failed, with its position.
    """
    with Session(database, "check", user_sql=True) as session, session.rehearsal() as tx:
        empty = _described(tx)
        role = str(only_row(tx.pg.execute("SELECT current_user"))[0])
        path = sql.SQL(", ").join(map(sql.Identifier, database.search_path or ("pg_catalog",)))
        tx.pg.execute(sql.SQL("SET LOCAL search_path = {}").format(path))
        build.prepare(tx.pg)
        build.apply(tx.pg, files, skip_existing_roles=True)
        _check_constraints(tx)
        tx.pg.execute("RESET SESSION AUTHORIZATION; RESET ROLE")
        return DescribedDdl(empty, _described(tx), role)


def _described(tx: Transaction) -> Description:
    """The description by the profile, whatever the DDL has set."""
    tx.pg.execute(profile_sql(None, "", PROFILE["lock_timeout"]) + b"; SET LOCAL quote_all_identifiers = off")
    return describe(tx)


def _check_constraints(tx: Transaction) -> None:
    """Check what a build checks at its end.

    :raises DataFailure: rows that the DDL inserts violate a deferred constraint.
    """
    try:
        tx.pg.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.errors.IntegrityError as error:
        raise DataFailure(
            "the rows that the DDL inserts violate a deferred constraint",
            why=str(error.diag.message_primary),
            fix="correct the files: a build ends with the same error",
        ) from error
