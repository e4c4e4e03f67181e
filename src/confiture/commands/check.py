"""``build --check``: a comparison of a database with its DDL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import IsolationLevel

from confiture import build as ddl_files
from confiture import catalog
from confiture.catalog_differences.compare import differences, stated_by_ddl, without_names
from confiture.catalog_differences.describe import describe
from confiture.catalog_differences.model import COLUMN_ORDER, Description, Difference, without_properties
from confiture.catalog_model import Identity
from confiture.commands import build
from confiture.commands.driver_errors import translated
from confiture.config import Database
from confiture.errors import DifferencesFound
from confiture.postgres.session import Session
from confiture.scratch_build import embedded_server, place
from confiture.scratch_build.embedded_server import Roles
from confiture.scratch_build.place import Scratch
from confiture.scratch_build.stated import stated_properties
from confiture.types import counted

#: How often the catalogs are read again when another session drops an object while it is described.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Checked:
    """A comparison of a database with its DDL.

    :ivar database: as it was named; ``version``: the major version of its server.
    :ivar objects: the number of objects that the DDL builds.
    """

    database: str
    version: int
    scratch: Scratch
    digest: str
    objects: int
    differences: tuple[Difference, ...]


def check(name: str, project: Path, *, scratch: str | None, ignore: Sequence[str], column_order: bool) -> Checked:
    """Compare the catalog of a database with the one that its DDL builds. Nothing in the database changes.

    :param scratch: the name of a scratch database beside it, in which the DDL is built; None to choose the place.
    :param ignore: patterns of names of objects that are not compared, as in a shell.
    :param column_order: whether tables with the same columns in another order differ.
    :raises UsageError: when no database is named.
    :raises ConfitureError: the DDL cannot be built, or there is no place to build it.
    """
    database = build.named(name, project, "--check compares the database of an environment with its DDL")
    files = build.files_of(database, project)
    with translated("the comparison with the DDL"):
        like, known, found = _described(database)
        where, ddl_of = place.build_and_describe(database, like, known, files, scratch)
    stated = stated_properties(ddl_files.statements(files))
    built, live = stated_by_ddl(ddl_of.empty, ddl_of.built, found, ddl_of.builder, stated)
    left = frozenset() if column_order else frozenset((COLUMN_ORDER,))
    built, live = (without_properties(without_names(d, tuple(ignore)), left) for d in (built, live))
    return Checked(database.name, like.major, where, ddl_files.digest(files), len(built), differences(built, live))


def _described(database: Database) -> tuple[Identity, Roles, Description]:
    """The identity, the roles and the description of the database, of one snapshot."""
    with Session(database, "check") as session:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx:
                    tx.pg.execute("SET LOCAL quote_all_identifiers = off")
                    return catalog.identity(tx), embedded_server.roles(tx), describe(tx)
            except (psycopg.errors.InternalError_, psycopg.errors.UndefinedObject, psycopg.errors.UndefinedTable):
                # Functions such as pg_get_viewdef read the current catalogs, in which the object no longer exists.
                if attempt == _ATTEMPTS:
                    raise
    raise AssertionError("each attempt returns or raises")


def differences_found(checked: Checked) -> DifferencesFound:
    """The error of a comparison that found differences."""
    return DifferencesFound(
        f"{checked.database} differs from its DDL",
        why=f"{counted(len(checked.differences), 'object')} differ",
        fix="change the database or the DDL; --ignore NAME leaves out objects that the DDL does not contain",
    )
